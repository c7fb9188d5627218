"""Imported events are counted when they are on disk, once each; a failed write is not success."""

from concurrent.futures import Future
from datetime import UTC, datetime

import pytest

from feedback.events.envelope import Event, new_event
from feedback.events.erasure import SubjectErased
from feedback.imports.appending import MAX_PENDING, append_events


class GroupingLog:
    """Keeps futures open until somebody waits for one, like a group commit; can fail."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.sequences: dict[str, int] = {}
        self.num_pending_max = 0
        self._open: list[tuple[Future[int], int]] = []
        self._failure = failure

    def last_sequence(self) -> int:
        return len(self.sequences)

    def append(self, event: Event) -> Future[int]:
        sequence = self.sequences.setdefault(event.id, len(self.sequences) + 1)
        stored = WaitedFor(self)
        self._open.append((stored, sequence))
        self.num_pending_max = max(self.num_pending_max, len(self._open))
        return stored

    def commit(self) -> None:
        for stored, sequence in self._open:
            if self._failure:
                stored.set_exception(self._failure)
            else:
                stored.set_result(sequence)
        self._open.clear()


class WaitedFor(Future[int]):
    def __init__(self, log: GroupingLog) -> None:
        super().__init__()
        self._log = log

    def result(self, timeout: float | None = None) -> int:
        if not self.done():
            self._log.commit()
        return super().result(timeout)


def events(count: int) -> list[Event]:
    time = datetime(2026, 1, 1, tzinfo=UTC)
    return [
        new_event(SubjectErased(pseudonym=f"p{i}"), source="test", key=f"id-{i}", time=time)
        for i in range(count)
    ]


def test_all_events_are_counted_after_they_are_stored() -> None:
    num_stored = 0

    def count_one() -> None:
        nonlocal num_stored
        num_stored += 1

    counts = append_events(events(3000), GroupingLog(), count_one)
    assert counts.num_new == {"subject.erased": 3000}
    assert (counts.num_known, num_stored) == (0, 3000)


def test_a_second_import_adds_nothing_and_says_so() -> None:
    log = GroupingLog()
    append_events(events(10), log)
    counts = append_events(events(12), log)
    assert counts.num_new == {"subject.erased": 2}
    assert counts.num_known == 10
    assert append_events(events(12), log).num_new == {}


def test_the_number_of_events_in_flight_is_bounded() -> None:
    log = GroupingLog()
    append_events(events(3 * MAX_PENDING), log)
    assert log.num_pending_max <= MAX_PENDING


def test_a_write_that_failed_is_raised() -> None:
    with pytest.raises(OSError, match="disk is full"):
        append_events(events(2), GroupingLog(OSError("disk is full")))
