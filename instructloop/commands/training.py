"""`instructloop train ...`: from the record of events to published, judged adapters."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from instructloop.commands.options import (
    DEFAULT_DATA_DIR,
    AsJson,
    DataDir,
    example,
    require_data_dir,
    subcommands,
)

if TYPE_CHECKING:
    from trainer.refresh import RefreshRequest

app = subcommands("Train adapters from the record; a killed run goes on where it was.")

Base = Annotated[str, typer.Option("--base", help="`smollm2`, a model directory or a hub id.")]
Dtype = Annotated[str, typer.Option("--dtype", help="auto, float32 or bfloat16, of the base.")]
Preset = Annotated[str, typer.Option("--preset", help="default, demo, quick or paper.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of every random choice.")]
Placebo = Annotated[
    bool, typer.Option("--placebo", help="Permute the rankings: the gate must then refuse.")
]
Folds = Annotated[
    int | None,
    typer.Option(
        "--folds",
        min=2,
        help="Train nothing to keep: report accuracy on held-out conversations, against length.",
    ),
]


@app.command("sft", epilog=example("train sft --data-dir DIR"))
def sft(
    data_dir: DataDir = DEFAULT_DATA_DIR,
    base: Base = "smollm2",
    dtype: Dtype = "auto",
    preset: Preset = "default",
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Fine-tune on demonstrations: the baseline `sft` and PPO's start `init`."""
    from instructloop.commands.output import print_facts
    from instructloop.commands.stage_progress import stage_progress
    from trainer.refresh import run_supervised

    with stage_progress() as stages:
        adapters = run_supervised(_request(data_dir, base, dtype, preset, seed), stages)
    print_facts({"adapters": adapters}, as_json)


@app.command("rm", epilog=example("train rm --data-dir DIR"))
def rm(
    data_dir: DataDir = DEFAULT_DATA_DIR,
    base: Base = "smollm2",
    dtype: Dtype = "auto",
    preset: Preset = "default",
    seed: Seed = 0,
    placebo: Placebo = False,
    folds: Folds = None,
    as_json: AsJson = False,
) -> None:
    """Train the reward model and the judge on the rankings, or only measure with --folds."""
    from instructloop.commands.output import print_facts
    from instructloop.commands.stage_progress import stage_progress
    from trainer.refresh import run_reward

    request = _request(data_dir, base, dtype, preset, seed, placebo)
    if folds is not None:
        _cross_validate(request, folds, as_json)
        return
    with stage_progress() as stages:
        adapters = run_reward(request, stages)
    print_facts({"adapters": adapters}, as_json)


@app.command("ppo", epilog=example("train ppo --data-dir DIR"))
@app.command("refresh", epilog=example("train refresh --data-dir DIR --preset default"))
def refresh(
    data_dir: DataDir = DEFAULT_DATA_DIR,
    base: Base = "smollm2",
    dtype: Dtype = "auto",
    preset: Preset = "default",
    seed: Seed = 0,
    placebo: Placebo = False,
    as_json: AsJson = False,
) -> None:
    """Train whatever is missing up to PPO, judge the candidate and write its card.

    `ppo` and `refresh` do the same: stages that these votes have been through are not repeated.
    The status is 0 whether or not the gate passed; `passed` says so, and nothing is promoted here.
    """
    from instructloop.commands.output import print_facts
    from instructloop.commands.stage_progress import stage_progress
    from trainer.refresh import run_refresh

    with stage_progress() as stages:
        result = run_refresh(_request(data_dir, base, dtype, preset, seed, placebo), stages)
    print_facts(asdict(result), as_json)


def _cross_validate(request: RefreshRequest, num_folds: int, as_json: bool) -> None:
    from instructloop.commands.output import print_facts, print_rows
    from instructloop.commands.stage_progress import stage_progress
    from trainer.cross_validation import run_cross_validation

    with stage_progress() as stages:
        found = run_cross_validation(request, num_folds, stages)
    if as_json:
        print_facts(found.facts(), as_json)
        return
    print_rows(found.table(), as_json, empty="")
    folds = [{name: round(value, 3) for name, value in fold.items()} for fold in found.folds]
    print_rows(folds, as_json, empty="")


def _request(
    data_dir: Path, base: str, dtype: str, preset: str, seed: int, placebo: bool = False
) -> RefreshRequest:
    from trainer.presets import preset as settings_of
    from trainer.refresh import RefreshRequest

    if dtype not in ("auto", "float32", "bfloat16"):
        raise ValueError(f"dtype {dtype!r} is unknown: use auto, float32 or bfloat16")
    return RefreshRequest(
        data_dir=require_data_dir(data_dir),
        settings=settings_of(preset),
        base=base,
        dtype=dtype,  # type: ignore[arg-type]
        seed=seed,
        is_placebo=placebo,
    )
