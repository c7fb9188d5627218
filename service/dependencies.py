"""What the service needs from outside; whoever starts it chooses real parts or fakes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from engines.seam import Engine
from feedback.ballots import BallotKeys
from feedback.events.envelope import Event
from feedback.pseudonyms import Pseudonyms
from feedback.registry import Registry
from service.access import Access
from service.settings import ServiceSettings


class EventLog(Protocol):
    """Where events become durable; `feedback.spool.Spool` is one."""

    def append(self, event: Event) -> Future[int]:
        """Queue an event; the future resolves once it would survive a crash."""
        ...


def now_utc() -> datetime:
    """Return the server's time."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Dependencies:
    """Everything `create_app` takes. The caller owns the parts and closes them afterwards.

    recent_events: the newest events of the log at start, oldest first, for what is kept in memory
    (which choices can be put on a ballot, which ballots are closed).
    """

    engine: Engine
    registry: Registry
    spool: EventLog
    ballot_keys: BallotKeys
    pseudonyms: Pseudonyms
    access: Access
    settings: ServiceSettings = field(default_factory=ServiceSettings)
    clock: Callable[[], datetime] = now_utc
    recent_events: tuple[Event, ...] = ()
