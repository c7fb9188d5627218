"""A preallocated key/value cache with dense slots; it does not know tokens or sampling.

Slots [0, n) are live. A finished sequence's slot is filled by the last live one, so that a decode
step reads one contiguous block and copies nothing.
"""

from __future__ import annotations

import math
import mmap

import torch
from torch import Tensor


class KeyValueCache:
    """Keys and values `[slots, heads, positions, head size]` for every layer.

    It speaks the small part of transformers' cache protocol that attention layers use: `update`.
    """

    def __init__(
        self,
        num_layers: int,
        num_slots: int,
        num_heads: int,
        num_positions: int,
        head_dim: int,
        dtype: torch.dtype,
    ) -> None:
        shape = (num_slots, num_heads, num_positions, head_dim)
        self._keys = [_lazy_zeros(shape, dtype) for _ in range(num_layers)]
        self._values = [_lazy_zeros(shape, dtype) for _ in range(num_layers)]
        self.num_slots, self.num_positions = num_slots, num_positions
        self._first_slot = 0
        self._positions: Tensor | None = None
        self._num_visible = 0

    def begin_prefill(self, first_slot: int) -> None:
        """Write the next forward pass from position 0 of the slots from `first_slot` on."""
        self._first_slot, self._positions = first_slot, None

    def begin_step(self, lengths_B: Tensor) -> None:
        """Write one token per live slot at position `lengths_B`, attend up to the longest."""
        self._positions = lengths_B
        self._num_visible = int(lengths_B.max()) + 1

    def update(
        self, key: Tensor, value: Tensor, layer_idx: int, *_: object, **__: object
    ) -> tuple[Tensor, Tensor]:
        """Store this layer's new keys and values `[B, H, T, D]`; return those to attend to."""
        keys, values = self._keys[layer_idx], self._values[layer_idx]
        batch, num_new = key.shape[0], key.shape[2]
        if self._positions is None:
            rows = slice(self._first_slot, self._first_slot + batch)
            keys[rows, :, :num_new] = key
            values[rows, :, :num_new] = value
            return key, value
        rows_B = torch.arange(batch)
        keys[rows_B, :, self._positions] = key[:, :, 0]
        values[rows_B, :, self._positions] = value[:, :, 0]
        return keys[:batch, :, : self._num_visible], values[:batch, :, : self._num_visible]

    def copy_slot(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` positions of one slot over another."""
        if source != target:
            for block in (*self._keys, *self._values):
                block[target, :, :length] = block[source, :, :length]


def _lazy_zeros(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Return zeros that take memory only where they are written: most slots stay short."""
    pages = mmap.mmap(-1, math.prod(shape) * dtype.itemsize)
    return torch.frombuffer(pages, dtype=dtype).view(shape)
