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
from service.recent import Durability, Recent

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
        await self.require(self.queue(data, voter, idempotency_key))

    def queue(self, data: EventData, voter: str, idempotency_key: str | None) -> Durability:
        """Queue an event and return the future of its durability: True, or False if it failed.

        Raises:
            InvalidRequest: the event is too large.
        """
        key = None if idempotency_key is None else idempotent_id(idempotency_key, voter)
        event = new_event(data, source=EVENT_SOURCE, key=key, time=self._dependencies.clock())
        try:
            written = self._dependencies.spool.append(event)
        except ValueError as error:
            raise InvalidRequest(str(error), code="event_too_large") from error
        loop = asyncio.get_running_loop()
        durability: Durability = loop.create_future()
        self.num_pending += 1

        def tell(done: Future[int]) -> None:
            # In the spool's thread; at the end of the process nobody may be left to tell.
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._note, event, done, durability)

        written.add_done_callback(tell)
        return durability

    async def require(self, durability: Durability) -> None:
        """Return once the event is durable.

        Raises:
            Unavailable: the disk did not take it; a retry may succeed.
        """
        # Shielded: another request may wait for the same event.
        if not await asyncio.shield(durability):
            raise Unavailable(
                "the event could not be written to disk; try again", code="not_durable"
            )

    def _note(self, event: Event, done: Future[int], durability: Durability) -> None:
        self.num_pending -= 1
        error = done.exception()
        if error is None:
            self._recent.note(event)
            self._metrics.feedback.labels(event.type).inc()
        else:
            log.error("feedback_not_durable", kind=type(error).__name__)
        durability.set_result(error is None)
