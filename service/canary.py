"""Ask a freshly loaded adapter two fixed questions before anybody else may; knows no registry."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from contextlib import aclosing

from engines.seam import Engine, GenerateRequest, SamplingParameters
from feedback.adapter_files import AdapterRefused
from service.generation import ChoiceFailed, checked_deltas
from service.settings import ServiceSettings
from service.transcripts import Transcript


class Canary:
    """Compares greedy answers of a candidate with those of the base."""

    def __init__(self, engine: Engine, settings: ServiceSettings) -> None:
        self._engine = engine
        self._settings = settings

    async def probe(self, adapter_id: str) -> None:
        """Let the adapter answer the canary prompts.

        Raises:
            AdapterRefused: no_effect if it answers exactly like the base, non_finite if its
                log-probabilities are no numbers.
            ChoiceFailed: it could not answer.
        """
        # Side by side: in bfloat16 the base itself differs from batch to batch by more than a weak
        # adapter changes, but hardly within one batch.
        base_answers, answers = await asyncio.gather(self.ask_base(), self._answers(adapter_id))
        if not all(math.isfinite(value) for answer in answers for value in answer.logprobs):
            raise AdapterRefused(
                "non_finite",
                f"{adapter_id} gives log-probabilities that are no numbers on the canary prompts; "
                "train it again",
            )
        effect_nats = max(map(_difference_nats, base_answers, answers))
        if effect_nats < self._settings.min_canary_effect_nats:
            raise AdapterRefused(
                "no_effect",
                f"{adapter_id} answers the canary prompts exactly like the base; check that its "
                "weights were trained and that their names match the base's modules",
            )

    async def ask_base(self) -> list[Transcript]:
        """Return what the base says to the canary prompts."""
        return await self._answers(self._engine.capabilities.base.adapter_id)

    async def _answers(self, adapter_id: str) -> list[Transcript]:
        prompts = self._settings.canary_prompts
        return await asyncio.gather(*(self._answer(adapter_id, prompt) for prompt in prompts))

    async def _answer(self, adapter_id: str, prompt: str) -> Transcript:
        request = GenerateRequest(
            request_id=f"canary-{adapter_id}",
            prompt_token_ids=tuple(self._engine.tokenize(prompt)),
            adapter_id=adapter_id,
            sampling=SamplingParameters(
                temperature=0.0, max_tokens=self._settings.canary_max_tokens
            ),
        )
        transcript = Transcript()
        async with aclosing(checked_deltas(self._engine, request)) as deltas:
            async for delta in deltas:
                transcript.add(delta)
        if not transcript.token_ids:
            raise ChoiceFailed(f"{adapter_id} answered a canary prompt with nothing")
        return transcript


def _difference_nats(one: Transcript, other: Transcript) -> float:
    """Return the largest difference in log-probability, infinite where the tokens differ."""
    if one.token_ids != other.token_ids:
        return math.inf
    return _max_difference(one.logprobs, other.logprobs)


def _max_difference(ones: Sequence[float], others: Sequence[float]) -> float:
    return max((abs(one - other) for one, other in zip(ones, others, strict=True)), default=0.0)
