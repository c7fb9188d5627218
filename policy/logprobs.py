"""Log-probabilities of chosen tokens from hidden states; it does not know adapters or losses.

Dims: N token positions, D hidden size, V vocabulary. Every function takes the sampling temperature,
because the probability of a token is that of the distribution it was drawn from (spec 10.3, 10).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

CHUNK = 256
"""Positions per block: 256 rows of 50,000 float32 logits are 50 MB."""


def chosen_logprobs(
    hidden_ND: Tensor, unembedding_VD: Tensor, ids_N: Tensor, temperature: float = 1.0
) -> Tensor:
    """Return the float32 log-probabilities `[N]` of `ids_N`; differentiable in `hidden_ND` only."""
    result: Tensor = ChosenLogprobs.apply(  # type: ignore[no-untyped-call]
        hidden_ND, unembedding_VD, ids_N, temperature
    )
    return result


class ChosenLogprobs(torch.autograd.Function):
    """`log softmax(h W^T / temperature)[id]` block by block.

    It keeps the probabilities in the hidden states' dtype instead of three float32 copies of the
    logits; the unembedding is frozen and gets no gradient.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, ids: Tensor, temperature: float
    ) -> Tensor:
        """Return `[N]` in float32."""
        ctx.temperature = temperature
        needs_grad = ctx.needs_input_grad[0]
        kept, results = [], []
        for rows, chosen in zip(hidden.split(CHUNK), ids.split(CHUNK), strict=True):
            logprobs = _logprobs(rows, weight, temperature)
            results.append(logprobs.gather(1, chosen[:, None])[:, 0])
            if needs_grad:
                kept.append(logprobs.exp_().to(hidden.dtype))
        ctx.save_for_backward(weight, ids, *kept)
        return torch.cat(results)

    @staticmethod
    def backward(ctx: Any, grad_N: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradient of the hidden states: `(onehot - p) W g / temperature`."""
        weight, ids, *kept = ctx.saved_tensors
        grads = []
        blocks = zip(kept, ids.split(CHUNK), grad_N.split(CHUNK), strict=True)
        for probabilities, chosen, grad in blocks:
            scale = (grad / ctx.temperature).unsqueeze(1)
            pulled = scale * (weight[chosen].float() - (probabilities @ weight).float())
            grads.append(pulled.to(weight.dtype))
        return torch.cat(grads), None, None, None


@torch.no_grad()
def exact_kls(
    hidden_ND: Tensor, other_ND: Tensor, unembedding_VD: Tensor, temperature: float = 1.0
) -> Tensor:
    """Return KL(hidden's distribution || other's) in nats over the whole vocabulary, `[N]`."""
    found = []
    for rows, others in zip(hidden_ND.split(CHUNK), other_ND.split(CHUNK), strict=True):
        logprobs = _logprobs(rows, unembedding_VD, temperature)
        difference = logprobs - _logprobs(others, unembedding_VD, temperature)
        found.append((logprobs.exp() * difference).sum(dim=1))
    return torch.cat(found)


def _logprobs(hidden_ND: Tensor, unembedding_VD: Tensor, temperature: float) -> Tensor:
    logits = torch.nn.functional.linear(hidden_ND, unembedding_VD).float()
    if temperature != 1.0:
        logits /= temperature
    return torch.log_softmax(logits, dim=1)
