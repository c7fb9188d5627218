"""What one PPO iteration learns from: rollouts with the four models' opinions, in minibatches.

It does not know optimisers. Dims as in `transcripts`: B responses, R response positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from policy.heads import ScalarHead
from policy.language_model import LanguageModel
from policy.logprobs import chosen_logprobs, exact_kls
from trainer.estimators import advantages_and_returns, token_rewards, whiten
from trainer.reward import RewardModel
from trainer.rollouts import Rollout
from trainer.settings import PpoSettings
from trainer.transcripts import Batch, TranscriptSet


@dataclass(frozen=True, slots=True)
class Models:
    """Policy, ref, reward and value: four adapters on one base (the fifth is the policy's EMA)."""

    model: LanguageModel
    policy: str
    ref: str
    reward: RewardModel
    value: str
    value_head: ScalarHead


@dataclass(slots=True)
class Experience:
    """One pass of responses as the models saw them before the update; tensors are `[B, R]`.

    scores_B: reward-model scores after the penalty for a missing EOS.
    rollout_gap: mean over tokens of the estimated KL between the sampler's log-probabilities and
        those of the training forward (k3, Schulman 2020), in nats.
    entropy: of the policy in nats per token, estimated by the mean of -log p over what was sampled.
    """

    batch: Batch
    logprobs_BR: Tensor
    ref_logprobs_BR: Tensor
    values_BR: Tensor
    scores_B: Tensor
    advantages_BR: Tensor
    returns_BR: Tensor
    rollout_gap: float
    entropy: float


def gather(
    models: Models, rollouts: Sequence[Rollout], rows: Sequence[Sequence[int]], ppo: PpoSettings
) -> list[list[Experience]]:
    """Judge rollouts, grouped into the minibatches `rows` that the update will use.

    The same passes are judged and later trained on, so that the first ratio is exactly 1.
    """
    depth = models.model.shared_depth(
        models.policy, models.ref, models.reward.adapter, models.value
    )
    data = TranscriptSet(models.model, [rollout.transcript for rollout in rollouts], depth)
    minibatches = [
        [_judge(models, batch, rollouts, ppo) for batch in data.batches(minibatch)]
        for minibatch in rows
    ]
    _whiten_advantages([each for minibatch in minibatches for each in minibatch])
    return minibatches


@torch.no_grad()
def _judge(
    models: Models, batch: Batch, rollouts: Sequence[Rollout], ppo: PpoSettings
) -> Experience:
    model = models.model
    policy_hidden = batch.at_predictions(model.hidden(batch.trunk, models.policy))
    logprobs_N = _logprobs(model, policy_hidden, batch, ppo)
    ref_hidden = batch.at_predictions(model.hidden(batch.trunk, models.ref))
    ref_logprobs_BR = batch.unflatten(_logprobs(model, ref_hidden, batch, ppo))
    values_BR = batch.unflatten(values(models, batch))
    scores_B = _scores(models, batch, rollouts, ppo)
    logprobs_BR = batch.unflatten(logprobs_N)
    is_response = batch.is_response_BR
    rewards = token_rewards(logprobs_BR, ref_logprobs_BR, scores_B, is_response, ppo.kl_coefficient)
    advantages, returns = advantages_and_returns(
        rewards, values_BR, is_response, ppo.gamma, ppo.lam
    )
    return Experience(
        batch=batch,
        logprobs_BR=logprobs_BR,
        ref_logprobs_BR=ref_logprobs_BR,
        values_BR=values_BR,
        scores_B=scores_B,
        advantages_BR=advantages,
        returns_BR=returns,
        rollout_gap=_gap(logprobs_N, batch, rollouts),
        entropy=-float(logprobs_N.mean()),
    )


def _whiten_advantages(experiences: Sequence[Experience]) -> None:
    """Whiten over all response tokens of the iteration (spec 5.1, step 4)."""
    real = [each.advantages_BR[each.batch.is_response_BR] for each in experiences]
    joined = torch.cat(real)
    whitened = whiten(joined, torch.ones_like(joined, dtype=torch.bool))
    parts = whitened.split([len(part) for part in real])
    for each, part in zip(experiences, parts, strict=True):
        each.advantages_BR = each.batch.unflatten(part)


def values(models: Models, batch: Batch) -> Tensor:
    """Return the critic's values of the states before each response token, `[N]`."""
    hidden = models.model.hidden(batch.trunk, models.value)
    result: Tensor = models.value_head(batch.at_predictions(hidden))
    return result


def policy_logprobs(models: Models, batch: Batch, ppo: PpoSettings) -> Tensor:
    """Return the policy's log-probabilities of the response tokens, `[N]`, with gradients."""
    hidden = batch.at_predictions(models.model.hidden(batch.trunk, models.policy))
    return _logprobs(models.model, hidden, batch, ppo)


@torch.no_grad()
def exact_kl(models: Models, experiences: Sequence[Experience], ppo: PpoSettings) -> float:
    """Return KL(policy || ref) over the whole vocabulary, in nats per response."""
    total, count = 0.0, 0
    for experience in experiences:
        batch = experience.batch
        policy = batch.at_predictions(models.model.hidden(batch.trunk, models.policy))
        ref = batch.at_predictions(models.model.hidden(batch.trunk, models.ref))
        kls = exact_kls(policy, ref, models.model.unembedding_VD, ppo.temperature)
        total += float(kls.sum())
        count += len(batch.rows)
    return total / count


def _scores(models: Models, batch: Batch, rollouts: Sequence[Rollout], ppo: PpoSettings) -> Tensor:
    """Score each response; one that never ended pays the penalty, `[B]`."""
    hidden = models.model.hidden(batch.trunk, models.reward.adapter)
    scores = models.reward.read(batch, hidden)
    is_cut = torch.tensor([not rollouts[row].is_finished for row in batch.rows])
    return scores - ppo.missing_eos_penalty * is_cut.float()


def _logprobs(model: LanguageModel, hidden_ND: Tensor, batch: Batch, ppo: PpoSettings) -> Tensor:
    return chosen_logprobs(hidden_ND, model.unembedding_VD, batch.response_ids_N, ppo.temperature)


def _gap(logprobs_N: Tensor, batch: Batch, rollouts: Sequence[Rollout]) -> float:
    sampled = torch.tensor([p for row in batch.rows for p in rollouts[row].logprobs])
    difference = logprobs_N - sampled
    return float((difference.exp() - 1 - difference).mean())
