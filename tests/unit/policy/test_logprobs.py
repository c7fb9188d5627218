"""Log-probabilities in blocks are those of a plain softmax over all logits, gradients included."""

import pytest
import torch
from torch import Tensor

from policy.logprobs import CHUNK, chosen_logprobs, exact_kls

DIM, VOCABULARY = 16, 37
BOUNDARIES = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 1]
TEMPERATURES = [1.0, 0.7, 2.0]


def tensors(count: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Hidden states `[N, D]`, an unembedding `[V, D]` and chosen ids `[N]`."""
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(count, DIM, generator=generator)
    weight = torch.randn(VOCABULARY, DIM, generator=generator)
    return hidden, weight, torch.randint(VOCABULARY, (count,), generator=generator)


def plain(hidden: Tensor, weight: Tensor, temperature: float = 1.0) -> Tensor:
    """The whole of it at once, in double precision: `[N, V]`."""
    return torch.log_softmax(hidden.double() @ weight.double().T / temperature, dim=1)


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("count", BOUNDARIES)
def test_chosen_log_probabilities_are_those_of_a_plain_softmax(
    count: int, temperature: float
) -> None:
    hidden, weight, ids = tensors(count)
    found = chosen_logprobs(hidden, weight, ids, temperature)
    expected = plain(hidden, weight, temperature).gather(1, ids[:, None])[:, 0]
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("count", BOUNDARIES)
def test_the_gradient_is_that_of_autograd(count: int, temperature: float) -> None:
    hidden, weight, ids = tensors(count)
    weights = torch.linspace(-1, 2, count)
    ours, theirs = hidden.clone().requires_grad_(True), hidden.clone().requires_grad_(True)
    (chosen_logprobs(ours, weight, ids, temperature) * weights).sum().backward()
    chosen = plain(theirs, weight, temperature).gather(1, ids[:, None])[:, 0]
    (chosen * weights).sum().backward()
    assert ours.grad is not None
    torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-4, rtol=1e-4)


def test_the_frozen_unembedding_gets_no_gradient() -> None:
    hidden, weight, ids = tensors(5)
    hidden.requires_grad_(True)
    weight.requires_grad_(True)
    chosen_logprobs(hidden, weight, ids).sum().backward()
    assert weight.grad is None


def test_without_a_gradient_the_numbers_are_the_same() -> None:
    hidden, weight, ids = tensors(CHUNK + 3)
    with_gradient = chosen_logprobs(hidden.clone().requires_grad_(True), weight, ids)
    assert torch.equal(with_gradient.detach(), chosen_logprobs(hidden, weight, ids))


def test_bfloat16_states_give_float32_results_within_the_rounding_of_their_inputs() -> None:
    hidden, weight, ids = tensors(40)
    hidden, weight = hidden.bfloat16(), weight.bfloat16()
    ours = hidden.clone().requires_grad_(True)
    found = chosen_logprobs(ours, weight, ids)
    theirs = hidden.double().requires_grad_(True)
    expected = plain(theirs, weight).gather(1, ids[:, None])[:, 0]
    torch.testing.assert_close(found.double(), expected, atol=0.1, rtol=0.02)
    assert found.dtype == torch.float32
    found.sum().backward()
    expected.sum().backward()
    assert ours.grad is not None
    assert theirs.grad is not None
    error = (ours.grad.double() - theirs.grad).norm() / theirs.grad.norm()
    assert float(error) < 0.02


def test_the_chances_of_all_ids_sum_to_one() -> None:
    hidden, weight, _ = tensors(1)
    ids = torch.arange(VOCABULARY)
    found = chosen_logprobs(hidden.expand(VOCABULARY, DIM), weight, ids, 0.7)
    assert float(found.exp().sum()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("count", BOUNDARIES)
def test_kls_are_sums_over_the_whole_vocabulary(count: int) -> None:
    hidden, weight, _ = tensors(count)
    other = tensors(count, seed=1)[0]
    ours, theirs = plain(hidden, weight, 0.7), plain(other, weight, 0.7)
    expected = (ours.exp() * (ours - theirs)).sum(dim=1)
    found = exact_kls(hidden, other, weight, 0.7).double()
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)
    assert bool((found >= 0).all())


def test_a_distribution_is_0_nats_from_itself() -> None:
    hidden, weight, _ = tensors(CHUNK + 1)
    assert not exact_kls(hidden, hidden, weight).any()
