"""Sampling answers from an adapter for training and for the gate; it does not know rewards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from policy.decoder import Decoder, Sample
from policy.language_model import LanguageModel
from policy.sampling import Warp
from trainer.packing import Transcript


@dataclass(frozen=True, slots=True)
class Rollout:
    """One sampled answer; `logprobs` are those the sampler saw, at the sampling temperature."""

    transcript: Transcript
    logprobs: tuple[float, ...]
    is_finished: bool
    """True if the policy ended the answer itself with EOS."""


def sample_rollouts(
    model: LanguageModel,
    decoder: Decoder,
    adapter: str | None,
    prompts: Sequence[tuple[int, ...]],
    *,
    max_tokens: int,
    temperature: float,
    seed: int,
    first_index: int = 0,
) -> list[Rollout]:
    """Sample one answer per prompt; answer i depends on (seed, first_index + i) and its prompt."""
    stop_ids = frozenset({model.eos_id})
    samples = [
        Sample(
            prompt_ids=prompt,
            adapter=adapter,
            max_tokens=max_tokens,
            warp=Warp(temperature=temperature),
            seed=seed,
            sample_index=first_index + index,
            stop_ids=stop_ids,
        )
        for index, prompt in enumerate(prompts)
    ]
    decoder.run(samples)
    return [
        Rollout(
            transcript=Transcript(sample.prompt_ids, tuple(sample.ids)),
            logprobs=tuple(sample.processed_logprobs),
            is_finished=sample.finish == "eos",
        )
        for sample in samples
    ]
