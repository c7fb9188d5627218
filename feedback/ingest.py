"""Decodes what the spool holds: events, dead letters with a reason, and what must wait.

It does not know what an event means. It never blocks: one bad record costs that record only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from feedback.events.codec import MalformedEvent, UnknownVersion, decode
from feedback.events.envelope import Event
from feedback.spool import DeadLetter, Spool, SpooledRecord

_PAGE = 1000


@dataclass(frozen=True, slots=True)
class ParkedRecord:
    """An event of a newer release; it is decoded again at every reading, so an upgrade frees it."""

    sequence: int
    reason: str


@dataclass(frozen=True, slots=True)
class Record:
    """Everything the spool holds, in order of sequence; each record is in exactly one place."""

    events: tuple[Event, ...]
    dead_letters: tuple[DeadLetter, ...]
    parked: tuple[ParkedRecord, ...]

    @property
    def num_records(self) -> int:
        """Records read: events + dead letters + parked."""
        return len(self.events) + len(self.dead_letters) + len(self.parked)

    @property
    def num_by_type(self) -> dict[str, int]:
        """How many events of each type."""
        return dict(sorted(Counter(event.type for event in self.events).items()))


def read_record(spool: Spool) -> Record:
    """Decode everything in the spool once.

    Where the spool can be written, its dead letters are brought up to date: new ones are kept
    with their reason, and those that this release can read leave.
    """
    events: list[Event] = []
    dead: list[DeadLetter] = []
    parked: list[ParkedRecord] = []
    for record in _all_records(spool):
        match _decoded(record):
            case Event() as event:
                events.append(event)
            case DeadLetter() as letter:
                dead.append(letter)
            case ParkedRecord() as waiting:
                parked.append(waiting)
    if not spool.is_read_only:
        _update_dead_letters(spool, dead)
    return Record(tuple(events), tuple(dead), tuple(parked))


def _decoded(record: SpooledRecord) -> Event | DeadLetter | ParkedRecord:
    if not record.is_intact:
        return DeadLetter(record.sequence, "damaged: its bytes changed on disk")
    try:
        return decode(record.payload)
    except UnknownVersion as error:
        return ParkedRecord(record.sequence, str(error))
    except MalformedEvent as error:
        return DeadLetter(record.sequence, f"malformed: {error}")


def _all_records(spool: Spool) -> Iterator[SpooledRecord]:
    last_read = 0
    while page := spool.read(last_read, _PAGE):
        yield from page
        last_read = page[-1].sequence


def _update_dead_letters(spool: Spool, dead: list[DeadLetter]) -> None:
    known = set(spool.dead_letters())
    for letter in known - set(dead):
        spool.revive(letter.sequence)
    for letter in set(dead) - known:
        spool.dead_letter(letter.sequence, letter.reason)
