"""Real human rankings go from file to held-out accuracy through the commands a person would use."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_llama import save_tiny_llama

from instructloop.cli import main

OASST = Path(__file__).resolve().parents[3] / "shared" / "data" / "oasst"
NUM_RANKINGS = 12

pytestmark = pytest.mark.shared_data


@pytest.fixture
def rankings(tmp_path: Path) -> Path:
    """The first few rankings of the data set."""
    whole = OASST / "rankings.jsonl"
    if not whole.is_file():
        pytest.skip("the public data sets are not staged beside the checkout")
    few = tmp_path / "rankings.jsonl"
    lines = whole.read_text(encoding="utf-8").split("\n")[:NUM_RANKINGS]
    few.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return few


def run(*arguments: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code in (0, None)


def test_imported_rankings_are_cross_validated_by_tree_against_length(
    rankings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [json.loads(line) for line in rankings.read_text().split("\n") if line]
    data_dir = str(tmp_path / "data")
    base = str(save_tiny_llama(tmp_path / "tiny", max_position_embeddings=1024))
    run("import", "oasst", str(rankings), "--data-dir", data_dir)
    capsys.readouterr()
    options = ["--data-dir", data_dir, "--base", base, "--dtype", "float32", "--preset", "quick"]
    run("train", "rm", "--folds", "3", *options, "--json")
    found = json.loads(capsys.readouterr().out)
    assert found["num_rankings"] == found["accounts"]["num_rows"] == NUM_RANKINGS
    assert found["num_conversations"] == len({row["tree_id"] for row in rows})
    # No ties in this data set: every pair of replies is a comparison.
    assert found["num_comparisons"] == sum(row["k"] * (row["k"] - 1) // 2 for row in rows)
    assert found["accounts"]["excluded"] == {}
    assert found["longer"]["estimate"] == pytest.approx(_longer(rows))
    for rate in ("accuracy", "longer", "shorter"):
        assert found[rate]["low"] <= found[rate]["estimate"] <= found[rate]["high"]
    difference = found["accuracy"]["estimate"] - found["longer"]["estimate"]
    assert found["over_longer"]["estimate"] == pytest.approx(difference)
    assert len(found["folds"]) == 3


def _longer(rows: list[dict]) -> float:  # type: ignore[type-arg]
    """How often the better reply is the longer one, by hand."""
    outcomes = []
    for row in rows:
        replies = sorted(row["replies"], key=lambda reply: reply["rank"])
        for place, better in enumerate(replies):
            for worse in replies[place + 1 :]:
                one, other = len(better["text"]), len(worse["text"])
                outcomes.append(0.5 if one == other else float(one > other))
    return sum(outcomes) / len(outcomes)
