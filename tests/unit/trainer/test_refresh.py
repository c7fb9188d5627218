"""A refresh goes from votes to a judged adapter, once: whatever stops it, the rerun ends the same.

On a tiny base, with a record of a few events and settings of a few steps.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from refresh_story import SETTINGS, record, story
from tiny_llama import save_tiny_llama

from feedback.registry import Registry
from feedback.snapshots import load_manifest, snapshot_path
from trainer.progress import Report
from trainer.refresh import (
    RefreshRequest,
    RefreshResult,
    run_refresh,
    run_reward,
    run_supervised,
)
from trainer.refresh_settings import RefreshSettings

ROOT = Path(__file__).resolve().parents[3]
ROLES = {"sft": "sft", "init": "init", "rm": "rm", "judge": "rm", "value": "value", "ppo": "ppo"}
EVERY_STAGE = ["sft", "init", "rm", "judge", "ppo", "gate"]


@dataclass
class Recorder:
    """Which stages trained, and which steps each of them took."""

    begun: list[str] = field(default_factory=list)
    steps: dict[str, list[int]] = field(default_factory=dict)

    def begin(self, name: str) -> Report:
        self.begun.append(name)
        steps = self.steps.setdefault(name, [])

        def report(step: int, num_steps: int, figures: Mapping[str, float]) -> None:
            steps.append(step)

        return report


@dataclass(frozen=True)
class Run:
    """One finished refresh with its directory."""

    data_dir: Path
    base: Path
    result: RefreshResult
    stages: Recorder

    @property
    def registry(self) -> Registry:
        return Registry.open(self.data_dir)


def refresh(
    data_dir: Path, base: Path, settings: RefreshSettings = SETTINGS, **changes: Any
) -> Run:
    stages = Recorder()
    request = RefreshRequest(data_dir, settings, str(base), "float32", **changes)
    return Run(data_dir, base, run_refresh(request, stages), stages)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INSTRUCTLOOP_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield save_tiny_llama(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture(scope="module")
def first(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return refresh(record(tmp_path_factory.mktemp("first"), story(base)), base)


def test_it_publishes_an_adapter_of_every_role_with_its_parents(first: Run) -> None:
    adapters, registry = first.result.adapters, first.registry
    assert first.stages.begun == EVERY_STAGE
    assert {role: adapter.partition("-")[0] for role, adapter in adapters.items()} == ROLES
    assert adapters["rm"] != adapters["judge"]
    for adapter in adapters.values():
        registry.verify(adapter)
        assert registry.adapter(adapter).manifest.snapshot_id == first.result.snapshot_id
    for role in ("rm", "judge", "value"):
        assert registry.adapter(adapters[role]).head_path is not None
    assert registry.adapter(adapters["rm"]).manifest.parents == {"sft": adapters["sft"]}
    # The anchor of the KL is `init`, and so is the start.
    expected = {"init": adapters["init"], "ref": adapters["init"], "rm": adapters["rm"]}
    assert registry.adapter(adapters["ppo"]).manifest.parents == expected


def test_it_ends_with_a_card_of_these_adapters_and_the_verdict_that_promotion_asks_for(
    first: Run,
) -> None:
    card_dir = Path(first.result.card_dir)
    card = json.loads((card_dir / "card.json").read_bytes())
    assert card["lineage"]["adapters"] == first.result.adapters
    assert card["passed"] == first.result.passed
    assert (card_dir / "card.html").is_file()
    assert len(card["ppo"]["curves"]["objective/kl"]) == 5  # one that trains the critic alone
    verdict = first.registry.verdict(first.result.adapters["ppo"], "offline")
    assert verdict is not None
    assert verdict["passed"] == first.result.passed
    assert verdict["card_id"] == card_dir.name
    # Two gate prompts prove nothing, so that the gate must refuse.
    assert not first.result.passed
    assert any("number of prompts" in reason for reason in first.result.reasons)


def test_a_rerun_judges_the_same_adapters_and_trains_nothing(first: Run) -> None:
    again = refresh(first.data_dir, first.base)
    assert again.stages.begun == ["gate"]
    assert again.result.adapters == first.result.adapters
    assert again.result.snapshot_id == first.result.snapshot_id
    assert again.result.metrics == first.result.metrics


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "step", "later_stages", "later_steps"),
    [
        ("rm", 1, ["rm", "judge", "ppo", "gate"], [1, 2, 3, 4, 5]),
        ("ppo", 3, ["ppo", "gate"], [3, 4, 5]),  # dies in iteration 3 before it is saved
    ],
)
def test_after_kill_9_a_rerun_goes_on_and_ends_with_the_same_adapters(
    first: Run,
    tmp_path: Path,
    stage: str,
    step: int,
    later_stages: list[str],
    later_steps: list[int],
) -> None:
    # DESIGN 4.6: fp32, the same number of threads, another process and directory.
    data_dir = record(tmp_path / "data", story(first.base))
    script = ROOT / "tests" / "support" / "refresh_until_killed.py"
    environment = os.environ | {
        "OMP_NUM_THREADS": str(torch.get_num_threads()),
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, str(script), str(data_dir), str(first.base), stage, str(step)]
    killed = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    again = refresh(data_dir, first.base)
    assert again.stages.begun == later_stages
    assert again.stages.steps["ppo"] == later_steps
    assert again.result.adapters == first.result.adapters
    assert again.result.metrics == first.result.metrics
    assert list((data_dir / "work").glob("*.pt")) == []


def test_a_placebo_says_so_shares_sft_and_has_reward_models_of_its_own(first: Run) -> None:
    placebo = refresh(first.data_dir, first.base, is_placebo=True)
    manifest = load_manifest(snapshot_path(first.data_dir, placebo.result.snapshot_id))
    assert manifest.placebo
    assert placebo.stages.begun == ["rm", "judge", "ppo", "gate"]
    for role in ("sft", "init"):
        assert placebo.result.adapters[role] == first.result.adapters[role]
    for role in ("rm", "ppo"):
        adapter = placebo.result.adapters[role]
        assert adapter != first.result.adapters[role]
        assert first.registry.adapter(adapter).manifest.snapshot_id == manifest.id
    card = json.loads((Path(placebo.result.card_dir) / "card.json").read_bytes())
    assert card["data"]["placebo"] is True


@pytest.mark.parametrize(
    ("changes", "trained_again"),
    [
        ({"max_answer_tokens": 3}, EVERY_STAGE),
        ({"reward": SETTINGS.reward.model_copy(update={"epochs": 2})}, EVERY_STAGE[2:]),
        ({"ppo": SETTINGS.ppo.model_copy(update={"kl_coefficient": 0.5})}, EVERY_STAGE[4:]),
    ],
)
def test_a_changed_setting_trains_again_what_depends_on_it_and_no_more(
    first: Run, changes: dict[str, Any], trained_again: list[str]
) -> None:
    changed = refresh(first.data_dir, first.base, SETTINGS.model_copy(update=changes))
    assert changed.stages.begun == trained_again


def test_a_later_refresh_must_beat_what_is_served_and_is_anchored_at_init_all_the_same(
    base: Path, tmp_path: Path
) -> None:
    data_dir = record(tmp_path / "data", story(base))
    served = refresh(data_dir, base).result.adapters["ppo"]
    Registry.open(data_dir).promote("stable", served, "test", "to be beaten")
    later = refresh(data_dir, base, seed=1)
    card = json.loads((Path(later.result.card_dir) / "card.json").read_bytes())
    assert card["lineage"]["judged"]["incumbent"] == served
    manifest = later.registry.adapter(later.result.adapters["ppo"]).manifest
    assert manifest.parents["ref"] == manifest.parents["init"] == later.result.adapters["init"]


@pytest.mark.parametrize(
    ("lacking", "sentence"),
    [
        ({"num_demonstrations": 0}, "no demonstrations to train on: submit some first"),
        ({"num_votes": 0}, "too few rankings prefer .* collect votes on more prompts"),
        ({"num_prompts": 2}, "no held-out prompts to judge the policy by: serve requests"),
        ({"num_prompts": 0}, "no prompts to train on: serve some requests with consent"),
    ],
)
def test_what_is_lacking_is_said_in_one_line_before_anything_is_written(
    base: Path, tmp_path: Path, lacking: dict[str, int], sentence: str
) -> None:
    data_dir = record(tmp_path / "data", story(base, **lacking))
    with pytest.raises(ValueError, match=sentence) as refused:
        refresh(data_dir, base)
    assert "\n" not in str(refused.value)
    for name in ("adapters", "cards", "verdicts", "work"):
        assert list((data_dir / name).glob("**/*")) == []


def test_all_that_is_lacking_is_named_at_once(base: Path, tmp_path: Path) -> None:
    data_dir = record(tmp_path / "data", story(base, num_prompts=1, num_demonstrations=0))
    with pytest.raises(ValueError, match=r"no demonstrations .*; too few rankings .*; no held-out"):
        refresh(data_dir, base)


def test_the_first_stages_alone_give_the_adapters_that_the_whole_gives(
    first: Run, tmp_path: Path
) -> None:
    data_dir = record(tmp_path / "data", story(first.base))
    request = RefreshRequest(data_dir, SETTINGS, str(first.base), "float32")
    stages = Recorder()
    supervised, reward = run_supervised(request, stages), run_reward(request, stages)
    assert stages.begun == ["sft", "init", "rm", "judge"]
    for role, adapter in (supervised | reward).items():
        assert adapter == first.result.adapters[role]


def test_demonstrations_alone_are_enough_for_the_first_stage_and_votes_for_the_second(
    base: Path, tmp_path: Path
) -> None:
    data_dir = record(tmp_path / "data", story(base, num_prompts=2, num_votes=0))
    request = RefreshRequest(data_dir, SETTINGS, str(base), "float32")
    assert set(run_supervised(request, Recorder())) == {"sft", "init"}
    with pytest.raises(ValueError, match="collect votes"):
        run_reward(request, Recorder())
