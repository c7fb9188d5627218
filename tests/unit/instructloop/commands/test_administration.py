"""`instructloop spool salvage`: what can be read comes back, what cannot is named."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from feedback.events.envelope import new_event
from feedback.events.erasure import SubjectErased
from feedback.spool import Spool
from instructloop.cli import main


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["spool", "salvage", *arguments, "--json"])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_readable_events_come_back_and_lost_ones_are_numbered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged, data_dir = tmp_path / "moved" / "spool.sqlite3", tmp_path / "data"
    with Spool.open(damaged) as spool:
        for number in range(3):
            spool.append(new_event(SubjectErased(pseudonym=f"p{number}"), source="test")).result()
    with closing(sqlite3.connect(damaged)) as connection, connection:
        connection.execute("UPDATE events SET payload = X'00' WHERE sequence = 2")
    assert run(str(damaged), "--data-dir", str(data_dir)) == 0
    assert json.loads(capsys.readouterr().out) == {"recovered": 2, "lost_sequences": [2]}
    with Spool.open_reader(data_dir / "spool.sqlite3") as spool:
        assert len(spool.read()) == 2


def test_the_spool_in_use_is_not_salvaged_into_itself(tmp_path: Path) -> None:
    Spool.open(tmp_path / "spool.sqlite3").close()
    assert run(str(tmp_path / "spool.sqlite3"), "--data-dir", str(tmp_path)) == 1
    assert run(str(tmp_path / "absent"), "--data-dir", str(tmp_path)) == 1
