"""The losses have the properties that the papers give them, on any batch and any padding."""

import math
from dataclasses import dataclass, replace
from itertools import combinations, pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from trainer.estimators import (
    advantages_and_returns,
    ema_decay,
    explained_variance,
    masked_mean,
    policy_loss,
    ranking_loss,
    ranking_pairs,
    token_rewards,
    value_loss,
    whiten,
)

CLIP = 0.2
seeds = st.integers(0, 2**31)


@dataclass(frozen=True)
class Rows:
    """A random batch `[B, R]` in float64; positions beyond a row's length are padding."""

    logprobs: Tensor
    other_logprobs: Tensor
    values: Tensor
    other_values: Tensor
    advantages: Tensor
    scores: Tensor
    is_response: Tensor


def rows_of(lengths: list[int], seed: int) -> Rows:
    generator = torch.Generator().manual_seed(seed)
    shape = (len(lengths), max(lengths))

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator, dtype=torch.float64)

    return Rows(
        logprobs=normal(*shape),
        other_logprobs=normal(*shape),
        values=normal(*shape),
        other_values=normal(*shape),
        advantages=normal(*shape),
        scores=normal(len(lengths)),
        is_response=torch.arange(max(lengths)) < torch.tensor(lengths)[:, None],
    )


rows = st.builds(rows_of, st.lists(st.integers(1, 6), min_size=2, max_size=5), seeds)


def one_token(**values: float) -> dict[str, Tensor]:
    """Tensors `[1, 1]` by name; the first one named asks for gradients."""
    found = {name: torch.tensor([[value]], dtype=torch.float64) for name, value in values.items()}
    next(iter(found.values())).requires_grad_(True)
    return found


REAL = torch.ones(1, 1, dtype=torch.bool)


# Comparisons (equation 1)

orders = st.integers(1, 7).flatmap(
    lambda k: st.tuples(
        st.permutations(range(k)), st.lists(st.booleans(), min_size=k - 1, max_size=k - 1)
    )
)


def tie_groups_of(order: tuple[list[int], list[bool]]) -> list[list[int]]:
    """Cut a permutation into groups wherever a flag is set."""
    items, cuts = order
    groups = [[items[0]]]
    for item, is_cut in zip(items[1:], cuts, strict=True):
        groups.append([item]) if is_cut else groups[-1].append(item)
    return groups


@given(orders.map(tie_groups_of))
def test_every_comparison_but_the_ties_is_listed_once(groups: list[list[int]]) -> None:
    rank = {item: i for i, group in enumerate(groups) for item in group}
    pairs = ranking_pairs(groups)
    expected = {frozenset(pair) for pair in combinations(rank, 2) if rank[pair[0]] != rank[pair[1]]}
    assert {frozenset(pair) for pair in pairs} == expected
    assert len(pairs) == len(expected)
    assert all(rank[better] < rank[worse] for better, worse in pairs)


@pytest.mark.parametrize("k", range(2, 10))
def test_k_answers_without_ties_give_k_choose_2_comparisons(k: int) -> None:
    assert len(ranking_pairs([[i] for i in range(k)])) == math.comb(k, 2)


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=6))
def test_the_loss_is_the_mean_over_comparisons(scores: list[float]) -> None:
    pairs = ranking_pairs([[i] for i in range(len(scores))])
    each = [math.log1p(math.exp(scores[worse] - scores[better])) for better, worse in pairs]
    loss = ranking_loss(torch.tensor(scores, dtype=torch.float64), pairs)
    assert float(loss) == pytest.approx(sum(each) / len(each))


@pytest.mark.parametrize("k", [2, 4, 9])
def test_equal_scores_cost_log_2(k: int) -> None:
    pairs = ranking_pairs([[i] for i in range(k)])
    assert float(ranking_loss(torch.full((k,), 1.7), pairs)) == pytest.approx(math.log(2))


@given(st.lists(st.floats(-5, 5), min_size=4, max_size=4), st.floats(-50, 50))
def test_a_constant_added_to_all_scores_changes_nothing(scores: list[float], by: float) -> None:
    tensor = torch.tensor(scores, dtype=torch.float64)
    pairs = ranking_pairs([[2], [0, 3], [1]])
    moved = float(ranking_loss(tensor + by, pairs))
    assert moved == pytest.approx(float(ranking_loss(tensor, pairs)))


