"""The running service: its parts, made once per process from the dependencies."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Request

from service.access import Caller
from service.channel_watch import ChannelWatch
from service.completion_log import CompletionLog
from service.dependencies import Dependencies
from service.feedback_log import FeedbackLog
from service.in_flight import InFlight
from service.metrics import Metrics
from service.recent import Recent
from service.swap_journal import SwapJournal
from service.versions import Versions
from service.voters import Voter, voter_of


class Assembly:
    """What routes work with."""

    def __init__(self, dependencies: Dependencies) -> None:
        self.dependencies = dependencies
        self.settings = dependencies.settings
        self.engine = dependencies.engine
        self.base_name = dependencies.engine.capabilities.base.base_id
        self.started_s = int(time.time())
        self.metrics = Metrics()
        self.journal = SwapJournal(self.metrics)
        self.versions = Versions(self.engine, dependencies.registry, self.settings, self.journal)
        self.watch = ChannelWatch(dependencies.registry, self.versions, self.journal, self.settings)
        self.recent = Recent(self.settings.recent_responses)
        for event in dependencies.recent_events:
            self.recent.note(event)
        self.completion_log = CompletionLog(dependencies, self.metrics, self.recent)
        self.feedback_log = FeedbackLog(dependencies, self.metrics, self.recent)
        self.in_flight = InFlight()
        self._tasks: list[asyncio.Task[None]] = []

    def caller(self, request: Request) -> Caller:
        """Return who sends a request; raises what Access.caller raises."""
        headers = request.headers
        return self.dependencies.access.caller(
            headers.get("authorization"), headers.get("host"), headers.get("origin")
        )

    @property
    def can_swap(self) -> bool:
        """Say whether the watch and the driver of swaps are running."""
        return not any(task.done() for task in self._tasks)

    def voter(self, caller: Caller, user: str | None) -> Voter:
        """Return the person behind a request."""
        return voter_of(self.dependencies.pseudonyms, caller, user)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Watch the channels and carry out swaps for the length of the block.

        The first look comes before the first request, so that no channel is unknown to it.
        """
        await self.watch.poll()
        await self.versions.warm_up()
        self._tasks = [
            asyncio.create_task(self.versions.run()),
            asyncio.create_task(self.watch.run()),
        ]
        try:
            yield
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)


def assembly_of(request: Request) -> Assembly:
    """Return the service that a request belongs to."""
    service = request.app.state.service
    assert isinstance(service, Assembly)
    return service
