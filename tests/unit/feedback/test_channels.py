"""A channel only grows, one whole file at a time, whoever writes at the same moment."""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from feedback.channels import ChannelError, ChannelLog, channel_names


@pytest.fixture
def log(tmp_path: Path) -> ChannelLog:
    return ChannelLog(tmp_path, "stable")


@pytest.fixture
def pool() -> Iterator[ProcessPoolExecutor]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=8, mp_context=context) as executor:
        yield executor


def test_the_highest_sequence_is_current_and_all_are_history(log: ChannelLog) -> None:
    for number in range(12):  # beyond 9: sorted as numbers, not as text
        log.append(f"adapter-{number}", "ann", f"reason {number}")
    assert log.current().adapter_id == "adapter-11"
    assert [entry.sequence for entry in log.history()] == list(range(12))
    assert [entry.adapter_id for entry in log.history()] == [f"adapter-{n}" for n in range(12)]


def test_an_entry_says_who_why_and_when_in_utc(log: ChannelLog) -> None:
    written = log.append("adapter", "ann", "it is better")
    assert log.current() == written
    assert (written.by, written.reason) == ("ann", "it is better")
    assert written.at.utcoffset() is not None


def test_a_taken_sequence_is_never_replaced(log: ChannelLog) -> None:
    assert log.create(0, "first", "ann", "") is not None
    assert log.create(0, "second", "bob", "") is None
    assert log.current().adapter_id == "first"


def _append(channels: Path, name: str) -> int:
    return ChannelLog(channels, "stable").append(name, name, "race").sequence


def test_concurrent_promoters_all_get_sequences_of_their_own(
    pool: ProcessPoolExecutor, tmp_path: Path
) -> None:
    names = [f"writer-{number}" for number in range(24)]
    sequences = list(pool.map(_append, [tmp_path] * len(names), names))
    assert sorted(sequences) == list(range(24))
    history = ChannelLog(tmp_path, "stable").history()
    assert {entry.adapter_id for entry in history} == set(names)
    assert all(
        history[sequence].by == name for sequence, name in zip(sequences, names, strict=True)
    )


def test_what_a_crashed_writer_left_aside_is_not_seen(log: ChannelLog, tmp_path: Path) -> None:
    log.append("adapter", "ann", "")
    for name in (".0123.tmp", "1.json.tmp", "01.json", "x.json", "-1.json"):
        (tmp_path / "stable" / name).write_text('{"adapter_id": "tor')
    assert log.current().adapter_id == "adapter"
    assert len(log.history()) == 1
    assert log.append("next", "ann", "").sequence == 1


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"adapter_id": 3}'])
def test_a_damaged_newest_file_is_an_error_with_a_way_out_never_an_older_adapter(
    log: ChannelLog, tmp_path: Path, content: str
) -> None:
    log.append("adapter", "ann", "")
    (tmp_path / "stable" / "1.json").write_text(content)
    with pytest.raises(ChannelError, match="restore it from a backup, or remove it"):
        log.current()


def test_a_channel_without_entries_names_nothing(log: ChannelLog) -> None:
    assert log.history() == []
    with pytest.raises(ChannelError, match="promote one first"):
        log.current()


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "/etc", "A", "x" * 33, "a\n"])
def test_a_name_that_could_leave_the_directory_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ChannelError, match="not allowed"):
        ChannelLog(tmp_path, name)


def test_all_channels_are_listed_by_name(tmp_path: Path) -> None:
    assert channel_names(tmp_path / "absent") == []
    for name in ("stable", "candidate"):
        ChannelLog(tmp_path, name).append("adapter", "ann", "")
    assert channel_names(tmp_path) == ["candidate", "stable"]
