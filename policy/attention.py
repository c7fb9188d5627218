"""Grouped-query attention for short sequences on a CPU; it does not know adapters or caches.

Shapes: B sequences, Q query heads, H key/value heads (Q = H * G), T query positions, S key
positions, D head size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

ATTENTION_NAME = "instructloop"


def register_attention() -> str:
    """Make `grouped_attention` known to transformers and return the name to ask for it by."""
    ALL_ATTENTION_FUNCTIONS.register(ATTENTION_NAME, grouped_attention)
    return ATTENTION_NAME


def grouped_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: object,
) -> tuple[Tensor, None]:
    """Attend with the G query heads of one key head side by side in one matrix product.

    torch's CPU flash kernel took 27% of a bf16 training step at 96 tokens, and repeating the keys
    for every query head copies them; two batched products do neither (docs/LOG.md).

    Args:
        query: `[B, Q, T, D]`.
        key, value: `[B, H, S, D]`.
        attention_mask: additive `[B or 1, 1, T or 1, S]`, 0 where a key is visible.

    Returns:
        `[B, T, Q, D]` and no weights, as transformers expects.
    """
    del dropout
    num_heads, num_positions, head_dim = query.shape[1:]
    num_key_heads = key.shape[1]
    group = num_heads // num_key_heads
    scale = head_dim**-0.5 if scaling is None else scaling
    query = (query * scale).reshape(-1, num_key_heads, group * num_positions, head_dim)
    scores = torch.matmul(query, key.transpose(2, 3))
    if attention_mask is not None:
        scores = scores.view(scores.shape[0], num_key_heads, group, num_positions, -1)
        scores = (scores + attention_mask.unsqueeze(1)).flatten(2, 3)
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(value.dtype)
    mixed = torch.matmul(weights, value).view(-1, num_heads, num_positions, head_dim)
    return mixed.transpose(1, 2), None


def causal_mask(
    is_visible_BS: Tensor, dtype: torch.dtype, answers_BS: Tensor | None = None
) -> Tensor:
    """Return the additive causal mask `[B, 1, S, S]` over right-padded sequences.

    answers_BS: which answer to the row's prompt a token belongs to, 0 for the prompt; an answer
        sees the prompt and itself. None: a row is one sequence.
    """
    num_positions = is_visible_BS.shape[1]
    is_past = torch.ones(num_positions, num_positions, dtype=torch.bool).tril()
    is_allowed = is_past & is_visible_BS[:, None, :]
    if answers_BS is not None:
        is_same = answers_BS[:, None, :] == answers_BS[:, :, None]
        is_allowed = is_allowed & (is_same | (answers_BS[:, None, :] == 0))
    is_allowed = is_allowed | torch.eye(num_positions, dtype=torch.bool)
    return additive(is_allowed[:, None], dtype)


def answer_positions(answers_BS: Tensor) -> Tensor:
    """Return positions `[B, S]`: each answer goes on where the row's prompt ends.

    answers_BS: 0 on the prompt, then 1, 2, ... on the answers, -1 on padding.
    """
    index = torch.arange(answers_BS.shape[1])
    is_first = torch.ones_like(answers_BS, dtype=torch.bool)
    is_first[:, 1:] = answers_BS[:, 1:] != answers_BS[:, :-1]
    starts = torch.where(is_first, index, 0).cummax(dim=1).values
    prompt_lengths = (answers_BS == 0).sum(dim=1, keepdim=True)
    return index - starts + prompt_lengths * (answers_BS > 0)


def additive(is_allowed: Tensor, dtype: torch.dtype) -> Tensor:
    """Turn a mask that is True where attention is allowed into one to add to the scores."""
    blocked = torch.tensor(torch.finfo(dtype).min / 2, dtype=dtype)
    return torch.where(is_allowed, torch.zeros((), dtype=dtype), blocked)
