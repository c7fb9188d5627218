"""The scalar head of reward and value models; it does not know what its number means."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ScalarHead(nn.Module):
    """One number per hidden state, in float32 whatever the dtype of the trunk (CASES D12).

    weight `[D]`, or `[2 D]` for two states side by side, starts as N(0, 1/sqrt(D + 1)), its
    standard deviation, and bias `[]` as 0 (spec 10.3 item 8, Stiennon et al. 2020).
    """

    def __init__(self, hidden_size: int, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        std = (hidden_size + 1) ** -0.5
        self.weight = nn.Parameter(torch.randn(hidden_size, generator=generator) * std)
        self.bias = nn.Parameter(torch.zeros(()))

    @classmethod
    def zero(cls, hidden_size: int) -> ScalarHead:
        """Return a head that scores everything 0.

        With a few hundred votes a drawn head's noise is not unlearned in one epoch: the first loss
        was 0.83 instead of log 2 = 0.69 (docs/LOG.md).
        """
        head = cls(hidden_size)
        nn.init.zeros_(head.weight)
        return head

    def folded(self, hidden_size: int) -> ScalarHead:
        """Return a head for one state from one that reads several side by side: their sum."""
        head = ScalarHead.zero(hidden_size)
        with torch.no_grad():
            head.weight.copy_(self.weight.view(-1, hidden_size).sum(dim=0))
            head.bias.copy_(self.bias)
        return head

    def forward(self, hidden: Tensor) -> Tensor:
        """Turn hidden states `[..., D]` into scores `[...]`, float32."""
        return hidden.float() @ self.weight + self.bias