def test_tied_answers_are_never_pushed_apart() -> None:
    scores = torch.tensor([0.3, 0.3, -1.0], requires_grad=True)
    ranking_loss(scores, ranking_pairs([[0, 1], [2]])).backward()
    assert scores.grad is not None
    assert scores.grad[0] == scores.grad[1] < 0 < scores.grad[2]


def test_a_ranking_of_ties_alone_is_refused() -> None:
    with pytest.raises(ValueError, match="all ties"):
        ranking_loss(torch.zeros(3), ranking_pairs([[0, 1, 2]]))


# Rewards (equation 2; CASES D2)


@given(rows, st.floats(0, 2))
def test_the_rewards_of_a_response_sum_to_its_score_minus_beta_times_its_kl(
    rows: Rows, beta: float
) -> None:
    found = token_rewards(rows.logprobs, rows.other_logprobs, rows.scores, rows.is_response, beta)
    kls = ((rows.logprobs - rows.other_logprobs) * rows.is_response).sum(dim=1)
    torch.testing.assert_close(found.sum(dim=1), rows.scores - beta * kls)


def test_the_score_lies_on_the_last_generated_token_alone() -> None:
    """One answer that ended early with EOS, one cut at the limit, one of a single token."""
    lengths = [2, 4, 1]
    rows = rows_of(lengths, seed=0)
    found = token_rewards(rows.logprobs, rows.logprobs, rows.scores, rows.is_response, 0.02)
    expected = torch.zeros(3, 4, dtype=torch.float64)
    for row, length in enumerate(lengths):
        expected[row, length - 1] = rows.scores[row]
    torch.testing.assert_close(found, expected)


# Advantages (Schulman et al. 2016)


def rewards_of(rows: Rows) -> Tensor:
    return rows.advantages * rows.is_response


@given(rows)
def test_with_gamma_and_lambda_1_advantages_are_rewards_to_go_minus_values(rows: Rows) -> None:
    rewards = rewards_of(rows)
    to_go = rewards.flip(1).cumsum(1).flip(1)
    advantages, returns = advantages_and_returns(rewards, rows.values, rows.is_response, 1.0, 1.0)
    torch.testing.assert_close(advantages, (to_go - rows.values) * rows.is_response)
    torch.testing.assert_close(returns, to_go * rows.is_response)


@given(rows, st.floats(0.1, 1))
def test_with_lambda_0_advantages_are_one_step_errors(rows: Rows, gamma: float) -> None:
    rewards, values = rewards_of(rows), rows.values * rows.is_response
    following = torch.cat([values[:, 1:], torch.zeros(len(values), 1, dtype=values.dtype)], dim=1)
    advantages, _ = advantages_and_returns(rewards, rows.values, rows.is_response, gamma, 0.0)
    expected = (rewards + gamma * following - values) * rows.is_response
    torch.testing.assert_close(advantages, expected)


@given(rows, st.floats(0, 1))
def test_a_critic_that_knows_the_future_leaves_no_advantage(rows: Rows, lam: float) -> None:
    rewards = rewards_of(rows)
    to_go = rewards.flip(1).cumsum(1).flip(1)
    advantages, returns = advantages_and_returns(rewards, to_go, rows.is_response, 1.0, lam)
    torch.testing.assert_close(advantages, torch.zeros_like(advantages))
    torch.testing.assert_close(returns, to_go * rows.is_response)


@given(rows, st.floats(0.1, 1), st.floats(0, 1))
def test_returns_are_advantages_plus_values(rows: Rows, gamma: float, lam: float) -> None:
    advantages, returns = advantages_and_returns(
        rewards_of(rows), rows.values, rows.is_response, gamma, lam
    )
    torch.testing.assert_close(returns - advantages, rows.values * rows.is_response)


# Whitening


@given(rows)
def test_whitened_values_have_mean_0_and_variance_1_over_real_tokens(rows: Rows) -> None:
    real = whiten(rows.advantages, rows.is_response)[rows.is_response]
    assert float(real.mean()) == pytest.approx(0, abs=1e-9)
    assert float(real.var(correction=0)) == pytest.approx(1, abs=1e-3)


