"""How much work the demo does: everything that `--quick` reduces; knows no result."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sizes:
    """Numbers of prompts and samples.

    preset: the trainer's settings by name.
    num_training_prompts: that labelers ask, with four answers each.
    num_held_out_prompts: that the measurement asks.
    num_samples: answers per prompt of the headline's two arms; most others give one.
    num_replayed: answers that are scored anew, those of the responses closest to a swap.
    """

    preset: str
    num_training_prompts: int
    num_held_out_prompts: int
    num_samples: int
    num_replayed: int


FULL = Sizes(
    "demo", num_training_prompts=320, num_held_out_prompts=96, num_samples=2, num_replayed=400
)
QUICK = Sizes(
    "quick", num_training_prompts=84, num_held_out_prompts=24, num_samples=1, num_replayed=300
)
