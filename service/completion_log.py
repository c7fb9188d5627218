"""Write down what was served, and issue its ballot once that is durable; knows no HTTP."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import structlog

from feedback.events.codec import fit_to_limit
from feedback.events.completion import (
    BaseIdentity,
    Choice,
    CompletionServed,
    Consent,
    Delivery,
    EngineIdentity,
    Latency,
    SamplingParameters,
    StopReason,
    Usage,
)
from feedback.events.envelope import Event, new_event
from feedback.events.prompt import Prompt, hash_prompt
from feedback.identifiers import new_choice_id, new_response_id
from service.ballots import IssuedBallot, issue_ballot
from service.completion_request import CompletionRequest
from service.dependencies import Dependencies
from service.generation import Generation
from service.metrics import Metrics
from service.recent import Recent
from service.transcripts import Transcript
from service.voters import Voter

log = structlog.get_logger(__name__)

EVENT_SOURCE = "instructloop/service"


@dataclass(frozen=True, slots=True)
class Serving:
    """One response from routing to its end; started_at is time.monotonic()."""

    request: CompletionRequest
    voter: Voter
    adapter_id: str
    prompt_token_ids: tuple[int, ...]
    response_id: str
    choice_ids: tuple[str, ...]
    created_s: int
    started_at: float


def new_serving(
    request: CompletionRequest, voter: Voter, adapter_id: str, prompt_token_ids: tuple[int, ...]
) -> Serving:
    """Name a response and its choices."""
    return Serving(
        request=request,
        voter=voter,
        adapter_id=adapter_id,
        prompt_token_ids=prompt_token_ids,
        response_id=new_response_id(),
        choice_ids=tuple(new_choice_id() for _ in range(request.n)),
        created_s=int(time.time()),
        started_at=time.monotonic(),
    )


class CompletionLog:
    """Logs every response exactly once, whole or aborted."""

    def __init__(self, dependencies: Dependencies, metrics: Metrics, recent: Recent) -> None:
        self._dependencies = dependencies
        self._metrics = metrics
        self._recent = recent
        capabilities = dependencies.engine.capabilities
        self._base = BaseIdentity(
            base_id=capabilities.base.base_id,
            weights_hash=capabilities.base.weights_hash,
            tokenizer_hash=capabilities.base.tokenizer_hash,
        )
        self._engine = EngineIdentity(
            name=capabilities.name,
            version=capabilities.version,
            dtype=capabilities.dtype,
            merged=capabilities.merged,
        )

    async def finish(self, serving: Serving, generation: Generation) -> list[IssuedBallot]:
        """Log a response and return its ballots, after the event is durable.

        Without a ballot nobody has to wait for the disk. If the spool fails the answer is served
        all the same, without a ballot, and the failure is counted.
        """
        logged = self.record(serving, generation)
        choices = [choice for choice in generation.transcripts if choice.finish is not None]
        if logged is None or len(choices) < 2:
            return []
        try:
            await asyncio.shield(asyncio.wrap_future(logged))
        except Exception:  # noqa: BLE001 -- any fault of the disk means: no ballot
            return []
        return self._issue(serving)

    def record(self, serving: Serving, generation: Generation) -> Future[int] | None:
        """Queue the event of a response that has ended or was broken off.

        Returns a future of its durability, or None if the event cannot carry a ballot.
        """
        self._count(serving, generation)
        try:
            event = new_event(self._data(serving, generation), source=EVENT_SOURCE)
            future, has_texts = self._append(event)
        except ValueError as error:
            self._note_failure(type(error).__name__)
            return None
        future.add_done_callback(self._note_if_failed)
        if not has_texts:
            return None
        self._recent.note(event)
        return future

    def _append(self, event: Event) -> tuple[Future[int], bool]:
        assert isinstance(event.data, CompletionServed)
        try:
            return self._dependencies.spool.append(event), event.data.prompt is not None
        except ValueError:  # over the message limit, which is too rare to measure each time
            lighter, has_lost_texts = fit_to_limit(event)
            has_texts = not has_lost_texts and event.data.prompt is not None
            return self._dependencies.spool.append(lighter), has_texts

    def _note_if_failed(self, done: Future[int]) -> None:
        error = None if done.cancelled() else done.exception()
        if error is not None:
            self._note_failure(type(error).__name__)

    def _note_failure(self, kind: str) -> None:
        self._metrics.spool_failures.inc()
        log.error("completion_not_logged", kind=kind)

    def _issue(self, serving: Serving) -> list[IssuedBallot]:
        response = self._recent.response(serving.response_id)
        assert response is not None, "a response is remembered when it is logged"
        settings = self._dependencies.settings
        choices = response.rankable[: settings.max_ballot_choices]
        return [
            issue_ballot(
                self._dependencies.ballot_keys,
                serving.voter,
                response.prompt_hash,
                choices,
                self._dependencies.clock(),
                settings.ballot_lifetime_s,
            )
        ]

    def _count(self, serving: Serving, generation: Generation) -> None:
        for transcript in generation.transcripts:
            self._metrics.choices.labels(_delivery(transcript), _stop_reason(transcript)).inc()
            self._metrics.tokens.labels("completion").inc(len(transcript.token_ids))
        self._metrics.tokens.labels("prompt").inc(len(serving.prompt_token_ids))
        self._metrics.completion_s.observe(time.monotonic() - serving.started_at)
        if generation.first_token_at is not None:
            self._metrics.first_token_s.observe(generation.first_token_at - serving.started_at)

    def _data(self, serving: Serving, generation: Generation) -> CompletionServed:
        request, transcripts = serving.request, generation.transcripts
        first = generation.first_token_at
        return CompletionServed(
            response_id=serving.response_id,
            user=serving.voter.pseudonym,
            org=serving.voter.org,
            split_group=serving.voter.split_group,
            source=request.metadata.source,
            prompt=self._prompt(serving) if request.store else None,
            sampling=_sampling(request),
            base=self._base,
            choices=_choices(serving, transcripts) if request.store else (),
            usage=Usage(
                prompt_tokens=len(serving.prompt_token_ids),
                completion_tokens=sum(len(transcript.token_ids) for transcript in transcripts),
            ),
            engine=self._engine,
            latency=Latency(
                first_token_s=None if first is None else first - serving.started_at,
                total_s=time.monotonic() - serving.started_at,
            ),
            consent=Consent(log=request.store, train=request.store),
        )

    def _prompt(self, serving: Serving) -> Prompt:
        text = serving.request.prompt
        return Prompt(
            text=text,
            token_ids=serving.prompt_token_ids,
            prompt_hash=hash_prompt(text),
            use_case=serving.request.metadata.use_case,
            kind="api",
        )


def _choices(serving: Serving, transcripts: Sequence[Transcript]) -> tuple[Choice, ...]:
    request = serving.request
    is_truncated = request.temperature == 0 or request.top_p < 1 or request.top_k > 0
    return tuple(
        Choice(
            choice_id=serving.choice_ids[index],
            index=index,
            adapter_id=serving.adapter_id,
            text=transcript.text,
            token_ids=tuple(transcript.token_ids),
            num_visible_tokens=transcript.num_visible_tokens,
            token_logprobs=tuple(transcript.logprobs),
            is_on_policy=not is_truncated,
            stop_reason=_stop_reason(transcript),
            delivery=_delivery(transcript),
        )
        for index, transcript in enumerate(transcripts)
    )


def _delivery(transcript: Transcript) -> Delivery:
    return "complete" if transcript.finish is not None else "aborted"


def _stop_reason(transcript: Transcript) -> StopReason:
    if transcript.finish is None:
        return "aborted"
    reason = transcript.finish.reason
    assert reason in ("eos", "stop_string", "length"), "other endings raise ChoiceFailed"
    return reason


def _sampling(request: CompletionRequest) -> SamplingParameters:
    return SamplingParameters(
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=max(request.top_k, 0),
        seed=request.seed,
        max_tokens=request.max_tokens,
        n=request.n,
        stop=tuple(request.stop),
        num_logprobs=request.logprobs,
        is_stream=request.stream,
    )
