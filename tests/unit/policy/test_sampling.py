"""What is drawn follows the warped distribution, and the stream is the sequence's own."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from policy.sampling import Warp, draw, uniforms, warped_logprobs

WARPS = st.builds(
    Warp,
    temperature=st.sampled_from([0.0, 0.3, 0.7, 1.0, 1.5]),
    top_p=st.sampled_from([0.1, 0.5, 0.9, 1.0]),
    top_k=st.sampled_from([0, 1, 3, 20]),
)
SEEDS = st.integers(0, 2**63 - 1)


def random_logits(rows: int, seed: int, vocabulary: int = 50) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed % 2**31)
    return torch.randn(rows, vocabulary, generator=generator) * 3


@given(SEEDS, st.integers(0, 64), st.integers(1, 20), st.integers(0, 20))
def test_a_stream_depends_on_its_seed_and_sample_only_and_not_on_its_length(
    seed: int, sample_index: int, short: int, more: int
) -> None:
    longer = uniforms(seed, sample_index, short + more)
    assert list(longer[:short]) == list(uniforms(seed, sample_index, short))
    assert ((longer >= 0) & (longer < 1)).all()


@given(SEEDS, st.integers(0, 30))
def test_neighbouring_samples_and_seeds_have_other_streams(seed: int, sample_index: int) -> None:
    one = uniforms(seed, sample_index, 4)
    assert (one != uniforms(seed, sample_index + 1, 4)).any()
    assert (one != uniforms(seed + 1, sample_index, 4)).any()


@given(st.lists(WARPS, min_size=2, max_size=6), SEEDS)
def test_a_row_draws_the_same_alone_and_among_others(warps: list[Warp], seed: int) -> None:
    logits = random_logits(len(warps), seed)
    numbers = torch.tensor([float(uniforms(seed, row, 1)[0]) for row in range(len(warps))])
    together = draw(logits, warps, numbers)
    for row, warp in enumerate(warps):
        alone = draw(logits[row : row + 1], [warp], numbers[row : row + 1])
        assert alone.ids_B[0] == together.ids_B[row]
        assert torch.equal(alone.raw_logprobs_B[0], together.raw_logprobs_B[row])
        assert torch.equal(alone.processed_logprobs_B[0], together.processed_logprobs_B[row])


@given(WARPS, SEEDS)
def test_a_warped_distribution_sums_to_one_and_keeps_the_order(warp: Warp, seed: int) -> None:
    raw = torch.log_softmax(random_logits(1, seed), dim=-1)
    warped = warped_logprobs(raw, [warp])
    assert warped.exp().sum().item() == pytest.approx(1.0, abs=1e-5)
    best_first = warped[0][raw[0].argsort(descending=True)]
    assert (best_first.diff().nan_to_num(0.0) <= 1e-5).all()


@given(st.sampled_from([0.1, 0.5, 0.9, 0.99]), SEEDS)
def test_top_p_keeps_the_smallest_set_of_that_mass(top_p: float, seed: int) -> None:
    raw = torch.log_softmax(random_logits(1, seed), dim=-1)
    kept = warped_logprobs(raw, [Warp(top_p=top_p)])[0].isfinite()
    masses = raw[0].exp()[kept].sort().values
    assert masses.sum() >= top_p - 1e-6
    assert masses[1:].sum() < top_p + 1e-6  # without its least likely member it is too small
    assert masses[0] >= raw[0].exp()[~kept].max() if (~kept).any() else True


@given(st.integers(1, 60), SEEDS)
def test_top_k_keeps_that_many_of_the_likeliest(top_k: int, seed: int) -> None:
    raw = torch.log_softmax(random_logits(1, seed), dim=-1)
    kept = warped_logprobs(raw, [Warp(top_k=top_k)])[0].isfinite()
    assert set(kept.nonzero()[:, 0].tolist()) == set(raw[0].topk(min(top_k, 50)).indices.tolist())


def test_greedy_takes_the_likeliest_and_reports_its_raw_logprob() -> None:
    logits = random_logits(3, 5)
    drawn = draw(logits, [Warp(temperature=0.0)] * 3, torch.tensor([0.0, 0.5, 0.999]))
    assert torch.equal(drawn.ids_B, logits.argmax(dim=-1))
    assert torch.equal(drawn.raw_logprobs_B, drawn.processed_logprobs_B)


def test_a_greedy_row_is_not_truncated_by_top_p() -> None:
    drawn = draw(random_logits(1, 1), [Warp(temperature=0.0, top_p=0.1)], torch.tensor([0.9]))
    assert torch.equal(drawn.raw_logprobs_B, drawn.processed_logprobs_B)


@pytest.mark.parametrize("warp", [Warp(), Warp(temperature=0.6), Warp(top_p=0.7), Warp(top_k=3)])
def test_evenly_spread_numbers_draw_each_token_as_often_as_it_is_likely(warp: Warp) -> None:
    logits, num_draws = random_logits(1, 3, vocabulary=8), 20_000
    numbers = (torch.arange(num_draws, dtype=torch.float64) + 0.5) / num_draws
    drawn = draw(logits.expand(num_draws, -1), [warp] * num_draws, numbers)
    shares = torch.bincount(drawn.ids_B, minlength=8) / num_draws
    expected = warped_logprobs(torch.log_softmax(logits, -1), [warp])[0].exp()
    assert torch.allclose(shares, expected, atol=2e-4)


def test_a_number_at_the_end_of_the_range_never_draws_an_impossible_token() -> None:
    logits = torch.zeros(2, 50_000)
    logits[:, 25_000:] = -torch.inf
    numbers = torch.tensor([1 - 2**-53, 1 - 2**-24], dtype=torch.float64)
    drawn = draw(logits, [Warp(), Warp()], numbers)
    assert (drawn.ids_B < 25_000).all()
    assert drawn.processed_logprobs_B.isfinite().all()
