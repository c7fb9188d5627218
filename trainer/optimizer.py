"""Adam and the learning-rate schedules of InstructGPT's appendix C; it does not know any model."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

BETAS = (0.9, 0.95)
EPSILON = 1e-8


def adam(parameters: Iterable[nn.Parameter], learning_rate: float) -> torch.optim.Adam:
    """Return Adam with the paper's betas and no weight decay (appendix C)."""
    return torch.optim.Adam(list(parameters), lr=learning_rate, betas=BETAS, eps=EPSILON)


def cosine_to_tenth(step: int, num_steps: int) -> float:
    """Return the factor of the peak rate at `step` in [0, num_steps): from 1 down to 0.1."""
    progress = step / max(1, num_steps - 1)
    return 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * progress))


def warm_up(iteration: int, num_warm_up: int) -> float:
    """Return the factor of a linear warm-up from 0.1 to 1, then 1 (appendix C.4)."""
    if iteration >= num_warm_up:
        return 1.0
    return 0.1 + 0.9 * iteration / num_warm_up


def set_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Use one learning rate for all parameters from the next step on."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
