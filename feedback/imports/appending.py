"""Append imported events to the spool and count them; does not know their format."""

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Protocol

from feedback.events.envelope import Event

# Enough to fill group commits, few enough to bound memory.
MAX_PENDING = 1024


class EventLog(Protocol):
    """The part of the spool that an import needs."""

    def append(self, event: Event) -> Future[int]:
        """Return a future of the sequence, resolved when the event is on disk."""
        ...


def append_events(
    events: Sequence[Event], log: EventLog, on_stored: Callable[[], None] = lambda: None
) -> Mapping[str, int]:
    """Append every event and wait until all are on disk; return how many of each type.

    An event that the log already has is no error: its id makes it the same event.
    """
    counts: Counter[str] = Counter()
    pending: deque[tuple[str, Future[int]]] = deque()

    def settle_oldest() -> None:
        event_type, stored = pending.popleft()
        stored.result()
        counts[event_type] += 1
        on_stored()

    for event in events:
        pending.append((event.type, log.append(event)))
        if len(pending) >= MAX_PENDING:
            settle_oldest()
    while pending:
        settle_oldest()
    return counts
