"""How a stage tells what it is doing; it does not know who listens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Report(Protocol):
    """Called after every step with the step, the number of steps and live figures by name."""

    def __call__(self, step: int, num_steps: int, figures: Mapping[str, float]) -> None: ...


def silent(step: int, num_steps: int, figures: Mapping[str, float]) -> None:
    """Report to nobody."""
