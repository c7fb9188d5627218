"""Poll the registry's channels and tell the swap machine what they ask for.

Does not know how an adapter gets into the engine.
"""

from __future__ import annotations

import asyncio
import time

import structlog

from feedback.channels import ChannelEntry
from feedback.registry import Registry
from service.settings import ServiceSettings
from service.swap import Wanted
from service.swap_journal import SwapJournal
from service.versions import Versions

log = structlog.get_logger(__name__)


class ChannelWatch:
    """Every replica runs one: the registry's newest entry is what all of them converge to."""

    def __init__(
        self,
        registry: Registry,
        versions: Versions,
        journal: SwapJournal,
        settings: ServiceSettings,
    ) -> None:
        self._registry = registry
        self._versions = versions
        self._journal = journal
        self._settings = settings
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Look now instead of after the interval."""
        self._wake.set()

    async def run(self) -> None:
        """Poll for ever."""
        while True:
            try:
                await self.poll()
            except Exception as error:  # noqa: BLE001 -- the next look may succeed
                log.error("channel_poll_failed", kind=type(error).__name__)
            self._wake.clear()
            try:
                async with asyncio.timeout(self._settings.poll_interval_s):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def poll(self) -> None:
        """Look once at every channel; an unreadable one keeps what it serves."""
        for channel in self._settings.channels:
            try:
                entry, fallback = await asyncio.to_thread(self._look, channel)
            except (OSError, ValueError) as error:
                self._note_problem(channel, str(error))
                continue
            self._journal.problems.pop(channel, None)
            if entry is not None:
                self._follow(channel, entry)
            if fallback is not None:
                log.warning("channel_falls_back", channel=channel, adapter_id=fallback)
                self._versions.happen(Wanted(channel, fallback))

    def _look(self, channel: str) -> tuple[ChannelEntry | None, str | None]:
        return self._newest(channel), self._fallback(channel)

    def _newest(self, channel: str) -> ChannelEntry | None:
        has_entries = channel in self._registry.list_channels()
        return self._registry.current(channel) if has_entries else None

    def _follow(self, channel: str, entry: ChannelEntry) -> None:
        record = self._journal.records.get(channel)
        if record is None or record.entry.sequence != entry.sequence:
            self._journal.seen(channel, entry)
            self._versions.happen(Wanted(channel, entry.adapter_id))
        elif self._is_due(channel):
            record.refusal = None
            self._versions.happen(Wanted(channel, entry.adapter_id))

    def _is_due(self, channel: str) -> bool:
        """Say whether a swap that failed for no fault of its adapter should be tried again."""
        record = self._journal.records[channel]
        if record.refusal is None or record.refusal.is_final:
            return False
        return time.monotonic() - record.failed_at >= self._settings.retry_interval_s

    def _fallback(self, channel: str) -> str | None:
        """Return the newest earlier entry of a channel that came up with nothing servable.

        A replica that starts after a bad promotion would otherwise serve nothing at all.
        """
        if channel not in self._journal.needs_fallback:
            return None
        self._journal.needs_fallback.discard(channel)
        state = self._versions.state
        refused = state.wanted.get(channel)
        if refused not in state.refused:
            return None
        entries = list(reversed(self._registry.history(channel)))
        names = list(dict.fromkeys(entry.adapter_id for entry in entries))
        earlier = names[names.index(refused) + 1 :]
        return earlier[0] if earlier else None

    def _note_problem(self, channel: str, problem: str) -> None:
        if self._journal.problems.get(channel) != problem:
            log.error("channel_unreadable", channel=channel, problem=problem)
        self._journal.problems[channel] = problem
