"""Rules that PPO must keep; it does not know how to mend what breaks them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch

from trainer.experience import Experience, Models, exact_kl, policy_logprobs
from trainer.settings import PpoSettings

MAX_FIRST_RATIO_ERROR = 1e-5
MAX_FIRST_KL = 1e-6
MAX_ROLLOUT_GAP = {torch.bfloat16: 5e-3, torch.float32: 1e-5}
"""Nats per token between sampler and training forward, by dtype of the base."""


class PpoDiverged(ValueError):
    """PPO cannot go on honestly; the message names the rule and the figure."""


def require_first_step_rules(
    models: Models, minibatch: Sequence[Experience], ppo: PpoSettings
) -> None:
    """Check, before any update, that policy, ref, training path and sampler agree.

    Raises:
        PpoDiverged: if a ratio is not 1, the policy is not ref, or the sampler's probabilities are
            not those of the training forward (a wrong temperature, adapter or token shift).
    """
    with torch.no_grad():
        error = max(_ratio_error(models, each, ppo) for each in minibatch)
    kl = exact_kl(models, minibatch, ppo)
    gap = sum(each.rollout_gap for each in minibatch) / len(minibatch)
    _require(error, MAX_FIRST_RATIO_ERROR, "the largest |ratio - 1| before the first update")
    _require(kl, MAX_FIRST_KL, "KL(policy, ref) before the first update")
    limit = MAX_ROLLOUT_GAP[models.model.dtype]
    _require(gap, limit, "the per-token KL between sampler and training forward")


def require_finite(figures: Mapping[str, float], iteration: int) -> None:
    """Refuse to go on with a figure that is not a number.

    Raises:
        PpoDiverged: naming the figure.
    """
    for name, value in figures.items():
        if not math.isfinite(value):
            raise PpoDiverged(
                f"{name} is {value} in iteration {iteration}: lower the learning rate and rerun"
            )


def _ratio_error(models: Models, each: Experience, ppo: PpoSettings) -> float:
    logprobs = each.batch.unflatten(policy_logprobs(models, each.batch, ppo))
    return float((torch.exp(logprobs - each.logprobs_BR) - 1).abs().max())


def _require(value: float, limit: float, what: str) -> None:
    if not value <= limit:
        raise PpoDiverged(f"{what} is {value:.2e}, more than {limit:.0e}")
