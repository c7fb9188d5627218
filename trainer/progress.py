"""How stages tell what they are doing; it does not know who listens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Report(Protocol):
    """Called after every step with the step, the number of steps and live figures by name."""

    def __call__(self, step: int, num_steps: int, figures: Mapping[str, float]) -> None: ...


class Stages(Protocol):
    """Told when a stage begins; answers with what the stage shall report its steps to."""

    def begin(self, name: str) -> Report: ...


class Silent:
    """Listens to nothing: for tests and for callers that only want the result."""

    def begin(self, name: str) -> Report:
        """Return a report that nobody reads."""
        del name
        return silent


def silent(step: int, num_steps: int, figures: Mapping[str, float]) -> None:
    """Report to nobody."""
