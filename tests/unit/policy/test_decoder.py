"""What a sample says depends on its adapter and its stream, never on its neighbours."""

import itertools
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_llama import add_random_adapter, tiny_model

from policy.decoder import Decoder, Sample, pad
from policy.language_model import LanguageModel
from policy.sampling import Warp

GREEDY = Warp(temperature=0.0)
ADAPTERS = (None, "a", "b", "c")


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    model = tiny_model()
    for seed, name in enumerate(ADAPTERS[1:]):
        add_random_adapter(model, str(name), seed)
    return model


def new_decoder(model: LanguageModel, max_batch: int = 4) -> Decoder:
    return Decoder(model, max_batch, 64)


def new_sample(
    index: int = 0, prompt: Sequence[int] = (5, 6, 7), max_tokens: int = 9, warp: Warp = GREEDY
) -> Sample:
    return Sample(
        prompt_ids=tuple(prompt),
        adapter=ADAPTERS[index % len(ADAPTERS)],
        max_tokens=max_tokens,
        warp=warp,
        seed=index,
        sample_index=index,
    )


def full_logprobs(model: LanguageModel, sample: Sample, length: int | None = None) -> torch.Tensor:
    """Log-probabilities `[N, V]` of each position of the answer, by one full forward."""
    ids_BT = torch.tensor([[*sample.prompt_ids, *sample.ids]])
    with torch.inference_mode():
        trunk = model.trunk(ids_BT, torch.ones_like(ids_BT, dtype=torch.bool), 0)
        logits = model.logits(model.hidden(trunk, sample.adapter))[0]
    first = len(sample.prompt_ids) - 1
    return torch.log_softmax(logits.float(), -1)[first : first + len(sample.ids)]


@pytest.mark.parametrize("index", range(4))
def test_decoding_gives_the_tokens_and_logprobs_of_a_full_forward(
    model: LanguageModel, index: int
) -> None:
    sample = new_sample(index, max_tokens=20)
    new_decoder(model).run([sample])
    logprobs = full_logprobs(model, sample)
    assert sample.ids == logprobs.argmax(-1).tolist()
    chosen = logprobs.gather(1, torch.tensor(sample.ids)[:, None])[:, 0]
    assert torch.allclose(chosen, torch.tensor(sample.raw_logprobs), atol=1e-5)
    assert len(sample.ids) == 20
    assert sample.finish == "length"


@settings(max_examples=15, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=9),
    answers=st.lists(st.integers(1, 12), min_size=9, max_size=9),
    max_batch=st.integers(1, 5),
)
def test_mixed_adapters_with_joins_and_leaves_say_what_each_says_alone(
    model: LanguageModel, lengths: list[int], answers: list[int], max_batch: int
) -> None:
    def samples() -> list[Sample]:
        return [
            new_sample(i, range(1 + i, 1 + i + length), answers[i], Warp() if i % 2 else GREEDY)
            for i, length in enumerate(lengths)
        ]

    together, alone = samples(), samples()
    new_decoder(model, max_batch).run(together)
    for sample in alone:
        new_decoder(model, 1).run([sample])
    assert [sample.ids for sample in together] == [sample.ids for sample in alone]
    for one, other in zip(together, alone, strict=True):
        assert one.raw_logprobs == pytest.approx(other.raw_logprobs, abs=1e-4)


def test_late_joiners_do_not_disturb_those_that_run(model: LanguageModel) -> None:
    expected = [new_sample(i, max_tokens=12) for i in range(4)]
    for sample in expected:
        new_decoder(model).run([sample])
    decoder, late = new_decoder(model), [new_sample(i, max_tokens=12) for i in range(4)]
    for sample in late:
        decoder.add(sample)
        for _ in range(3):
            decoder.step()
    while decoder.step():
        pass
    assert [sample.ids for sample in late] == [sample.ids for sample in expected]


def test_equal_prompts_of_one_adapter_are_prefilled_once(model: LanguageModel) -> None:
    decoder = new_decoder(model, 6)
    shapes = []
    original = model.run_cached

    class Watched(LanguageModel):
        def run_cached(self, ids_BT, *rest):  # type: ignore[no-untyped-def]
            shapes.append(tuple(ids_BT.shape))
            return original(ids_BT, *rest)

    watched = Watched.__new__(Watched)
    watched.__dict__ = model.__dict__
    decoder._model = watched
    prompts = [(1, 2, 3), (4, 5), (1, 2, 3), (1, 2, 3), (4, 5)]
    samples = [Sample(p, "a", 5, Warp(), seed=7, sample_index=i) for i, p in enumerate(prompts)]
    decoder.run(samples)
    assert shapes == [(2, 3), *[(5, 1)] * 4]
    for i, prompt in enumerate(prompts):
        alone = Sample(prompt, "a", 5, Warp(), seed=7, sample_index=i)
        new_decoder(model).run([alone])
        assert alone.ids == samples[i].ids


