"""One refresh: snapshot -> SFT -> reward models -> PPO -> gate -> card (InstructGPT figure 2).

It reads as the method; what a stage does is in `stages`, how it is cached and published in
`workshop`, how the candidate is judged in `judgement`.
Launch: `instructloop train refresh --data-dir DIR`.

Each refresh trains the reward model on all eligible votes and PPO from `init` anew; the KL anchor
never moves to a PPO adapter.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

from feedback.record_snapshot import snapshot_record
from feedback.snapshot_rows import Snapshot
from feedback.snapshots import permute_rankings, write_snapshot
from policy.pretrained import DtypeName
from trainer.judgement import Roles, judge_candidate
from trainer.material import Need
from trainer.progress import Stages
from trainer.refresh_settings import RefreshSettings
from trainer.stages import Refresh
from trainer.workshop import Workshop


@dataclass(frozen=True, slots=True)
class RefreshRequest:
    """What to refresh, from what, how; `is_placebo` permutes the rankings on purpose."""

    data_dir: Path
    settings: RefreshSettings
    base: str = "smollm2"
    dtype: DtypeName = "auto"
    seed: int = 0
    is_placebo: bool = False


@dataclass(frozen=True, slots=True)
class RefreshResult:
    """What came of it: adapter ids by role, the gate's word and where the card lies."""

    snapshot_id: str
    adapters: dict[str, str]
    passed: bool
    reasons: tuple[str, ...]
    card_dir: str
    metrics: dict[str, Any]


def run_refresh(request: RefreshRequest, stages: Stages) -> RefreshResult:
    """Train, publish and judge; the same inputs give the same adapters.

    Raises:
        ValueError: with what is missing (no demonstrations, votes or prompts, another base), before
            anything is trained.
    """
    started = time.monotonic()
    refresh = _open(request, stages, get_args(Need))
    sft, init = refresh.supervised("sft"), refresh.supervised("init")
    reward, judge = refresh.reward("rm", sft), refresh.reward("judge", sft)
    policy = refresh.policy(init, reward)
    results = {"sft": sft, "init": init, "rm": reward, "judge": judge, "ppo": policy}
    roles = Roles(
        **{name: result.adapter_id for name, result in results.items()},
        value=policy.figures["value_adapter"],
    )
    stage_figures = {name: result.figures for name, result in results.items()}
    judgement = judge_candidate(refresh, roles, stage_figures, time.monotonic() - started)
    return RefreshResult(
        snapshot_id=refresh.material.snapshot.id,
        adapters=asdict(roles),
        passed=judgement.passed,
        reasons=judgement.reasons,
        card_dir=str(judgement.card_dir),
        metrics=judgement.metrics,
    )


def run_supervised(request: RefreshRequest, stages: Stages) -> dict[str, str]:
    """Train and publish `sft` and `init` only; return their ids by role."""
    refresh = _open(request, stages, ["demonstrations"])
    sft, init = refresh.supervised("sft"), refresh.supervised("init")
    return {"sft": sft.adapter_id, "init": init.adapter_id}


def run_reward(request: RefreshRequest, stages: Stages) -> dict[str, str]:
    """Train and publish up to the two reward models; return their ids by role."""
    refresh = _open(request, stages, ["demonstrations", "votes"])
    sft = refresh.supervised("sft")
    reward, judge = refresh.reward("rm", sft), refresh.reward("judge", sft)
    return {"sft": sft.adapter_id, "rm": reward.adapter_id, "judge": judge.adapter_id}


def open_snapshot(request: RefreshRequest) -> tuple[Workshop, Snapshot]:
    """Load the base, then build the snapshot of the record as it stands."""
    workshop = Workshop.open(request.data_dir, request.base, request.dtype)
    snapshot = snapshot_record(request.data_dir).snapshot
    return workshop, _placebo(snapshot, request) if request.is_placebo else snapshot


def _open(request: RefreshRequest, stages: Stages, needs: Collection[Need]) -> Refresh:
    workshop, snapshot = open_snapshot(request)
    refresh = Refresh(workshop, snapshot, request.settings, request.seed, stages)
    refresh.material.require(needs)
    return refresh


def _placebo(snapshot: Snapshot, request: RefreshRequest) -> Snapshot:
    permuted = permute_rankings(snapshot, request.seed)
    write_snapshot(permuted, request.data_dir)
    return permuted
