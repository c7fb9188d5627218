"""Batches say where responses lie, whatever the lengths, and padding or keeping changes nothing."""

import random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_llama import add_random_adapter, tiny_model

from policy.language_model import LanguageModel, LoraSettings
from policy.logprobs import chosen_logprobs
from trainer.packing import MAX_TOKENS_PER_LINE, MAX_TOKENS_PER_PASS, Transcript
from trainer.transcripts import TranscriptSet, dealt, shuffled

SIZES = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=8)


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    model = tiny_model()
    add_random_adapter(model, "upper", 1, LoraSettings(rank=4, alpha=8, first_layer=2))
    return model


def transcripts(sizes: list[tuple[int, int]]) -> list[Transcript]:
    """Transcripts of these (prompt, response) lengths, in which no two ids are equal."""
    ids = iter(range(1, 257))
    return [
        Transcript(
            tuple(next(ids) for _ in range(prompt)), tuple(next(ids) for _ in range(response))
        )
        for prompt, response in sizes
    ]


def set_of(model: LanguageModel, sizes: list[tuple[int, int]]) -> TranscriptSet:
    return TranscriptSet(model, transcripts(sizes), model.shared_depth("upper"))


def response_logprobs(model: LanguageModel, data: TranscriptSet, rows: list[int]) -> torch.Tensor:
    batch = data.batch(rows)
    with torch.no_grad():
        hidden = batch.at_predictions(model.hidden(batch.trunk, "upper"))
        logprobs = chosen_logprobs(hidden, model.unembedding_VD, batch.response_ids_N)
    return batch.unflatten(logprobs)


@settings(max_examples=20)
@given(SIZES)
def test_indices_find_what_a_loop_over_positions_finds(
    model: LanguageModel, sizes: list[tuple[int, int]]
) -> None:
    data = set_of(model, sizes)
    batch = data.batch(range(len(sizes)))
    width = batch.trunk.is_token_BT.shape[1]
    # A "hidden state" that says which row and position it is of.
    places = torch.arange(len(sizes) * width).view(len(sizes), width, 1)
    before, last = [], []
    for row, (prompt, response) in enumerate(sizes):
        before += [row * width + prompt + i - 1 for i in range(response)]
        last.append(row * width + prompt + response - 1)
    assert batch.at_predictions(places)[:, 0].tolist() == before
    assert batch.at_last(places)[:, 0].tolist() == last
    every_id = [token for each in data.transcripts for token in each.response_ids]
    assert batch.response_ids_N.tolist() == every_id
    assert batch.is_response_BR.sum(dim=1).tolist() == [response for _, response in sizes]


@settings(max_examples=20)
@given(SIZES)
def test_values_are_laid_out_row_by_row_with_zeros_behind_them(
    model: LanguageModel, sizes: list[tuple[int, int]]
) -> None:
    batch = set_of(model, sizes).batch(range(len(sizes)))
    values = torch.arange(1.0, 1 + len(batch.before_N), requires_grad=True)
    laid = batch.unflatten(values)
    numbers = iter(values.tolist())
    for row, (_, response) in enumerate(sizes):
        assert laid[row, :response].tolist() == [next(numbers) for _ in range(response)]
        assert not laid[row, response:].any()
    (laid * 3).sum().backward()
    assert values.grad is not None
    assert (values.grad == 3).all()


@given(
    st.lists(st.tuples(st.integers(1, 700), st.integers(1, 700)), min_size=1, max_size=12),
    st.randoms(use_true_random=False),
)
def test_every_row_is_in_one_batch_and_a_batch_fits_one_pass(
    sizes: list[tuple[int, int]], source: random.Random
) -> None:
    data = _Unread([Transcript((1,) * prompt, (2,) * response) for prompt, response in sizes])
    rows = shuffled(len(sizes), source.randint(0, 99))[: max(1, len(sizes) - 2)]
    groups = list(data.batches(rows))
    assert sorted(row for lines in groups for line in lines for row in line.rows) == sorted(rows)
    for lines in groups:
        padded = len(lines) * max(len(line.ids) for line in lines)
        # One transcript alone may be longer than a pass: it cannot be divided.
        assert len(lines) == 1 or padded <= MAX_TOKENS_PER_PASS
        for line in lines:
            assert len({data.transcripts[row].prompt_ids for row in line.rows}) == 1
            assert len(line.rows) == 1 or len(line.ids) <= MAX_TOKENS_PER_LINE


