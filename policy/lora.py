"""LoRA layers that pick the adapter of each row at call time; they do not know files or training.

PEFT owns the parameters, their names and their files; `RoutedLinear` replaces only the
arithmetic, so that sequences of several adapters share one pass over the frozen base.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from peft.tuners import lora
from torch import Tensor
from torch.nn.functional import linear


class Route:
    """Which adapter each row of the running batch uses; None is the bare base."""

    def __init__(self) -> None:
        self.adapter: str | None = None
        self.rows: tuple[tuple[str, Tensor], ...] | None = None

    @contextmanager
    def through(self, adapter: str | None) -> Iterator[None]:
        """Send every row through one adapter for the length of the block."""
        saved, self.adapter = (self.adapter, self.rows), adapter
        self.rows = None
        try:
            yield
        finally:
            self.adapter, self.rows = saved

    @contextmanager
    def through_each(self, adapters: Sequence[str | None]) -> Iterator[None]:
        """Send row i through `adapters[i]`."""
        distinct = sorted({name for name in adapters if name is not None})
        if len(set(adapters)) == 1:
            with self.through(adapters[0]):
                yield
            return
        saved = (self.adapter, self.rows)
        self.rows = tuple(
            (name, torch.tensor([i for i, other in enumerate(adapters) if other == name]))
            for name in distinct
        )
        try:
            yield
        finally:
            self.adapter, self.rows = saved


class RoutedLinear(lora.Linear):
    """A frozen linear layer plus the low-rank update of the routed adapter(s)."""

    route: Route

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._kept: dict[str, CastFactors] = {}

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Return `x W^T + b + s (x A^T) B^T`, A and B of the routed adapter."""
        layer = cast("torch.nn.Linear", self.get_base_layer())
        if self.route.rows is not None:
            return self._forward_rows(x, layer, self.route.rows)
        name = self.route.adapter
        if name is None or name not in self.lora_A:
            return linear(x, layer.weight, layer.bias)
        if not torch.is_grad_enabled():
            kept = self._cast_factors(name, x.dtype)
            flat = x.reshape(-1, x.shape[-1])
            out = linear(flat, layer.weight, layer.bias).addmm_(flat @ kept.down_T, kept.up_T)
            return out.view(*x.shape[:-1], -1)
        updated: Tensor = LowRankLinear.apply(  # type: ignore[no-untyped-call]
            x, layer.weight, layer.bias, *self._factors(name), self.scaling[name]
        )
        return updated

    def delete_adapter(self, adapter_name: str) -> None:
        """Forget an adapter and the copy of its factors."""
        self._kept.pop(adapter_name, None)
        super().delete_adapter(adapter_name)

    def _forward_rows(
        self, x: Tensor, layer: torch.nn.Linear, rows: tuple[tuple[str, Tensor], ...]
    ) -> Tensor:
        """Add each adapter's update to its own rows; for decoding, so without gradients."""
        out = linear(x, layer.weight, layer.bias)
        for name, index in rows:
            if name in self.lora_A:
                kept = self._cast_factors(name, x.dtype)
                out.index_add_(0, index, x[index] @ kept.down_T @ kept.up_T)
        return out

    def _factors(self, name: str) -> tuple[Tensor, Tensor]:
        down, up = self.lora_A[name].weight, self.lora_B[name].weight
        return cast("Tensor", down), cast("Tensor", up)

    def _cast_factors(self, name: str, dtype: torch.dtype) -> CastFactors:
        """Return the factors as the products need them, cast again only after they changed.

        A decode step would cast every factor of every layer anew. Each in-place write, an
        optimizer's or a copy's, raises a tensor's version.
        """
        down, up = self._factors(name)
        state = (down.data_ptr(), down._version, up.data_ptr(), up._version, dtype)
        kept = self._kept.get(name)
        if kept is None or kept.state != state:
            scaled = (up.detach() * self.scaling[name]).to(dtype)
            kept = CastFactors(state, down.detach().to(dtype).T, scaled.T)
            self._kept[name] = kept
        return kept


@dataclass(frozen=True, slots=True)
class CastFactors:
    """A copy of an adapter's factors: A^T `[in, r]` and s B^T `[r, out]` in the base's dtype.

    state tells which weights it was made from.
    """

    state: tuple[object, ...]
    down_T: Tensor
    up_T: Tensor


class LowRankLinear(torch.autograd.Function):
    """`y = x W^T + b + (x A^T)(s B)^T` with W frozen and fp32 factors A `[r, in]`, B `[out, r]`.

    One autograd node instead of six: no gradient for W, the update added in place, and only x and
    the rank-r product kept for the backward pass.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        down: Tensor,
        up: Tensor,
        scale: float,
    ) -> Tensor:
        """Compute y `[..., out]` in the dtype of x."""
        flat = x.reshape(-1, x.shape[-1])
        down_cast, up_cast = down.to(x.dtype), (up * scale).to(x.dtype)
        low = flat @ down_cast.T
        out = linear(flat, weight, bias).addmm_(low, up_cast.T)
        ctx.save_for_backward(flat, low, weight, down_cast, up_cast)
        ctx.scale, ctx.shape = scale, x.shape
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of x (its dtype), A and B (fp32)."""
        flat, low, weight, down, up = ctx.saved_tensors
        grad = grad.reshape(-1, grad.shape[-1])
        grad_low = grad @ up
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = (grad @ weight).addmm_(grad_low, down).view(ctx.shape)
        grad_down = (grad_low.T @ flat).float() if ctx.needs_input_grad[3] else None
        grad_up = (grad.T @ low).float().mul_(ctx.scale) if ctx.needs_input_grad[4] else None
        return grad_x, None, None, grad_down, grad_up, None
