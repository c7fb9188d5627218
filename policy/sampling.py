"""Drawing the next token of each row; it does not know models, caches or text.

B rows, V vocabulary. Randomness is counter-based: the uniform numbers of a sequence depend only on
its seed and sample index, never on the batch it runs in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

_BLOCK = 256


@dataclass(frozen=True, slots=True)
class Warp:
    """How one row's distribution is reshaped: temperature >= 0, 0 < top_p <= 1, top_k (0: off)."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0

    @property
    def is_greedy(self) -> bool:
        """True where the most likely token is taken."""
        return self.temperature == 0.0

    @property
    def is_truncating(self) -> bool:
        """True where some tokens can never be drawn."""
        return self.top_p < 1.0 or self.top_k > 0


@dataclass(frozen=True, slots=True)
class Draw:
    """One step of every row: ids, and log-probabilities before and after the warp."""

    ids_B: Tensor
    raw_logprobs_B: Tensor
    processed_logprobs_B: Tensor
    raw_logprobs_BV: Tensor


def uniforms(seed: int, sample_index: int, count: int) -> NDArray[np.float64]:
    """Return `count` numbers in [0, 1) for one sequence, the same on every machine and batch."""
    digest = hashlib.sha256(f"{seed}/{sample_index}".encode()).digest()
    key = np.frombuffer(digest[:16], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key)).random(count)


def draw(logits_BV: Tensor, warps: Sequence[Warp], uniforms_B: Tensor) -> Draw:
    """Draw one token per row by inverting the cumulative distribution at `uniforms_B`.

    Greedy rows take the arg max; their processed log-probability is the raw one.
    """
    logits = logits_BV.float()
    raw = torch.log_softmax(logits, dim=-1)
    processed = warped_logprobs(raw, warps)
    ids = _invert(processed, uniforms_B)
    is_greedy = torch.tensor([warp.is_greedy for warp in warps])
    if is_greedy.any():
        ids = torch.where(is_greedy, raw.argmax(dim=-1), ids)
    rows = ids.unsqueeze(1)
    return Draw(ids, raw.gather(1, rows)[:, 0], processed.gather(1, rows)[:, 0], raw)


def warped_logprobs(raw_BV: Tensor, warps: Sequence[Warp]) -> Tensor:
    """Return log-probabilities `[B, V]` after temperature, top-k and then top-p, in that order."""
    result = raw_BV
    # Only the rows concerned: a row must not round differently because of its neighbours.
    scaled = [i for i, warp in enumerate(warps) if warp.temperature not in (0.0, 1.0)]
    if scaled:
        result = raw_BV.clone()
        temperatures = torch.tensor([warps[i].temperature for i in scaled]).unsqueeze(1)
        result[scaled] = torch.log_softmax(raw_BV[scaled] / temperatures, dim=-1)
    truncating = [i for i, warp in enumerate(warps) if warp.is_truncating and not warp.is_greedy]
    if truncating:
        result = result.clone()
        for row in truncating:
            result[row] = _truncate(result[row], warps[row])
    return result


def _truncate(logprobs_V: Tensor, warp: Warp) -> Tensor:
    """Keep the top_k most likely tokens, then the smallest set of mass >= top_p; renormalise."""
    ordered, order = logprobs_V.sort(descending=True)
    if warp.top_k:
        ordered[warp.top_k :] = -torch.inf
        ordered = torch.log_softmax(ordered, dim=-1)
    if warp.top_p < 1.0:
        masses = ordered.double().exp()
        ordered[masses.cumsum(-1) - masses >= warp.top_p] = -torch.inf
    ordered = torch.log_softmax(ordered, dim=-1)
    return torch.empty_like(ordered).scatter_(0, order, ordered)


def _invert(logprobs_BV: Tensor, uniforms_B: Tensor) -> Tensor:
    """Find each row's first token whose cumulative probability exceeds its uniform number.

    First the block, then the token in it: a float64 running sum over 50,000 tokens took a tenth of
    a decode step (docs/LOG.md), and one in float32 would round away the tail.
    """
    num_tokens = logprobs_BV.shape[1]
    masses = pad(logprobs_BV.exp(), (0, -num_tokens % _BLOCK)).view(len(logprobs_BV), -1, _BLOCK)
    ends = masses.sum(dim=2).double().cumsum(dim=1)
    # Below 1 by enough that the product cannot round up to the total, past the last token.
    targets = uniforms_B.double().clamp(max=1 - 2**-50).unsqueeze(1) * ends[:, -1:]
    block = torch.searchsorted(ends, targets, right=True)
    rows = torch.arange(len(masses)).unsqueeze(1)
    starts = pad(ends, (1, 0))[rows, block]
    inside = masses[rows, block][:, 0].double()
    place = torch.searchsorted(inside.cumsum(dim=1), targets - starts, right=True)
    # The block's own running sum may end a rounding error below the target.
    last = _BLOCK - 1 - (inside.flip(1) > 0).int().argmax(dim=1, keepdim=True)
    ids: Tensor = (block * _BLOCK + torch.minimum(place, last))[:, 0]
    return ids
