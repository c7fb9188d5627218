"""What happened to each channel: what it asks for, since when, and why it is not served.

Remembers and counts; decides nothing.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from feedback.channels import ChannelEntry
from service.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an adapter is not served; is_final: trying again cannot help."""

    adapter_id: str
    code: str
    message: str
    is_final: bool


@dataclass(slots=True)
class ChannelRecord:
    """A channel's newest entry and how it fares; times are time.monotonic() seconds."""

    entry: ChannelEntry
    seen_at: float
    refusal: Refusal | None = None
    failed_at: float = 0.0


class SwapJournal:
    """The record of all watched channels."""

    def __init__(self, metrics: Metrics) -> None:
        self.records: dict[str, ChannelRecord] = {}
        self.problems: dict[str, str] = {}
        """Channel -> why its newest entry could not be read."""
        self.routes: Mapping[str, str] = {}
        self.needs_fallback: set[str] = set()
        """Channels that serve nothing because all they asked for so far was refused."""
        self._metrics = metrics

    def seen(self, channel: str, entry: ChannelEntry) -> None:
        """Note a channel's new entry."""
        self.records[channel] = ChannelRecord(entry, time.monotonic())

    def refused(self, refusal: Refusal) -> None:
        """Note that an adapter was refused, in every channel that asks for it."""
        self._metrics.swap_refusals.labels(refusal.code).inc()
        for record in self.records.values():
            if record.entry.adapter_id == refusal.adapter_id:
                record.refusal = refusal
                record.failed_at = time.monotonic()
        self.needs_fallback |= self.records.keys() - self.routes.keys()

    def routed(self, routes: Mapping[str, str]) -> None:
        """Note what the channels route to now."""
        for channel, adapter_id in routes.items():
            if self.routes.get(channel) == adapter_id:
                continue
            self._metrics.swaps.labels(channel).inc()
            record = self.records[channel]
            if record.entry.adapter_id == adapter_id:
                record.refusal = None
                self._metrics.swap_s.observe(time.monotonic() - record.seen_at)
        self.routes = dict(routes)

    def lag_s(self, channel: str) -> float:
        """Return for how long a channel's newest entry has not been served; 0 if it is."""
        record = self.records[channel]
        if self.routes.get(channel) == record.entry.adapter_id:
            return 0.0
        return time.monotonic() - record.seen_at

    def describe(self) -> dict[str, dict[str, Any]]:
        """Return each channel's state for /readyz and the admin routes."""
        return {channel: self._describe(channel) for channel in sorted(self.records)}

    def _describe(self, channel: str) -> dict[str, Any]:
        record = self.records[channel]
        refusal = record.refusal
        return {
            "serves": self.routes.get(channel),
            "asks_for": record.entry.adapter_id,
            "sequence": record.entry.sequence,
            "lag_s": round(self.lag_s(channel), 3),
            "refused": None if refusal is None else f"{refusal.code}: {refusal.message}",
            "problem": self.problems.get(channel),
        }
