"""Reading the spool never blocks: a record is an event, a dead letter, or waits for an upgrade."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from feedback.events.codec import encode
from feedback.events.envelope import new_event
from feedback.events.erasure import SubjectErased
from feedback.events.examples import example_events
from feedback.ingest import read_record
from feedback.spool import Spool

NEWER = json.loads(encode(example_events()["ranking.submitted"])) | {
    "id": "newer",
    "dataschema": "urn:instructloop:events/ranking.submitted/2",
}


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    with Spool.open(tmp_path / "spool.sqlite3") as opened:
        yield opened


def append_examples(spool: Spool) -> None:
    for event in example_events().values():
        spool.append(event).result()


def test_every_event_comes_back_in_order_and_is_counted(spool: Spool) -> None:
    append_examples(spool)
    record = read_record(spool)
    assert list(record.events) == list(example_events().values())
    assert set(record.num_by_type.values()) == {1}
    assert (record.dead_letters, record.parked) == ((), ())


def test_a_malformed_record_goes_to_the_dead_letters_and_stops_nothing(spool: Spool) -> None:
    spool.append_encoded("bad", b'{"no": "event"}').result()
    append_examples(spool)
    record = read_record(spool)
    assert len(record.events) == 8
    assert [letter.sequence for letter in record.dead_letters] == [1]
    assert record.dead_letters[0].reason.startswith("malformed: ")
    assert spool.dead_letters() == list(record.dead_letters)
    assert record.num_records == 9


def test_a_record_whose_bytes_changed_is_a_dead_letter(tmp_path: Path) -> None:
    path = tmp_path / "changed.sqlite3"
    with Spool.open(path) as spool:
        spool.append(new_event(SubjectErased(pseudonym="abcdefgh" * 50), source="t")).result()
    content = path.read_bytes()
    path.write_bytes(content.replace(b"abcdefgh", b"abcdefgX", 1))
    with Spool.open(path) as spool:
        record = read_record(spool)
    assert record.events == ()
    assert record.dead_letters[0].reason.startswith("damaged")


def test_an_event_of_a_newer_release_is_parked_not_dead(spool: Spool) -> None:
    spool.append_encoded("newer", json.dumps(NEWER).encode()).result()
    append_examples(spool)
    record = read_record(spool)
    assert [waiting.sequence for waiting in record.parked] == [1]
    assert "version 2" in record.parked[0].reason
    assert len(record.events) == 8
    assert spool.dead_letters() == []


def test_what_was_a_dead_letter_leaves_once_it_can_be_read(spool: Spool) -> None:
    """After an upgrade that reads it, the record is an event again and no dead letter."""
    append_examples(spool)
    spool.dead_letter(3, "malformed: an older release did not know better")
    assert len(read_record(spool).events) == 8
    assert spool.dead_letters() == []


def test_a_read_only_spool_is_read_without_writing(tmp_path: Path) -> None:
    path = tmp_path / "spool.sqlite3"
    with Spool.open(path) as spool, Spool.open_reader(path) as reader:
        spool.append_encoded("bad", b"?").result()
        assert len(read_record(reader).dead_letters) == 1
        assert spool.dead_letters() == []


def test_more_records_than_one_page_are_all_read(spool: Spool) -> None:
    appended = [
        spool.append(new_event(SubjectErased(pseudonym=str(number)), source="test"))
        for number in range(2500)
    ]
    assert len({future.result() for future in appended}) == 2500
    assert read_record(spool).num_by_type == {"subject.erased": 2500}
