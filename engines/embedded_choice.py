"""One choice of the embedded engine: from drawn ids to the seam's deltas; it knows no threads."""

from __future__ import annotations

import asyncio
import secrets

from engines.seam import Finish, FinishReason, GenerateRequest, TokenDelta, TopLogprob
from engines.stopping import StopStringFilter, Utf8Detokenizer
from policy.decoder import Sample
from policy.pretrained import LoadedBase
from policy.sampling import Warp

_FINISH_REASONS: dict[str, FinishReason] = {"eos": "eos", "length": "length", "aborted": "aborted"}


class Choice:
    """A request, the sample that answers it, and the consumer that waits for its deltas."""

    def __init__(self, request: GenerateRequest, base: LoadedBase) -> None:
        sampling = request.sampling
        self.adapter_id = request.adapter_id
        self.loop = asyncio.get_running_loop()
        self.deltas: asyncio.Queue[TokenDelta] = asyncio.Queue()
        self.is_finished = False
        self._decode = base.decode
        self._wants_top = sampling.num_logprobs is not None
        self._detokenizer = Utf8Detokenizer(base.decode)
        self._stops = StopStringFilter(sampling.stop)
        self.sample = Sample(
            prompt_ids=request.prompt_token_ids,
            adapter=None if self.adapter_id == base.description.adapter_id else self.adapter_id,
            max_tokens=sampling.max_tokens,
            warp=Warp(sampling.temperature, sampling.top_p, sampling.top_k),
            # Without a seed every request gets a stream of its own.
            seed=secrets.randbits(63) if sampling.seed is None else sampling.seed,
            sample_index=request.sample_index,
            stop_ids=frozenset() if sampling.ignore_eos else base.stop_ids,
            num_top_logprobs=sampling.num_logprobs or 0,
        )

    def advance(self) -> TokenDelta:
        """Turn the id drawn last into a delta; a stop string finishes the choice."""
        sample = self.sample
        token_id = sample.ids[-1]
        piece = "" if sample.finish == "eos" else self._detokenizer.push(token_id)
        if sample.finish is not None:
            piece += self._detokenizer.flush()
        text = self._stops.push(piece)
        finish = self._finish()
        if finish is not None:
            text += self._stops.flush()
            self.is_finished = True
        return TokenDelta(
            token_ids=(token_id,),
            text=text,
            token_texts=(piece,),
            logprobs=(sample.raw_logprobs[-1],),
            processed_logprobs=(sample.processed_logprobs[-1],),
            top_logprobs=(self._top_logprobs(),) if self._wants_top else (),
            finish=finish,
        )

    def fail(self, message: str) -> TokenDelta:
        """End the choice by an error of the engine; text still held back is shown."""
        self.is_finished = True
        return TokenDelta(text=self._stops.flush(), finish=Finish("error", message))

    def _finish(self) -> Finish | None:
        if self._stops.is_stopped:
            return Finish("stop_string")
        reason = self.sample.finish
        return Finish(_FINISH_REASONS[reason]) if reason is not None else None

    def _top_logprobs(self) -> tuple[TopLogprob, ...]:
        if not self.sample.num_top_logprobs:
            return ()
        best = self.sample.top_logprobs[-1]
        return tuple(TopLogprob(i, self._decode([i]), logprob) for i, logprob in best)


Outbox = list[tuple[Choice, TokenDelta]]


def deliver(outbox: Outbox) -> None:
    """Hand a step's deltas to their event loops: one wake-up per loop, not one per token."""
    by_loop: dict[asyncio.AbstractEventLoop, Outbox] = {}
    for choice, delta in outbox:
        by_loop.setdefault(choice.loop, []).append((choice, delta))
    for loop, deltas in by_loop.items():
        if not loop.is_closed():
            loop.call_soon_threadsafe(_put_all, deltas)


def _put_all(deltas: Outbox) -> None:
    for choice, delta in deltas:
        choice.deltas.put_nowait(delta)