def test_a_step_after_a_join_advances_everyone_by_one(model: LanguageModel) -> None:
    decoder = new_decoder(model)
    first, second = new_sample(0), new_sample(1)
    decoder.add(first)
    assert decoder.step() == [first]
    decoder.add(second)
    assert decoder.step() == [second]
    assert set(map(id, decoder.step())) == {id(first), id(second)}
    assert [len(first.ids), len(second.ids)] == [2, 2]


@pytest.mark.parametrize("num_steps", [0, 1, 4])
@pytest.mark.parametrize("victim", range(5))
def test_a_cancelled_sample_stops_at_once_and_leaves_the_others_as_they_were(
    model: LanguageModel, victim: int, num_steps: int
) -> None:
    decoder, samples = new_decoder(model), [new_sample(i) for i in range(5)]
    for sample in samples:
        decoder.add(sample)
    for _ in range(num_steps):
        decoder.step()
    decoder.cancel(samples[victim])
    num_drawn = len(samples[victim].ids)
    while decoder.step():
        pass
    assert samples[victim].finish == "aborted"
    assert len(samples[victim].ids) == num_drawn
    assert decoder.num_running == decoder.num_waiting == 0
    for i, sample in enumerate(samples):
        if i != victim:
            alone = new_sample(i)
            new_decoder(model).run([alone])
            assert sample.ids == alone.ids


def test_cancelling_what_has_finished_changes_nothing(model: LanguageModel) -> None:
    decoder, sample = new_decoder(model), new_sample()
    decoder.run([sample])
    decoder.cancel(sample)
    assert sample.finish == "length"


def test_a_stop_id_ends_the_sample_and_is_kept_as_its_last_id(model: LanguageModel) -> None:
    free = new_sample(max_tokens=20)
    new_decoder(model).run([free])
    stop_id = free.ids[4]
    sample = new_sample(max_tokens=20)
    sample.stop_ids = frozenset({stop_id})
    new_decoder(model).run([sample])
    assert sample.ids == free.ids[: free.ids.index(stop_id) + 1]
    assert sample.finish == "eos"


def test_top_logprobs_are_the_likeliest_of_each_position(model: LanguageModel) -> None:
    sample = new_sample(1, max_tokens=6, warp=Warp())
    sample.num_top_logprobs = 3
    new_decoder(model).run([sample])
    best = full_logprobs(model, sample).topk(3)
    assert [[i for i, _ in top] for top in sample.top_logprobs] == best.indices.tolist()


def test_a_sampled_stream_is_the_seeds_own(model: LanguageModel) -> None:
    samples = [new_sample(1, warp=Warp()) for _ in range(2)] + [new_sample(5, warp=Warp())]
    new_decoder(model).run(samples)
    assert samples[0].ids == samples[1].ids != samples[2].ids


def test_what_does_not_fit_is_refused_with_the_numbers(model: LanguageModel) -> None:
    decoder = new_decoder(model)
    with pytest.raises(ValueError, match=r"60 tokens.*5.*65 positions.*64"):
        decoder.add(new_sample(prompt=range(60), max_tokens=5))
    with pytest.raises(ValueError, match="prompt is empty"):
        decoder.add(new_sample(prompt=()))
    decoder.add(new_sample(prompt=range(1, 60), max_tokens=5))
    while decoder.step():
        pass


def test_padding_is_on_the_right_and_marked() -> None:
    ids_BT, is_token_BT = pad([(3, 4, 5), (6,)])
    assert ids_BT.tolist() == [[3, 4, 5], [6, 0, 0]]
    assert is_token_BT.tolist() == [[True] * 3, [True, False, False]]


def test_a_big_prefill_is_split_so_that_no_step_is_endless(model: LanguageModel) -> None:
    decoder = Decoder(model, 64, 200)
    samples = [new_sample(i, prompt=[(i + j) % 250 for j in range(150)]) for i in range(20)]
    for sample in samples:
        decoder.add(sample)
    joined = [len(decoder.step()) for _ in itertools.repeat(None, 2)]
    assert 1 <= joined[0] < 20
    assert sum(joined) <= 20