class _Unread(TranscriptSet):
    """Transcripts of which only the grouping matters: a batch is its lines."""

    def __init__(self, transcripts: list[Transcript]) -> None:
        self.transcripts = transcripts

    def _build(self, rows: list[int], lines: list[Any]) -> list[Any]:  # type: ignore[override]
        assert [row for line in lines for row in line.rows] == rows
        return lines


def test_answers_that_share_a_prompt_and_a_row_are_as_they_are_alone(
    model: LanguageModel,
) -> None:
    """Two prompts, three answers and two, one long one by itself; freshly computed and kept."""
    prompts = [(5, 6, 7, 8), (9, 10), (11,)]
    chosen = [(0, 3), (1, 5), (0, 1), (2, 20), (1, 2), (0, 6)]
    ids = iter(range(20, 256))
    given_ = [Transcript(prompts[p], tuple(next(ids) for _ in range(n))) for p, n in chosen]
    data = TranscriptSet(model, given_, model.shared_depth("upper"))
    rows = [4, 0, 3, 5, 1, 2]
    assert data.batch(rows).trunk.hidden_BTD.shape[0] == len(prompts)
    for _ in ("fresh", "kept"):
        together = response_logprobs(model, data, rows)
        for place, row in enumerate(rows):
            one = TranscriptSet(model, [given_[row]], model.shared_depth("upper"))
            alone = response_logprobs(model, one, [0])
            torch.testing.assert_close(together[place, : chosen[row][1]], alone[0])


def test_what_was_kept_is_what_a_fresh_pass_gives(model: LanguageModel) -> None:
    sizes = [(3, 2), (1, 6), (4, 4)]
    data = set_of(model, sizes)
    fresh = data.batch([0, 1, 2]).trunk
    kept = data.batch([2, 0]).trunk
    for row, again in ((2, 0), (0, 1)):
        length = sum(sizes[row])
        assert torch.equal(kept.hidden_BTD[again, :length], fresh.hidden_BTD[row, :length])
    logprobs = response_logprobs(model, data, [2, 0])
    alone = response_logprobs(model, set_of(model, sizes), [2, 0])
    torch.testing.assert_close(logprobs, alone)


def test_a_neighbour_that_needs_padding_changes_no_log_probability(model: LanguageModel) -> None:
    sizes = [(3, 2), (30, 25), (2, 1)]
    together = response_logprobs(model, set_of(model, sizes), [0, 1, 2])
    for row, (_, response) in enumerate(sizes):
        alone = response_logprobs(model, set_of(model, sizes), [row])
        torch.testing.assert_close(together[row, :response], alone[0])


def test_the_order_depends_on_every_part_of_the_key_and_on_nothing_else() -> None:
    assert sorted(shuffled(20, 1, 2)) == list(range(20))
    assert shuffled(20, 1, 2) == shuffled(20, 1, 2)
    orders = [shuffled(20, 1, 2), shuffled(20, 2, 1), shuffled(20, 1, 3), shuffled(20, 1, 2, 1)]
    assert all(one != other for i, one in enumerate(orders) for other in orders[:i])


@given(st.integers(1, 60), st.integers(1, 20))
def test_dealing_leaves_nothing_out_and_makes_equal_parts(count: int, size: int) -> None:
    order = shuffled(count, 7)
    parts = dealt(order, size)
    assert [row for part in parts for row in part] == order
    lengths = [len(part) for part in parts]
    assert max(lengths) <= size
    assert max(lengths) - min(lengths) <= 1
    assert len(parts) == -(-count // size)
