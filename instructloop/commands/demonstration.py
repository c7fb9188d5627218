"""`instructloop demo`: the whole loop on a real model, with simulated labelers."""

from pathlib import Path
from typing import Annotated

import typer

from instructloop.commands.options import example

EPILOG = example("demo --quick --seed 11 --report DIR")


def demo(
    base: Annotated[
        str, typer.Option("--base", help="`smollm2`, a model directory or a hub id.")
    ] = "smollm2",
    quick: Annotated[
        bool, typer.Option("--quick", help="Less traffic and training: minutes, weaker proof.")
    ] = False,
    placebo: Annotated[
        bool, typer.Option("--placebo", help="Permute the rankings: the gate must refuse.")
    ] = False,
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="Of traffic, labelers and training.")
    ] = 11,
    keep: Annotated[
        Path | None, typer.Option("--keep", help="An empty directory for the data, which stays.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option("--report", help="Write report.json and the card there.")
    ] = None,
) -> None:
    """Serve, rank, train, judge and hot-swap a real model, then measure before and after.

    The labelers are simulated; people's taste is not claimed.
    """
    from instructloop.demo.orchestration import run
    from instructloop.settings import DemoSettings

    run(
        DemoSettings(
            base=base,
            is_quick=quick,
            is_placebo=placebo,
            seed=seed,
            keep_dir=keep,
            report_dir=report,
        )
    )
