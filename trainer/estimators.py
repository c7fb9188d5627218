"""The tensor arithmetic of InstructGPT's losses: pure functions, no models and no state.

Dims: B responses, R response positions (right-padded), K answers of one prompt. `is_response_BR`
is True on generated tokens, EOS included.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


def ranking_pairs(tie_groups: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """List (better, worse) index pairs of an order of tie groups, best first.

    Ties are dropped (paper appendix C.2), so K answers give at most K(K-1)/2 pairs.
    """
    return [
        (better, worse)
        for rank, group in enumerate(tie_groups)
        for lower in tie_groups[rank + 1 :]
        for better in group
        for worse in lower
    ]


def ranking_loss(scores_K: Tensor, pairs: Sequence[tuple[int, int]]) -> Tensor:
    """Return equation 1 for one prompt: the mean of -log sigmoid(r_better - r_worse) over pairs.

    Raises:
        ValueError: without a single pair there is nothing to learn; leave such a prompt out.
    """
    if not pairs:
        raise ValueError("a ranking that is all ties has no comparison; leave it out")
    better, worse = torch.tensor(pairs).T
    return -logsigmoid(scores_K[better] - scores_K[worse]).mean()


def token_rewards(
    logprobs_BR: Tensor,
    ref_logprobs_BR: Tensor,
    scores_B: Tensor,
    is_response_BR: Tensor,
    kl_coefficient: float,
) -> Tensor:
    """Return -beta (log pi - log pi_ref) at every token, plus the score at the last one, `[B, R]`.

    Equation 2 without the pretraining term (spec 5). The last token is the last one generated,
    whether EOS or not; nothing is placed on padding (CASES D2).
    """
    penalties = -kl_coefficient * (logprobs_BR - ref_logprobs_BR)
    rewards = torch.where(is_response_BR, penalties, torch.zeros(()))
    last_B = is_response_BR.sum(dim=1) - 1
    rewards[torch.arange(len(last_B)), last_B] += scores_B
    return rewards


def advantages_and_returns(
    rewards_BR: Tensor, values_BR: Tensor, is_response_BR: Tensor, gamma: float, lam: float
) -> tuple[Tensor, Tensor]:
    """Return generalised advantage estimates and their returns, both `[B, R]`, 0 on padding.

    Schulman et al. 2016, equation 16; a response ends at its last token, where the next value is 0.
    """
    values = torch.where(is_response_BR, values_BR, torch.zeros(()))
    advantages = torch.zeros_like(rewards_BR)
    running = torch.zeros(len(rewards_BR))
    next_values = torch.zeros(len(rewards_BR))
    for t in reversed(range(rewards_BR.shape[1])):
        delta = rewards_BR[:, t] + gamma * next_values - values[:, t]
        running = torch.where(is_response_BR[:, t], delta + gamma * lam * running, running)
        advantages[:, t] = torch.where(is_response_BR[:, t], running, torch.zeros(()))
        next_values = values[:, t]
    return advantages, advantages + values


def whiten(values_BR: Tensor, is_response_BR: Tensor) -> Tensor:
    """Return values shifted to mean 0 and scaled to population variance 1 over real tokens.

    lm-human-preferences (spec 10.1): epsilon 1e-8 inside the root; padding becomes 0.
    """
    real = values_BR[is_response_BR]
    mean, variance = real.mean(), real.var(correction=0)
    whitened = (values_BR - mean) * torch.rsqrt(variance + 1e-8)
    return torch.where(is_response_BR, whitened, torch.zeros(()))


def masked_mean(values_BR: Tensor, is_response_BR: Tensor) -> Tensor:
    """Return the mean over real tokens."""
    return torch.where(is_response_BR, values_BR, torch.zeros(())).sum() / is_response_BR.sum()


def policy_loss(
    logprobs_BR: Tensor,
    old_logprobs_BR: Tensor,
    advantages_BR: Tensor,
    is_response_BR: Tensor,
    clip: float,
) -> tuple[Tensor, Tensor]:
    """Return PPO's clipped loss (Schulman et al. 2017, equation 7) and the ratios `[B, R]`."""
    ratios = torch.exp(torch.where(is_response_BR, logprobs_BR - old_logprobs_BR, torch.zeros(())))
    clipped = ratios.clamp(1 - clip, 1 + clip)
    losses = torch.maximum(-advantages_BR * ratios, -advantages_BR * clipped)
    return masked_mean(losses, is_response_BR), ratios.detach()


def value_loss(
    values_BR: Tensor,
    old_values_BR: Tensor,
    returns_BR: Tensor,
    is_response_BR: Tensor,
    clip: float,
) -> Tensor:
    """Return half the mean of the larger of plain and clipped squared errors (spec 10.1)."""
    clipped = old_values_BR + (values_BR - old_values_BR).clamp(-clip, clip)
    errors = torch.maximum((values_BR - returns_BR) ** 2, (clipped - returns_BR) ** 2)
    return 0.5 * masked_mean(errors, is_response_BR)


def explained_variance(values_BR: Tensor, returns_BR: Tensor, is_response_BR: Tensor) -> float:
    """Return 1 - Var(return - value) / Var(return): 1 is a perfect critic, 0 a constant one."""
    returns, values = returns_BR[is_response_BR], values_BR[is_response_BR]
    variance = returns.var(correction=0)
    return float(1 - (returns - values).var(correction=0) / variance) if variance > 0 else 0.0


def ema_decay(paper_decay: float, paper_iterations: int, num_iterations: int) -> float:
    """Return the decay that forgets as much over N iterations as the paper's over its 500.

    The paper's 0.992 (appendix C.4) over 500 iterations keeps 1.8% of the start; a run of N keeps
    the same with 0.992^(500/N).
    """
    return float(paper_decay ** (paper_iterations / num_iterations))
