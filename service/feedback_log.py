"""Append feedback events and wait until they are durable; knows no HTTP."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future

import structlog

from feedback.events.envelope import Event, EventData, new_event
from feedback.identifiers import idempotent_id
from service.completion_log import EVENT_SOURCE
from service.dependencies import Dependencies
from service.errors import InvalidRequest, Unavailable
from service.metrics import Metrics
from service.recent import Recent

log = structlog.get_logger(__name__)


class FeedbackLog:
    """What it acknowledges survives a crash of process and machine."""

    def __init__(self, dependencies: Dependencies, metrics: Metrics, recent: Recent) -> None:
        self._dependencies = dependencies
        self._metrics = metrics
        self._recent = recent
        self.num_pending = 0
        """Events queued and not yet durable."""

    async def append(self, data: EventData, voter: str, idempotency_key: str | None) -> None:
        """Make an event durable; the same key of the same voter makes the same event.

        Raises:
            InvalidRequest: the event is too large.
            Unavailable: the disk did not take it; a retry may succeed.
        """
        await self.is_durable(self.queue(data, voter, idempotency_key))

    def queue(self, data: EventData, voter: str, idempotency_key: str | None) -> Future[int]:
        """Queue an event and return the future of its durability.

        Raises:
            InvalidRequest: the event is too large.
        """
        key = None if idempotency_key is None else idempotent_id(idempotency_key, voter)
        event = new_event(data, source=EVENT_SOURCE, key=key, time=self._dependencies.clock())
        try:
            future = self._dependencies.spool.append(event)
        except ValueError as error:
            raise InvalidRequest(str(error), code="event_too_large") from error
        self._note_when_durable(event, future)
        return future

    async def is_durable(self, future: Future[int]) -> None:
        """Return once the event is durable.

        Raises:
            Unavailable: the disk did not take it; a retry may succeed.
        """
        try:
            # Shielded: another request may wait for the same event.
            await asyncio.shield(asyncio.wrap_future(future))
        except Exception as error:
            log.error("feedback_not_durable", kind=type(error).__name__)
            raise Unavailable(
                "the event could not be written to disk; try again", code="not_durable"
            ) from error

    def _note_when_durable(self, event: Event, future: Future[int]) -> None:
        loop = asyncio.get_running_loop()
        self.num_pending += 1

        def note(done: Future[int]) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._note, event, done)

        future.add_done_callback(note)

    def _note(self, event: Event, done: Future[int]) -> None:
        self.num_pending -= 1
        if done.cancelled() or done.exception() is not None:
            return
        self._recent.note(event)
        self._metrics.feedback.labels(event.type).inc()
