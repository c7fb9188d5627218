"""`instructloop dataset`: every vote is accounted for, and equal events give the same snapshot."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from instructloop.cli import main

Command = Callable[..., tuple[int, Any]]


@pytest.fixture
def command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command line on a data directory; return the status and the JSON, or the error line."""

    def run(*arguments: str, data_dir: Path = tmp_path / "data") -> tuple[int, Any]:
        with pytest.raises(SystemExit) as ended:
            main([*arguments, "--json", "--data-dir", str(data_dir)])
        out, err = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, json.loads(out) if out else err

    return run


@pytest.fixture
def rankings(tmp_path: Path) -> Path:
    """Twenty trees with one three-way ranking each."""
    rows = [
        {
            "tree_id": f"t{tree}",
            "prompt_message_id": f"p{tree}",
            "context": [{"role": "prompter", "text": f"Question {tree}?"}],
            "replies": [
                {"message_id": f"m{tree}-{rank}", "text": f"answer {rank}", "rank": rank}
                for rank in range(3)
            ],
        }
        for tree in range(20)
    ]
    path = tmp_path / "rankings.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def test_imported_votes_are_all_in_the_snapshot(command: Command, rankings: Path) -> None:
    assert command("import", "oasst", str(rankings))[0] == 0
    status, facts = command("dataset", "build")
    assert status == 0
    assert (facts["votes_sent"], facts["votes_in_dataset"], facts["votes_lost"]) == (20, 20, 0)
    assert facts["labelers_disjoint"]
    assert facts["authors_disjoint"]
    assert facts["dead_letters"] == 0


def test_the_same_events_give_the_same_snapshot(
    command: Command, rankings: Path, tmp_path: Path
) -> None:
    ids = set()
    for data_dir in (tmp_path / "one", tmp_path / "two", tmp_path / "one"):
        command("import", "oasst", str(rankings), data_dir=data_dir)
        ids.add(command("dataset", "build", data_dir=data_dir)[1]["id"])
    assert len(ids) == 1


def test_show_lists_snapshots_and_opens_one(command: Command, rankings: Path) -> None:
    command("import", "oasst", str(rankings))
    assert command("dataset", "show") == (0, [])
    _, built = command("dataset", "build")
    [row] = command("dataset", "show")[1]
    assert (row["id"], row["rankings"]) == (built["id"], 20)
    _, shown = command("dataset", "show", built["id"])
    assert shown["votes_in_dataset"] == 20


@pytest.mark.parametrize("name", ["../secrets", "snapshot-0", "snapshot-0123456789abcdef"])
def test_what_is_no_snapshot_is_refused(command: Command, tmp_path: Path, name: str) -> None:
    (tmp_path / "data").mkdir()
    status, error = command("dataset", "show", name)
    assert status == 1
    assert name in error


def test_without_a_record_there_is_nothing_to_build(command: Command, tmp_path: Path) -> None:
    assert command("dataset", "build")[0] == 1
    (tmp_path / "data").mkdir()
    assert command("dataset", "build")[0] == 1
    assert list((tmp_path / "data").iterdir()) == []
