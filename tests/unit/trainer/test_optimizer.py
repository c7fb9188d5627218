"""Rates rise and fall as the appendix says, and Adam is the paper's."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from trainer.optimizer import adam, cosine_to_tenth, set_rate, warm_up


def parameter(value: float = 1.0) -> nn.Parameter:
    return nn.Parameter(torch.tensor([value]))


def test_adam_has_the_papers_betas_and_no_weight_decay() -> None:
    (group,) = adam([parameter()], 1e-3).param_groups
    assert group["betas"] == (0.9, 0.95)
    assert group["weight_decay"] == 0
    assert group["lr"] == 1e-3


def test_the_first_step_moves_by_the_rate_whatever_the_gradient() -> None:
    for gradient in (1e-3, 5.0, -200.0):
        weight = parameter()
        weight.grad = torch.tensor([gradient])
        adam([weight], 1e-2).step()
        moved = float(weight.detach()) - 1
        assert moved == pytest.approx(-1e-2 if gradient > 0 else 1e-2, rel=1e-3)


def test_a_weight_without_gradient_is_not_decayed() -> None:
    weight = parameter()
    weight.grad = torch.zeros(1)
    adam([weight], 1e-2).step()
    assert float(weight.detach()) == 1.0


def test_a_new_rate_holds_for_every_parameter_from_the_next_step_on() -> None:
    optimizer = torch.optim.Adam([{"params": [parameter()]}, {"params": [parameter()]}], lr=1e-3)
    set_rate(optimizer, 3e-4)
    assert [group["lr"] for group in optimizer.param_groups] == [3e-4, 3e-4]


@given(st.integers(2, 500))
def test_the_cosine_falls_from_the_peak_to_a_tenth_of_it(num_steps: int) -> None:
    factors = [cosine_to_tenth(step, num_steps) for step in range(num_steps)]
    assert factors[0] == pytest.approx(1)
    assert factors[-1] == pytest.approx(0.1)
    assert all(earlier > later for earlier, later in pairwise(factors))


def test_the_cosine_is_half_way_down_in_the_middle() -> None:
    assert cosine_to_tenth(50, 101) == pytest.approx(0.55)


def test_a_single_step_runs_at_the_peak() -> None:
    assert cosine_to_tenth(0, 1) == 1.0


def test_the_warm_up_is_a_line_from_a_tenth_to_the_whole() -> None:
    factors = [warm_up(iteration, 10) for iteration in range(13)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[5] == pytest.approx(0.55)
    assert factors[10:] == [1.0, 1.0, 1.0]
    rises = [later - earlier for earlier, later in pairwise(factors[:11])]
    assert rises == pytest.approx([0.09] * 10)


def test_without_a_warm_up_the_rate_is_whole_from_the_start() -> None:
    assert warm_up(0, 0) == 1.0
