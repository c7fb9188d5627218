"""Imported events are counted when they are on disk, and a failed write is not success."""

from concurrent.futures import Future
from datetime import UTC, datetime

import pytest

from feedback.events.envelope import Event, new_event
from feedback.events.erasure import SubjectErased
from feedback.imports import appending


class SlowLog:
    """Keeps every future open until `flush`, like a group commit; can fail."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.events: list[Event] = []
        self.num_pending_max = 0
        self._open: list[Future[int]] = []
        self._failure = failure

    def append(self, event: Event) -> Future[int]:
        self.events.append(event)
        stored = _FlushingFuture(self)
        self._open.append(stored)
        self.num_pending_max = max(self.num_pending_max, len(self._open))
        return stored

    def flush(self) -> None:
        for stored in self._open:
            if self._failure:
                stored.set_exception(self._failure)
            else:
                stored.set_result(len(self.events))
        self._open.clear()


class _FlushingFuture(Future[int]):
    def __init__(self, log: SlowLog) -> None:
        super().__init__()
        self._log = log

    def result(self, timeout: float | None = None) -> int:
        if not self.done():
            self._log.flush()
        return super().result(timeout)


def events(count: int) -> list[Event]:
    data = [SubjectErased(pseudonym=f"p{i}", reason="asked") for i in range(count)]
    return [new_event(one, source="test", time=datetime(2026, 1, 1, tzinfo=UTC)) for one in data]


def test_all_events_are_counted_in_order_after_they_are_stored() -> None:
    log, stored = SlowLog(), []
    sent = events(3000)
    counts = appending.append_events(sent, log, on_stored=lambda: stored.append(1))
    assert counts == {"subject.erased": 3000}
    assert (log.events, len(stored)) == (sent, 3000)


def test_the_number_of_events_in_flight_is_bounded() -> None:
    log = SlowLog()
    appending.append_events(events(5000), log)
    assert log.num_pending_max <= appending.MAX_PENDING


def test_a_write_that_failed_is_raised() -> None:
    with pytest.raises(OSError, match="disk is full"):
        appending.append_events(events(2), SlowLog(OSError("disk is full")))