@given(rows, st.floats(0.5, 20), st.floats(-20, 20))
def test_whitening_forgets_level_and_scale(rows: Rows, scale: float, shift: float) -> None:
    found = whiten(rows.advantages * scale + shift, rows.is_response)
    expected = whiten(rows.advantages, rows.is_response)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


# The clipped losses (Schulman et al. 2017; spec 10.1)


@given(rows, st.floats(0, 0.99))
def test_inside_the_range_the_policy_loss_is_the_unclipped_one(rows: Rows, by: float) -> None:
    ratios = 1 + CLIP * by * torch.tanh(rows.values)
    logprobs = rows.logprobs + ratios.log()
    loss, found = policy_loss(logprobs, rows.logprobs, rows.advantages, rows.is_response, CLIP)
    plain = -masked_mean(rows.advantages * ratios, rows.is_response)
    torch.testing.assert_close(loss, plain)
    torch.testing.assert_close(found[rows.is_response], ratios[rows.is_response])


@given(rows)
def test_before_the_first_step_the_gradient_is_that_of_the_policy_gradient(rows: Rows) -> None:
    logprobs = rows.logprobs.clone().requires_grad_(True)
    loss, _ = policy_loss(logprobs, rows.logprobs, rows.advantages, rows.is_response, CLIP)
    loss.backward()
    expected = -rows.advantages * rows.is_response / rows.is_response.sum()
    torch.testing.assert_close(logprobs.grad, expected)


@given(rows)
def test_clipping_only_ever_makes_the_policy_loss_worse(rows: Rows) -> None:
    loss, ratios = policy_loss(
        rows.logprobs, rows.other_logprobs, rows.advantages, rows.is_response, CLIP
    )
    plain = -masked_mean(rows.advantages * ratios, rows.is_response)
    assert float(loss) >= float(plain) - 1e-12


@pytest.mark.parametrize(
    ("ratio", "advantage", "has_gradient"),
    [
        (1.3, 1.0, False),  # a good action is likely enough already
        (0.7, -1.0, False),  # a bad action is unlikely enough already
        (0.7, 1.0, True),  # a good action became unlikely: pull it back
        (1.3, -1.0, True),  # a bad action became likely: push it down
        (1.19, 1.0, True),  # still in the range
        (0.81, -1.0, True),
    ],
)
def test_outside_the_range_only_the_way_back_has_a_gradient(
    ratio: float, advantage: float, has_gradient: bool
) -> None:
    tensors = one_token(logprob=math.log(ratio), old=0.0, advantage=advantage)
    loss, _ = policy_loss(tensors["logprob"], tensors["old"], tensors["advantage"], REAL, CLIP)
    loss.backward()
    assert tensors["logprob"].grad is not None
    assert bool(tensors["logprob"].grad != 0) == has_gradient


@given(rows, st.floats(0, 0.99))
def test_inside_the_range_the_value_loss_is_half_the_squared_error(rows: Rows, by: float) -> None:
    values = rows.other_values + CLIP * by * torch.tanh(rows.values)
    loss = value_loss(values, rows.other_values, rows.advantages, rows.is_response, CLIP)
    plain = 0.5 * masked_mean((values - rows.advantages) ** 2, rows.is_response)
    torch.testing.assert_close(loss, plain)


@pytest.mark.parametrize(
    ("value", "has_gradient"),
    [
        (0.5, False),  # moved towards the return by more than the clip: far enough
        (-0.5, True),  # moved away from it: pull it back
        (0.21, False),
        (0.19, True),  # within the range
    ],
)
def test_outside_the_range_a_value_that_came_nearer_has_no_gradient(
    value: float, has_gradient: bool
) -> None:
    tensors = one_token(value=value, old=0.0, target=1.0)
    value_loss(tensors["value"], tensors["old"], tensors["target"], REAL, CLIP).backward()
    assert tensors["value"].grad is not None
    assert bool(tensors["value"].grad != 0) == has_gradient


# Padding


