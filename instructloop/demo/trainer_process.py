"""The trainer as a process of its own, started as a user would; knows no training itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from instructloop.demo.processes import Processes

_COMMAND = "instructloop.cli"


@dataclass(frozen=True, slots=True)
class Accuracy:
    """The reward model's share of held-out comparisons ordered as the vote did, and its interval.

    The figures are null where there was nothing to measure.
    """

    estimate: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What a refresh printed, adapters by role and the gate's word, and what its card says."""

    snapshot_id: str
    adapters: dict[str, str]
    passed: bool
    reasons: tuple[str, ...]
    card_dir: Path
    rm_accuracy: Accuracy
    kl_nats: float | None


@dataclass(frozen=True, slots=True)
class TrainerCommand:
    """`instructloop train ...` over one data directory."""

    processes: Processes
    data_dir: Path
    base: str
    preset: str
    seed: int

    async def supervise(self, tell: Callable[[str], None]) -> dict[str, str]:
        """Train and publish `sft` and `init`; return their ids by role.

        Raises:
            ProcessFailed: the trainer refused; the message is its own.
        """
        return dict((await self._train("sft", [], tell))["adapters"])

    async def refresh(self, *, is_placebo: bool, tell: Callable[[str], None]) -> Refreshed:
        """Run a whole refresh, gate and card included.

        Raises:
            ProcessFailed: the trainer refused; the message is its own.
        """
        flags = ["--placebo"] if is_placebo else []
        result = await self._train("refresh", flags, tell)
        return read_refreshed(result)

    async def _train(
        self, what: str, flags: list[str], tell: Callable[[str], None]
    ) -> dict[str, Any]:
        options = ["--data-dir", str(self.data_dir), "--base", self.base, "--json"]
        options += ["--preset", self.preset, "--seed", str(self.seed), *flags]
        process = await self.processes.start(f"train-{what}", _COMMAND, ["train", what, *options])
        return last_json(await process.finish(tell))


def read_refreshed(result: Mapping[str, Any]) -> Refreshed:
    """Read what a refresh printed, and the figures from the card that it wrote."""
    card_dir = Path(result["card_dir"])
    card = json.loads((card_dir / "card.json").read_bytes())
    accuracy = card["reward_models"]["rm_accuracy"]
    return Refreshed(
        snapshot_id=result["snapshot_id"],
        adapters=dict(result["adapters"]),
        passed=result["passed"],
        reasons=tuple(result["reasons"]),
        card_dir=card_dir,
        rm_accuracy=Accuracy(accuracy["estimate"], accuracy["low"], accuracy["high"]),
        kl_nats=card["headline"]["kl_nats"],
    )


def last_json(output: str) -> dict[str, Any]:
    """Return the object that a program printed last, on one line or over several."""
    lines = output.strip().splitlines()
    for start in range(len(lines) - 1, -1, -1):
        if lines[start].startswith("{"):
            return dict(json.loads("\n".join(lines[start:])))
    raise ValueError("the program printed no JSON object")
