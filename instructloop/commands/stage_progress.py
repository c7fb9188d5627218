"""Show the stages of a refresh on standard error; it does not know what they train."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from trainer.progress import Report, Stages

LINE_EVERY_S = 10.0
MAX_FIGURES = 4


@contextmanager
def stage_progress() -> Iterator[Stages]:
    """Give stages a live bar on a terminal, else a plain line every ten seconds."""
    if not sys.stderr.isatty():
        yield PlainStages()
        return
    columns = (
        TextColumn("{task.description:>6}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}", style="dim"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:
        yield BarStages(bars)


class BarStages:
    """A bar for each stage, with its latest figures."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars

    def begin(self, name: str) -> Report:
        """Add the stage's bar."""
        task = self._bars.add_task(name, total=None, figures="")

        def report(step: int, num_steps: int, figures: Mapping[str, float]) -> None:
            self._bars.update(task, completed=step, total=num_steps, figures=_brief(figures))

        return report


class PlainStages:
    """A line when a stage begins and ends, and some in between."""

    def begin(self, name: str) -> Report:
        """Say that the stage begins."""
        started = last = time.monotonic()
        sys.stderr.write(f"{name}: begins\n")

        def report(step: int, num_steps: int, figures: Mapping[str, float]) -> None:
            nonlocal last
            now = time.monotonic()
            if step == num_steps or now - last >= LINE_EVERY_S:
                last = now
                line = f"{name}: {step}/{num_steps} after {now - started:.0f} s  {_brief(figures)}"
                sys.stderr.write(line + "\n")
                sys.stderr.flush()

        return report


def _brief(figures: Mapping[str, float]) -> str:
    """The first few figures, without their group."""
    shown = list(figures.items())[:MAX_FIGURES]
    return "  ".join(f"{name.rsplit('/', 1)[-1]} {value:.3g}" for name, value in shown)
