"""`instructloop import oasst`: events on disk, counted; all files or none; twice adds nothing."""

import json
from pathlib import Path
from typing import Any

import pytest

from feedback.events.codec import decode
from feedback.events.ranking import RankingSubmitted
from feedback.spool import Spool
from instructloop.cli import main


def ranking_file(directory: Path, *prompts: str) -> Path:
    rows = [
        {
            "tree_id": "t",
            "prompt_message_id": prompt,
            "context": [{"role": "prompter", "text": prompt}],
            "replies": [
                {"message_id": f"{prompt}-{rank}", "text": f"answer {rank}", "rank": rank}
                for rank in range(3)
            ],
        }
        for prompt in prompts
    ]
    path = directory / "rankings.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["import", "oasst", *arguments, "--json"])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_votes_are_on_disk_and_a_second_run_adds_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, data_dir = ranking_file(tmp_path, "a", "b"), tmp_path / "data"
    counts: list[dict[str, Any]] = []
    for _ in range(2):
        assert run(str(path), "--data-dir", str(data_dir)) == 0
        counts.append(json.loads(capsys.readouterr().out))
    assert counts == [
        {"events": 4, "completion.served": 2, "ranking.submitted": 2, "already_there": 0},
        {"events": 4, "already_there": 4},
    ]
    with Spool.open_reader(data_dir / "spool.sqlite3") as spool:
        events = [decode(record.payload) for record in spool.read()]
    assert sum(isinstance(event.data, RankingSubmitted) for event in events) == 2


def test_one_bad_file_leaves_nothing_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = ranking_file(tmp_path, "a"), tmp_path / "bad.jsonl"
    bad.write_text('\n{"tree_id": 3}')
    assert run(str(good), str(bad), "--data-dir", str(tmp_path / "data")) == 1
    assert f"{bad}, line 2: tree_id" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()
