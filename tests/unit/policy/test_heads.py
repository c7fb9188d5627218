"""A scalar head starts as the paper's and computes in float32 on any trunk."""

import pytest
import torch

from policy.heads import ScalarHead


def test_its_weight_has_the_standard_deviation_of_the_source_and_its_bias_is_zero() -> None:
    hidden_size = 20_000
    head = ScalarHead(hidden_size, seed=3)
    assert head.weight.std().item() == pytest.approx((hidden_size + 1) ** -0.5, rel=0.03)
    assert head.weight.mean().item() == pytest.approx(0.0, abs=3e-4)
    assert head.bias.item() == 0.0


def test_the_seed_alone_decides_the_weight() -> None:
    torch.manual_seed(1)
    first = ScalarHead(16, seed=5).weight
    torch.manual_seed(2)
    assert torch.equal(first, ScalarHead(16, seed=5).weight)
    assert not torch.equal(first, ScalarHead(16, seed=6).weight)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_step_on_any_trunk_is_finite_float32_and_moves_the_head(dtype: torch.dtype) -> None:
    head = ScalarHead(8)
    hidden_BTD = torch.randn(2, 3, 8).to(dtype)
    scores_BT = head(hidden_BTD)
    assert scores_BT.shape == (2, 3)
    assert scores_BT.dtype == torch.float32
    scores_BT.square().sum().backward()
    assert head.weight.grad is not None
    assert head.weight.grad.dtype == torch.float32
    assert head.weight.grad.isfinite().all()
