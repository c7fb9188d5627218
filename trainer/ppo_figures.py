"""The figures of one PPO iteration, under stable names; it does not decide anything by them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.estimators import explained_variance
from trainer.experience import Experience
from trainer.rollouts import Rollout


@dataclass(slots=True)
class Update:
    """What one optimiser step did; means over response tokens."""

    policy_loss: float = 0.0
    value_loss: float = 0.0
    clip_fraction: float = 0.0
    approximate_kl: float = 0.0
    max_ratio: float = 1.0
    policy_grad_norm: float = 0.0

    def add_policy(self, loss: float, ratios_N: Tensor, share: float, clip: float) -> None:
        """Add one pass's weighted loss and ratios."""
        self.policy_loss += loss
        self.clip_fraction += share * float(((ratios_N - 1).abs() > clip).float().mean())
        self.approximate_kl += share * float((0.5 * ratios_N.log() ** 2).mean())
        self.max_ratio = max(self.max_ratio, float(ratios_N.max()))


def describe(
    rollouts: Sequence[Rollout],
    minibatches: Sequence[Sequence[Experience]],
    updates: Sequence[Update],
) -> dict[str, float]:
    """Return the iteration's figures; KL is the sum per response, mean over responses, in nats."""
    experiences = [each for minibatch in minibatches for each in minibatch]
    kls = torch.cat([_response_kls(each) for each in experiences])
    scores = torch.cat([each.scores_B for each in experiences])
    values, returns = (
        torch.cat([getattr(each, name)[each.batch.is_response_BR] for each in experiences])
        for name in ("values_BR", "returns_BR")
    )
    lengths = [len(rollout.transcript.response_ids) for rollout in rollouts]
    return {
        "objective/score": float(scores.mean()),
        "objective/score_std": float(scores.std(correction=0)),
        "objective/kl": float(kls.mean()),
        "objective/entropy": _mean(each.entropy for each in experiences),
        "rollout/length": sum(lengths) / len(lengths),
        "rollout/eos_rate": sum(rollout.is_finished for rollout in rollouts) / len(rollouts),
        "rollout/training_gap": _mean(each.rollout_gap for each in experiences),
        "value/explained_variance": explained_variance(
            values, returns, torch.ones_like(values, dtype=torch.bool)
        ),
        "value/loss": _mean(update.value_loss for update in updates),
        "policy/loss": _mean(update.policy_loss for update in updates),
        "policy/clip_fraction": _mean(update.clip_fraction for update in updates),
        "policy/approximate_kl": _mean(update.approximate_kl for update in updates),
        "policy/max_ratio": max(update.max_ratio for update in updates),
        "policy/grad_norm": _mean(update.policy_grad_norm for update in updates),
    }


def _response_kls(each: Experience) -> Tensor:
    difference = each.logprobs_BR - each.ref_logprobs_BR
    return torch.where(each.batch.is_response_BR, difference, torch.zeros(())).sum(dim=1)


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found)
