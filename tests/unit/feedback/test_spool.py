"""The spool keeps every event once, in order, and remembers how far each reader has come."""

from __future__ import annotations

import sqlite3
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing
from pathlib import Path

import pytest

from feedback.events.codec import MESSAGE_LIMIT_BYTES, decode
from feedback.events.envelope import Event, new_event
from feedback.events.erasure import SubjectErased
from feedback.spool import DeadLetter, Spool


def make_event(pseudonym: str = "p", key: str | None = None) -> Event:
    return new_event(SubjectErased(pseudonym=pseudonym), source="test", key=key)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "spool.sqlite3"


def test_events_come_back_in_the_order_of_their_sequence(path: Path) -> None:
    events = [make_event(str(number)) for number in range(20)]
    with Spool.open(path) as spool:
        sequences = [future.result() for future in [spool.append(event) for event in events]]
        records = spool.read()
    assert sequences == sorted(set(sequences))
    assert [decode(record.payload) for record in records] == events
    assert [record.sequence for record in records] == sequences


def test_a_duplicate_id_gets_the_first_sequence_and_is_not_written_again(path: Path) -> None:
    with Spool.open(path) as spool:
        first = spool.append(make_event("first", key="same")).result()
        spool.append(make_event()).result()
        assert spool.append(make_event("second", key="same")).result() == first
        assert len(spool.read()) == 2
        assert decode(spool.read()[0].payload).data == SubjectErased(pseudonym="first")


def test_duplicates_within_one_group_commit_share_a_sequence(path: Path) -> None:
    with Spool.open(path) as spool:
        futures = [spool.append(make_event(key="same")) for _ in range(100)]
        assert len({future.result() for future in futures}) == 1


def test_reading_pages_through_everything_once(path: Path) -> None:
    with Spool.open(path) as spool:
        wait([spool.append(make_event()) for _ in range(25)])
        seen: list[int] = []
        while page := spool.read(seen[-1] if seen else 0, limit=10):
            seen += [record.sequence for record in page]
        assert seen == list(range(1, 26))
        assert spool.last_sequence() == 25


def test_what_was_appended_is_there_after_reopening(path: Path) -> None:
    with Spool.open(path) as spool:
        spool.append(make_event("kept"))
    with Spool.open(path) as spool:
        assert decode(spool.read()[0].payload).data == SubjectErased(pseudonym="kept")


def test_many_threads_append_without_losing_or_doubling(path: Path) -> None:
    with Spool.open(path) as spool, ThreadPoolExecutor(8) as threads:
        sequences = list(threads.map(lambda _: spool.append(make_event()).result(), range(400)))
        assert sorted(sequences) == list(range(1, 401))


def test_two_open_spools_share_one_file(path: Path) -> None:
    with Spool.open(path) as one, Spool.open(path) as other:
        sequences = [spool.append(make_event()).result() for spool in (one, other) * 10]
        assert sequences == list(range(1, 21))
        assert len(one.read()) == len(other.read()) == 20


def test_a_cancelled_future_does_not_take_the_event_back(path: Path) -> None:
    """A client that hangs up has still voted."""
    with Spool.open(path) as spool:
        for number in range(50):
            spool.append(make_event(str(number))).cancel()
        spool.append(make_event()).result()
        assert len(spool.read()) == 51


def test_a_cursor_starts_at_zero_and_never_moves_back(path: Path) -> None:
    with Spool.open(path) as spool:
        assert spool.cursor("ingested") == 0
        spool.advance("ingested", 7)
        spool.advance("ingested", 3)
        assert spool.cursor("ingested") == 7
        assert spool.cursor("forwarded") == 0
    with Spool.open(path) as spool:
        assert spool.cursor("ingested") == 7


def test_dead_letters_keep_their_reason_and_can_be_revived(path: Path) -> None:
    with Spool.open(path) as spool:
        spool.append(make_event()).result()
        spool.dead_letter(1, "first reason")
        spool.dead_letter(1, "better reason")
        assert spool.dead_letters() == [DeadLetter(1, "better reason")]
        assert len(spool.read()) == 1
        spool.revive(1)
        assert spool.dead_letters() == []


def test_a_reader_sees_what_a_writer_appends_and_cannot_write(path: Path) -> None:
    with Spool.open(path) as spool, Spool.open_reader(path) as reader:
        spool.append(make_event()).result()
        assert len(reader.read()) == 1
        assert reader.is_read_only
        with pytest.raises(ValueError, match="read-only"):
            reader.append(make_event())
        with pytest.raises(ValueError, match="read-only"):
            reader.advance("ingested", 1)


def test_a_reader_needs_an_existing_spool(path: Path) -> None:
    with pytest.raises(ValueError, match=r"spool\.sqlite3 does not exist"):
        Spool.open_reader(path)


def test_closing_makes_queued_appends_durable_and_refuses_later_ones(path: Path) -> None:
    spool = Spool.open(path)
    futures = [spool.append(make_event()) for _ in range(200)]
    spool.close()
    assert all(isinstance(future, Future) and future.done() for future in futures)
    with pytest.raises(ValueError, match="closed"):
        spool.append(make_event())
    spool.close()


def test_an_event_over_the_message_limit_is_refused_before_it_is_queued(path: Path) -> None:
    with Spool.open(path) as spool, pytest.raises(ValueError, match="fit_to_limit"):
        spool.append(make_event("x" * MESSAGE_LIMIT_BYTES))


def test_a_commit_is_synced_in_full_and_write_ahead(path: Path) -> None:
    """Read from the writing connection itself: pragmas are per connection."""
    with Spool.open(path) as spool:
        assert spool._committer is not None
        actual = spool._committer.submit(_read_pragmas).result()
    assert actual == ["wal", 2]


def _read_pragmas(connection: sqlite3.Connection) -> list[object]:
    names = ("journal_mode", "synchronous")
    return [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names]


def test_a_failed_write_reaches_its_callers_and_the_next_one_succeeds(path: Path) -> None:
    def fail(_: sqlite3.Connection) -> int:
        raise sqlite3.OperationalError("disk I/O error")

    with Spool.open(path) as spool:
        assert spool._committer is not None
        with pytest.raises(sqlite3.OperationalError, match="disk I/O"):
            spool._committer.submit(fail).result()
        assert spool.append(make_event()).result() == 1


def test_a_sqlite_file_of_somebody_else_is_refused(path: Path) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE other (x)")
        connection.commit()
    with pytest.raises(ValueError, match="no spool"):
        Spool.open(path)


def test_a_spool_of_a_newer_release_is_refused(path: Path) -> None:
    Spool.open(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 2")
    with pytest.raises(ValueError, match="upgrade"):
        Spool.open(path)