def garbled(rows: Rows, seed: int) -> Rows:
    """The same batch, two columns wider, with other and huge numbers on all padding."""
    generator = torch.Generator().manual_seed(seed)
    count, width = rows.is_response.shape
    mask = torch.zeros(count, width + 2, dtype=torch.bool)
    mask[:, :width] = rows.is_response

    def garble(tensor: Tensor) -> Tensor:
        noise = 1e3 * torch.randn(mask.shape, generator=generator, dtype=tensor.dtype)
        return noise.masked_scatter(mask, tensor[rows.is_response])

    names = ("logprobs", "other_logprobs", "values", "other_values", "advantages")
    changed = {name: garble(getattr(rows, name)) for name in names}
    return replace(rows, is_response=mask, **changed)


def results_of(rows: Rows) -> list[Tensor]:
    """Every masked function of the module; per-token results at real tokens only."""
    mask = rows.is_response
    rewards = token_rewards(rows.logprobs, rows.other_logprobs, rows.scores, mask, 0.1)
    advantages, returns = advantages_and_returns(rewards, rows.values, mask, 1.0, 0.95)
    whitened = whiten(rows.advantages, mask)
    policy, ratios = policy_loss(rows.logprobs, rows.other_logprobs, rows.advantages, mask, CLIP)
    value = value_loss(rows.values, rows.other_values, rows.advantages, mask, CLIP)
    explained = torch.tensor(explained_variance(rows.values, rows.advantages, mask))
    per_token = [rewards, advantages, returns, whitened, ratios]
    mean = masked_mean(rows.values, mask)
    return [*[each[mask] for each in per_token], policy, value, mean, explained]


@given(rows, seeds)
def test_padding_never_matters(rows: Rows, seed: int) -> None:
    for plain, padded in zip(results_of(rows), results_of(garbled(rows, seed)), strict=True):
        torch.testing.assert_close(padded, plain)


@given(rows, seeds)
def test_per_token_results_are_0_on_padding(rows: Rows, seed: int) -> None:
    rows = garbled(rows, seed)
    mask = rows.is_response
    rewards = token_rewards(rows.logprobs, rows.other_logprobs, rows.scores, mask, 0.1)
    advantages, returns = advantages_and_returns(rewards, rows.values, mask, 1.0, 0.95)
    for found in (rewards, advantages, returns, whiten(rows.advantages, mask)):
        assert not found[~mask].any()


@given(rows, seeds)
def test_padding_gets_no_gradient(rows: Rows, seed: int) -> None:
    rows = garbled(rows, seed)
    mask = rows.is_response
    logprobs, values = (t.clone().requires_grad_(True) for t in (rows.logprobs, rows.values))
    policy, _ = policy_loss(logprobs, rows.other_logprobs, rows.advantages, mask, CLIP)
    value = value_loss(values, rows.other_values, rows.advantages, mask, CLIP)
    (policy + value).backward()
    for tensor in (logprobs, values):
        assert tensor.grad is not None
        assert not tensor.grad[~mask].any()


# The rest


@given(rows)
def test_a_perfect_critic_explains_all_variance_and_a_constant_one_none(rows: Rows) -> None:
    mask = rows.is_response
    assert explained_variance(rows.values, rows.values, mask) == pytest.approx(1)
    constant = torch.full_like(rows.values, 3.0)
    assert explained_variance(constant, rows.values, mask) == pytest.approx(0, abs=1e-9)
    assert explained_variance(-rows.values, rows.values, mask) == pytest.approx(-3)


def test_without_variance_nothing_is_explained() -> None:
    constant = torch.ones(2, 3)
    assert explained_variance(torch.zeros(2, 3), constant, constant.bool()) == 0.0


@pytest.mark.parametrize("num_iterations", [1, 24, 500, 2000])
def test_a_shorter_run_forgets_its_start_as_far_as_the_papers(num_iterations: int) -> None:
    decay = ema_decay(0.992, 500, num_iterations)
    assert decay**num_iterations == pytest.approx(0.992**500)


def test_the_papers_own_length_keeps_the_papers_decay_and_shorter_runs_decay_faster() -> None:
    assert ema_decay(0.992, 500, 500) == pytest.approx(0.992)
    decays = [ema_decay(0.992, 500, n) for n in (8, 24, 100, 500)]
    assert all(shorter < longer for shorter, longer in pairwise(decays))
