"""report.json: every figure of one run by name; knows how nothing was measured."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from instructloop.demo import arms as names
from instructloop.demo.findings import Findings
from instructloop.demo.measurement import JUDGE, Arm, WinRate
from instructloop.demo.prompts import DemoPrompt
from instructloop.demo.replay import Replay
from instructloop.demo.steps import Votes
from instructloop.demo.swap import Swap
from instructloop.demo.trainer_process import Refreshed

NUM_SHOWN = 6


@dataclass(frozen=True, slots=True)
class Requests:
    """What went over HTTP, everybody together."""

    num_total: int
    failures: tuple[str, ...]
    num_streamed: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """Everything that one run of the demo found."""

    model: str
    votes: Votes
    refreshed: Refreshed
    first_swap: Swap
    last_swap: Swap | None
    findings: Findings
    arms: Mapping[str, Arm]
    prompts: Sequence[DemoPrompt]
    replay: Replay
    requests: Requests
    wall_seconds: float


def report_of(outcome: Outcome, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the report: plain values, one name each; win rates name their judge."""
    return {
        **_headline(outcome),
        **_training(outcome.refreshed),
        **_serving(outcome),
        **_votes(outcome.votes),
        "wall_seconds": round(outcome.wall_seconds, 1),
        "model": outcome.model,
        "settings": dict(settings),
        "is_simulated": True,
        "win_rates": [asdict(rate) for rate in outcome.findings.win_rates],
        "arms": [asdict(quality) for quality in outcome.findings.qualities],
        "guards": [asdict(guard) for guard in outcome.findings.guards],
        "samples": samples_of(outcome),
    }


def problems_of(outcome: Outcome, *, is_placebo: bool) -> list[str]:
    """List what must not happen, whatever came out: empty if the loop held."""
    problems = []
    if failures := outcome.requests.failures:
        problems.append(f"{len(failures)} requests failed, the first: {failures[0]}")
    if lost := outcome.votes.account.lost:
        problems.append(f"{lost} acknowledged votes are lost")
    if mixed := outcome.replay.num_mixed:
        problems.append(f"{mixed} answers do not come from the version that they name")
    if is_placebo and outcome.refreshed.passed:
        problems.append("the gate let a policy pass that was trained on shuffled rankings")
    return problems


def samples_of(outcome: Outcome) -> list[dict[str, str]]:
    """Return the first held-out prompts with the first answers, whatever they are."""
    shown = [names.SFT, *([names.PPO] if names.PPO in outcome.arms else [])]
    return [
        {"prompt": prompt.text}
        | {arm: outcome.arms[arm][prompt.id][0].text.strip() for arm in shown}
        for prompt in outcome.prompts[:NUM_SHOWN]
    ]


def write_report(report: Mapping[str, Any], directory: Path) -> Path:
    """Write report.json."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "report.json"
    path.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def _headline(outcome: Outcome) -> dict[str, Any]:
    findings = outcome.findings
    headline = findings.win_rate(names.PPO, names.SFT)
    best = findings.win_rate(names.PPO, findings.sft_best)
    same = findings.win_rate(findings.ppo_same, findings.sft_best)
    over_base = findings.win_rate(names.SFT, names.BASE)
    return {
        "win_rate_judge": JUDGE,
        "win_rate_ppo_vs_sft": _of(headline, "rate"),
        "win_rate_low": _of(headline, "low"),
        "win_rate_high": _of(headline, "high"),
        "win_rate_length_controlled": _of(headline, "length_controlled"),
        "win_rate_ppo_vs_sft_best": _of(best, "rate"),
        "win_rate_ppo_vs_sft_best_low": _of(best, "low"),
        "win_rate_ppo_vs_sft_at_its_best": _of(same, "rate"),
        "win_rate_ppo_vs_sft_at_its_best_low": _of(same, "low"),
        "sft_best": findings.sft_best,
        "win_rate_sft_vs_base": _of(over_base, "rate"),
    }


def _training(refreshed: Refreshed) -> dict[str, Any]:
    accuracy = refreshed.rm_accuracy
    return {
        "rm_accuracy": accuracy.estimate,
        "rm_accuracy_low": accuracy.low,
        "rm_accuracy_high": accuracy.high,
        "kl_nats": refreshed.kl_nats,
        "gate_passed": refreshed.passed,
        "gate_reasons": list(refreshed.reasons),
        "adapters": dict(refreshed.adapters),
        "snapshot_id": refreshed.snapshot_id,
    }


def _serving(outcome: Outcome) -> dict[str, Any]:
    swapped = outcome.last_swap
    return {
        "requests_total": outcome.requests.num_total,
        "requests_failed": len(outcome.requests.failures),
        "requests_streamed": outcome.requests.num_streamed,
        "requests_mixed_versions": outcome.replay.num_mixed,
        "choices_served": outcome.replay.num_served,
        "choices_audited": outcome.replay.num_audited,
        "choices_inseparable": outcome.replay.num_inseparable,
        "choices_unaudited": outcome.replay.unaudited,
        "promoted": None if swapped is None else swapped.adapter_id,
        "swap_seconds": None if swapped is None else round(swapped.seconds, 3),
        "swap_seconds_sft": round(outcome.first_swap.seconds, 3),
    }


def _votes(votes: Votes) -> dict[str, Any]:
    account = votes.account
    return {
        "votes_sent": account.sent,
        "votes_in_dataset": account.in_dataset,
        "votes_excluded": account.excluded,
        "votes_unjoined": account.unjoined,
        "votes_lost": account.lost,
    }


def _of(rate: WinRate | None, name: str) -> float | None:
    return None if rate is None else round(float(getattr(rate, name)), 4)
