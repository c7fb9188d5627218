"""Read the newest events back from the spool at start; knows not what they are needed for."""

from __future__ import annotations

from feedback.events.codec import MalformedEvent, UnknownVersion, decode
from feedback.events.envelope import Event
from feedback.spool import Spool

PAGE_SIZE = 500


def read_recent_events(spool: Spool, num_events: int) -> tuple[Event, ...]:
    """Return up to num_events of the newest events, oldest first.

    What cannot be decoded is left out: ingest puts it into the dead letters with its reason.
    """
    sequence = max(0, spool.last_sequence() - num_events)
    events: list[Event] = []
    while records := spool.read(sequence, PAGE_SIZE):
        for record in records:
            sequence = record.sequence
            try:
                events.append(decode(record.payload))
            except (MalformedEvent, UnknownVersion):
                continue
    return tuple(events)
