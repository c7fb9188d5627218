"""A damaged spool says which file, what to do and what is lost; a torn end is no damage."""

from __future__ import annotations

import random
import shutil
from concurrent.futures import wait
from pathlib import Path

import pytest

from feedback.events.codec import decode
from feedback.events.envelope import new_event
from feedback.events.erasure import SubjectErased
from feedback.spool import Spool, SpoolCorrupt
from feedback.spool_salvage import salvage

WAL_HEADER_BYTES = 32
FRAME_BYTES = 24 + 4096


@pytest.fixture
def crashed(tmp_path: Path) -> Path:
    """The files of a spool as a crash leaves them: ten commits still in the log."""
    live = tmp_path / "live" / "spool.sqlite3"
    with Spool.open(live) as spool:
        for number in range(10):
            spool.append(new_event(SubjectErased(pseudonym=str(number)), source="test")).result()
        copy = tmp_path / "crashed"
        copy.mkdir()
        for name in ("spool.sqlite3", "spool.sqlite3-wal"):
            shutil.copy(live.with_name(name), copy / name)
    return copy / "spool.sqlite3"


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    """A spool of 300 events, all in the main file."""
    path = tmp_path / "closed" / "spool.sqlite3"
    with Spool.open(path) as spool:
        wait(
            spool.append(new_event(SubjectErased(pseudonym="x" * 500), source="test"))
            for _ in range(300)
        )
    return path


def _overwrite(path: Path, offset: int, content: bytes = b"\xff" * 16) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(content)


def _wal(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def _num_events(path: Path) -> int:
    with Spool.open(path) as spool:
        records = spool.read()
        assert all(record.is_intact for record in records)
        return len(records)


def test_a_crash_loses_nothing_that_was_committed(crashed: Path) -> None:
    assert _num_events(crashed) == 10


def test_a_log_cut_at_any_byte_opens_with_a_prefix_of_the_events(crashed: Path) -> None:
    """What a crash in the middle of a write leaves: never an error, never a hole."""
    size_bytes = _wal(crashed).stat().st_size
    cuts = [*sorted(random.Random(1).sample(range(size_bytes), 25)), size_bytes]
    counts = []
    for cut in cuts:
        copy = crashed.parent / str(cut) / crashed.name
        copy.parent.mkdir()
        shutil.copy(crashed, copy)
        _wal(copy).write_bytes(_wal(crashed).read_bytes()[:cut])
        with Spool.open(copy) as spool:
            texts = [decode(record.payload).data for record in spool.read()]
        assert texts == [SubjectErased(pseudonym=str(number)) for number in range(len(texts))]
        counts.append(len(texts))
    assert counts == sorted(counts)
    assert counts[-1] == 10


@pytest.mark.parametrize("offset", [0, 20, WAL_HEADER_BYTES + 10, WAL_HEADER_BYTES + 2000])
def test_damage_in_front_of_synced_commits_is_reported_not_skipped(
    crashed: Path, offset: int
) -> None:
    """SQLite alone would open such a file with the events behind the damage silently gone."""
    _overwrite(_wal(crashed), offset)
    with pytest.raises(SpoolCorrupt, match=r"spool\.sqlite3-wal is damaged .* lie behind"):
        Spool.open(crashed)
    with pytest.raises(SpoolCorrupt):
        Spool.open_reader(crashed)


def test_a_torn_last_transaction_is_not_damage(crashed: Path) -> None:
    _overwrite(_wal(crashed), _wal(crashed).stat().st_size - 100)
    assert _num_events(crashed) == 9


def test_a_log_without_its_main_file_is_reported(crashed: Path) -> None:
    """SQLite alone would make a new file and delete the log with every event in it."""
    crashed.unlink()
    with pytest.raises(SpoolCorrupt, match="missing or empty"):
        Spool.open(crashed)
    crashed.touch()
    with pytest.raises(SpoolCorrupt, match="missing or empty"):
        Spool.open(crashed)
    assert _wal(crashed).stat().st_size > 0


def test_a_file_that_is_no_sqlite_file_is_reported(closed: Path) -> None:
    _overwrite(closed, 0)
    with pytest.raises(SpoolCorrupt, match="does not begin as a SQLite file"):
        Spool.open(closed)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_main_file_cut_short_is_reported(closed: Path, share: float) -> None:
    content = closed.read_bytes()
    closed.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(SpoolCorrupt, match=r"spool\.sqlite3 is damaged"):
        Spool.open(closed)


def test_a_scrambled_page_is_reported(closed: Path) -> None:
    _overwrite(closed, 10 * 4096, b"\xff" * 4096)
    with pytest.raises(SpoolCorrupt, match=r"spool\.sqlite3 is damaged"):
        Spool.open(closed)


def test_the_message_names_the_way_out_and_what_is_lost(closed: Path) -> None:
    _overwrite(closed, 0)
    with pytest.raises(SpoolCorrupt) as refused:
        Spool.open(closed)
    message = str(refused.value)
    assert str(closed) in message
    for said in ("Way out", "move", "-wal", "-shm", "instructloop spool salvage", "lost"):
        assert said in message


def test_bytes_that_changed_inside_an_event_are_noticed(closed: Path) -> None:
    """SQLite does not checksum its pages; the spool does its payloads."""
    place = closed.read_bytes().index(b"x" * 400)
    _overwrite(closed, place + 100, b"y")
    with Spool.open(closed) as spool:
        assert [record.is_intact for record in spool.read()].count(False) == 1


def test_the_way_out_works_and_brings_back_what_can_be_read(closed: Path, tmp_path: Path) -> None:
    """Scramble one page, move the files aside, start anew, salvage: all but that page is back."""
    _overwrite(closed, 10 * 4096, b"\xff" * 4096)
    aside = tmp_path / "aside"
    closed.parent.rename(aside)
    with Spool.open(closed) as fresh:
        result = salvage(aside / closed.name, fresh)
        assert result.num_recovered == len(fresh.read()) > 250
        assert result.num_recovered + len(result.lost_sequences) == 300
        assert salvage(aside / closed.name, fresh) == result
        assert len(fresh.read()) == result.num_recovered


def test_salvage_leaves_the_evidence_as_it_is(crashed: Path, tmp_path: Path) -> None:
    """What lies behind the damage in a log may still be wanted by a person with better tools."""
    _overwrite(_wal(crashed), _wal(crashed).stat().st_size - 3 * FRAME_BYTES)
    before = [path.read_bytes() for path in (crashed, _wal(crashed))]
    with Spool.open(tmp_path / "fresh" / "spool.sqlite3") as fresh:
        assert salvage(crashed, fresh).num_recovered >= 5
    assert [path.read_bytes() for path in (crashed, _wal(crashed))] == before


def test_what_tells_nothing_cannot_be_salvaged(tmp_path: Path) -> None:
    (tmp_path / "noise").write_bytes(b"\xff" * 10_000)
    with (
        Spool.open(tmp_path / "spool.sqlite3") as fresh,
        pytest.raises(ValueError, match="cannot be salvaged"),
    ):
        salvage(tmp_path / "noise", fresh)
