"""Append imported events to the spool and count them; does not know their format."""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

from feedback.events.envelope import Event

# Enough to fill group commits, few enough to bound memory.
MAX_PENDING = 1024


class EventLog(Protocol):
    """The part of the spool that an import needs."""

    def append(self, event: Event) -> Future[int]:
        """Return a future of the event's sequence, resolved when the event is on disk."""
        ...

    def last_sequence(self) -> int:
        """Return the highest sequence, 0 when empty."""
        ...


@dataclass(frozen=True, slots=True)
class ImportCounts:
    """What an import came to."""

    num_new: Counter[str]
    """Events written, by type."""
    num_known: int
    """Events that the log already had: the same id is the same event."""


def append_events(
    events: Sequence[Event], log: EventLog, on_stored: Callable[[], None] = lambda: None
) -> ImportCounts:
    """Append every event and wait until all are on disk."""
    last_before = log.last_sequence()
    num_new: Counter[str] = Counter()
    pending: deque[tuple[str, Future[int]]] = deque()

    def settle_oldest() -> None:
        event_type, stored = pending.popleft()
        num_new[event_type] += stored.result() > last_before
        on_stored()

    for event in events:
        pending.append((event.type, log.append(event)))
        if len(pending) >= MAX_PENDING:
            settle_oldest()
    while pending:
        settle_oldest()
    return ImportCounts(+num_new, num_known=len(events) - num_new.total())
