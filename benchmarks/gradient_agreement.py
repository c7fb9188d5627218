"""How far policy gradients of independent batches agree, by lambda: the signal that PPO steps on.

    python benchmarks/gradient_agreement.py --data-dir DIR --init INIT_ID --rm RM_ID

DIR is a kept data directory of the demo (`instructloop demo --keep`). The critic is trained alone
as the demo's preset does it; then each of several fresh batches gives one gradient per lambda. The
mean cosine between batches is the share of signal in one batch (1 is all signal); the cosine with
the mean Monte Carlo gradient, which is noisy but unbiased, shows how far a smaller lambda still
points the same way.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor

from feedback.record_snapshot import snapshot_record
from trainer import ppo
from trainer.estimators import advantages_and_returns, policy_loss
from trainer.experience import Experience, Models, policy_logprobs
from trainer.presets import preset
from trainer.progress import Silent
from trainer.settings import PpoSettings
from trainer.stages import Refresh
from trainer.workshop import Workshop

LAMBDAS = (1.0, 0.95, 0.8, 0.5, 0.0)
MONTE_CARLO = "monte carlo"


def main() -> None:
    """Measure on one kept data directory and print a line per estimator."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--init", required=True)
    parser.add_argument("--rm", required=True)
    parser.add_argument("--batches", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    workshop = Workshop.open(options.data_dir, "smollm2", "auto")
    snapshot = snapshot_record(options.data_dir).snapshot
    settings = preset("demo")
    refresh = Refresh(workshop, snapshot, settings, options.seed, Silent())
    models = refresh.models(options.init, options.rm)
    gradients = measure(refresh, models, settings.ppo, options.batches, options.seed)
    rows = agreement(gradients)
    for name, (between, with_unbiased) in rows.items():
        print(f"{name:>12}  between batches {between:.3f}  with {MONTE_CARLO} {with_unbiased:.3f}")
    print(json.dumps({name: list(row) for name, row in rows.items()}))


def measure(
    refresh: Refresh, models: Models, settings: PpoSettings, num_batches: int, seed: int
) -> dict[str, list[Tensor]]:
    """Train the critic alone, then return one flat gradient per batch for every estimator."""
    prompts = [prompt.token_ids for prompt in refresh.material.prompts["train"]]
    decoder = refresh.workshop.decoder(max(map(len, prompts)) + settings.max_response_tokens)
    state = ppo.begin(models, settings)
    found: dict[str, list[Tensor]] = {}
    for iteration in range(settings.value_iterations + num_batches):
        _, minibatches = ppo.collect(models, decoder, prompts, settings, seed, iteration)
        if iteration < settings.value_iterations:
            ppo.improve(models, minibatches, settings, state, iteration=-1)
            continue
        flat = [each for minibatch in minibatches for each in minibatch]
        for lam in LAMBDAS:
            found.setdefault(f"lambda {lam}", []).append(gradient(models, flat, settings, lam))
        found.setdefault(MONTE_CARLO, []).append(gradient(models, flat, settings, None))
    return found


def gradient(
    models: Models, experiences: list[Experience], settings: PpoSettings, lam: float | None
) -> Tensor:
    """Return the policy's gradient over one batch; lam None is the score less its batch mean."""
    parameters = list(models.model.adapter_parameters(models.policy).values())
    mean = torch.cat([each.scores_B for each in experiences]).mean()
    with models.model.training(models.policy):
        for each in experiences:
            mask = each.batch.is_response_BR
            logprobs = each.batch.unflatten(policy_logprobs(models, each.batch, settings))
            if lam is None:
                advantages = (each.scores_B - mean).unsqueeze(1).expand_as(logprobs) * mask
            else:
                rewards = torch.zeros_like(logprobs.detach())
                rewards[torch.arange(len(rewards)), mask.sum(dim=1) - 1] = each.scores_B
                advantages, _ = advantages_and_returns(rewards, each.values_BR, mask, 1.0, lam)
            loss, _ = policy_loss(logprobs, each.logprobs_BR, advantages, mask, settings.clip)
            (loss * mask.sum()).backward()
        return torch.cat([parameter.grad.flatten().clone() for parameter in parameters])


def agreement(gradients: dict[str, list[Tensor]]) -> dict[str, tuple[float, float]]:
    """Return the mean cosine between batches, and that of the mean with the unbiased mean."""
    unbiased = torch.stack(gradients[MONTE_CARLO]).mean(dim=0)
    rows = {}
    for name, batches in gradients.items():
        stacked = torch.stack(batches)
        unit = stacked / stacked.norm(dim=1, keepdim=True)
        cosines = unit @ unit.T
        count = len(batches)
        between = (float(cosines.sum()) - count) / (count * (count - 1))
        with_unbiased = torch.cosine_similarity(stacked.mean(dim=0), unbiased, dim=0)
        rows[name] = (between, float(with_unbiased))
    return rows


if __name__ == "__main__":
    main()
