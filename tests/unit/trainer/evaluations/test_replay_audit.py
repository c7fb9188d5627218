"""Choices of the real decoder are cleared; choices made of two adapters are found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from tiny_llama import add_random_adapter, tiny_model

from feedback.events.completion import CompletionServed
from feedback.events.examples import example_events
from policy.decoder import Decoder, Sample
from policy.language_model import LanguageModel
from policy.sampling import Warp
from trainer.evaluations.replay_audit import ReplayAudit, audit_completions

BASE_ID = "base-0123456789abcdef"
ADAPTERS: dict[str, str | None] = {BASE_ID: None, "sft-a": "a", "ppo-b": "b"}
NUM_TOKENS = 24


@pytest.fixture(scope="module", params=[torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def model(request: pytest.FixtureRequest) -> LanguageModel:
    model = tiny_model(dtype=request.param)
    add_random_adapter(model, "a", seed=1)
    add_random_adapter(model, "b", seed=2)
    return model


def sample(adapter_id: str, index: int, warp: Warp | None = None) -> Sample:
    prompt = tuple(range(5 + index % 7, 12))
    warp = warp or Warp(temperature=1.0)
    return Sample(prompt, ADAPTERS[adapter_id], NUM_TOKENS, warp, seed=3, sample_index=index)


def honest(model: LanguageModel, count: int, warp: Warp | None = None) -> list[CompletionServed]:
    """Sample with all adapters side by side in one batch."""
    named = list(ADAPTERS)
    samples = [sample(named[i % len(named)], i, warp) for i in range(count)]
    Decoder(model, 8, 64).run(samples)
    return [served(named[i % len(named)], each, i, model) for i, each in enumerate(samples)]


def switched(model: LanguageModel, first: str, then: str, at: int, index: int) -> CompletionServed:
    """Let a choice that names the first adapter go over to another in mid-answer, cache and all."""
    each = sample(first, index)
    decoder = Decoder(model, 1, 64)
    decoder.add(each)
    while each.finish is None:
        if len(each.ids) == at:
            each.adapter = ADAPTERS[then]
        decoder.step()
    return served(first, each, index, model)


def joined(model: LanguageModel, first: str, then: str, at: int, index: int) -> CompletionServed:
    """Let the second adapter continue the first one's half from a cache of its own."""
    head, tail = sample(first, index), sample(then, index + 100)
    head.max_tokens = at
    Decoder(model, 1, 64).run([head])
    tail.prompt_ids = (*head.prompt_ids, *head.ids)
    tail.max_tokens = NUM_TOKENS - at
    Decoder(model, 1, 64).run([tail])
    whole = sample(first, index)
    whole.ids, whole.raw_logprobs = head.ids + tail.ids, head.raw_logprobs + tail.raw_logprobs
    return served(first, whole, index, model)


def served(
    adapter_id: str, each: Sample, index: int, model: LanguageModel, **changes: Any
) -> CompletionServed:
    example = example_events()["completion.served"].data
    assert isinstance(example, CompletionServed)
    assert example.prompt is not None
    choice = example.choices[0].model_copy(
        update={
            "choice_id": f"choice-{index}",
            "adapter_id": adapter_id,
            "token_ids": tuple(each.ids),
            "token_logprobs": tuple(each.raw_logprobs),
            "logprobs_kind": "raw",
        }
        | changes
    )
    dtype = str(model.dtype).removeprefix("torch.")
    return example.model_copy(
        update={
            "prompt": example.prompt.model_copy(update={"token_ids": each.prompt_ids}),
            "choices": (choice,),
            "engine": example.engine.model_copy(update={"dtype": dtype}),
        }
    )


def audit(model: LanguageModel, completions: Sequence[CompletionServed]) -> ReplayAudit:
    return audit_completions(model, ADAPTERS, completions)


@pytest.mark.parametrize(
    "warp",
    [Warp(temperature=1.0), Warp(temperature=0.0), Warp(temperature=0.7, top_p=0.9)],
    ids=["T=1", "greedy", "nucleus"],
)
def test_honest_choices_are_never_flagged_however_they_were_sampled(
    model: LanguageModel, warp: Warp
) -> None:
    found = audit(model, honest(model, 36, warp))
    assert (found.num_choices, found.num_mixed) == (36, 0)
    assert found.mixed_choice_ids == ()
    assert found.unaudited == {}


@pytest.mark.parametrize("make", [joined, switched])
def test_a_choice_of_two_halves_from_two_adapters_is_found(model: LanguageModel, make: Any) -> None:
    pairs = [("sft-a", "ppo-b"), ("ppo-b", "sft-a"), (BASE_ID, "sft-a"), ("ppo-b", BASE_ID)]
    mixed = [make(model, one, other, NUM_TOKENS // 2, i) for i, (one, other) in enumerate(pairs)]
    clean = honest(model, 50)[40:]
    found = audit(model, clean + mixed)
    assert found.mixed_choice_ids == tuple(f"choice-{i}" for i in range(4))
    assert found.num_choices == 14


def test_the_stretch_that_was_swapped_in_is_pointed_out(model: LanguageModel) -> None:
    found = audit(model, [joined(model, "sft-a", "ppo-b", 12, 0)])
    ((choice, finding),) = found.worst
    assert choice.choice_id == "choice-0"
    assert finding.worst.rival == "ppo-b"
    assert 10 <= finding.worst.first <= 16


def test_a_choice_that_names_another_adapter_than_sampled_it_is_found(
    model: LanguageModel,
) -> None:
    each = sample("sft-a", 0)
    Decoder(model, 1, 64).run([each])
    assert audit(model, [served("ppo-b", each, 0, model)]).num_mixed == 1
    assert audit(model, [served("sft-a", each, 0, model)]).num_mixed == 0


def test_a_twin_adapter_makes_choices_inseparable_but_not_mixed(model: LanguageModel) -> None:
    add_random_adapter(model, "twin", seed=1)
    try:
        names = {**ADAPTERS, "ppo-twin": "twin"}
        found = audit_completions(model, names, honest(model, 6))
    finally:
        model.remove_adapter("twin")
    assert found.num_mixed == 0
    assert found.num_inseparable == 2  # the two choices of `sft-a`


def test_what_the_record_does_not_allow_to_judge_is_counted_by_its_reason(
    model: LanguageModel,
) -> None:
    each = sample("sft-a", 0)
    Decoder(model, 1, 64).run([each])
    completions = [
        served("sft-a", each, 0, model, token_logprobs=None),
        served("sft-a", each, 1, model, token_ids=(), token_logprobs=()),
        served("sft-a", each, 2, model, logprobs_kind="processed"),
        served("sft-gone", each, 3, model),
        served("sft-a", each, 4, model),
    ]
    found = audit(model, completions)
    assert found.num_choices == 1
    assert found.unaudited == {
        "adapter_not_loaded": 1,
        "no_logprobs": 1,
        "no_token_ids": 1,
        "processed_logprobs": 1,
    }


def test_nothing_served_is_nothing_mixed(model: LanguageModel) -> None:
    found = audit(model, [])
    assert (found.num_choices, found.num_mixed, found.mean_gap_nats) == (0, 0, 0.0)
