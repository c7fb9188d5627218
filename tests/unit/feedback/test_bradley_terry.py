"""Strengths come back from simulated comparisons, and are refused where they have no scale."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback.bradley_terry import fit_bradley_terry

Comparison = tuple[str, str, float]


def simulate(
    strengths: dict[str, float], tie_parameter: float, num_games: int, seed: int
) -> list[Comparison]:
    """Draw balanced comparisons by Davidson's model, strengths as natural logarithms."""
    generator = np.random.default_rng(seed)
    names = sorted(strengths)
    games = []
    for first in names:
        for second in names:
            if first < second:
                p, q = math.exp(strengths[first]), math.exp(strengths[second])
                weights = np.array([p, tie_parameter * math.sqrt(p * q), q])
                drawn = generator.choice([1.0, 0.5, 0.0], num_games, p=weights / weights.sum())
                games += [(first, second, outcome) for outcome in drawn.tolist()]
    return games


@pytest.mark.parametrize("tie_parameter", [0.0, 0.4, 2.0])
def test_known_strengths_are_recovered(tie_parameter: float) -> None:
    truth = {"base": -1.2, "ppo": 0.9, "rm-best-of-4": 0.5, "sft": -0.2}
    fitted = fit_bradley_terry(simulate(truth, tie_parameter, 5000, seed=1))
    assert fitted.strengths == pytest.approx(truth, abs=0.08)
    assert fitted.tie_parameter == pytest.approx(tie_parameter, rel=0.08, abs=1e-5)


def test_two_models_without_ties_have_the_log_odds_of_their_wins() -> None:
    fitted = fit_bradley_terry([("a", "b", 1.0)] * 30 + [("a", "b", 0.0)] * 10)
    assert fitted.strengths["a"] - fitted.strengths["b"] == pytest.approx(math.log(3), abs=1e-3)
    assert fitted.win_rate("a", "b") == pytest.approx(0.75, abs=1e-3)


def test_the_fit_reproduces_wins_and_ties_of_two_models() -> None:
    """Davidson's maximum matches the score of each item and the number of ties."""
    games: list[Comparison] = [("a", "b", 1.0)] * 5 + [("a", "b", 0.5)] * 3 + [("a", "b", 0.0)] * 2
    assert fit_bradley_terry(games).win_rate("a", "b") == pytest.approx(0.65, abs=1e-3)


def test_ties_only_mean_equal_strengths() -> None:
    fitted = fit_bradley_terry([("a", "b", 0.5), ("b", "c", 0.5)])
    assert fitted.strengths == pytest.approx({"a": 0.0, "b": 0.0, "c": 0.0}, abs=1e-9)
    assert fitted.win_rate("a", "c") == pytest.approx(0.5)
    assert fitted.tie_parameter > 50


games_of_three = st.lists(
    st.tuples(
        st.sampled_from([("a", "b"), ("b", "c"), ("a", "c")]), st.sampled_from([0.0, 0.5, 1.0])
    ),
    max_size=25,
)


@given(games_of_three)
def test_swapping_the_sides_of_every_comparison_changes_nothing(
    games: list[tuple[tuple[str, str], float]],
) -> None:
    # Two ties connect the graph.
    rows = [(*pair, outcome) for pair, outcome in games]
    rows += [("a", "b", 0.5), ("b", "c", 0.5)]
    fitted = fit_bradley_terry(rows)
    swapped = fit_bradley_terry([(second, first, 1 - outcome) for first, second, outcome in rows])
    assert fitted.strengths == pytest.approx(swapped.strengths, abs=1e-6)
    assert sum(fitted.strengths.values()) == pytest.approx(0, abs=1e-6)
    assert fitted.win_rate("a", "b") == pytest.approx(1 - fitted.win_rate("b", "a"))


@given(games_of_three)
def test_reversing_every_outcome_reverses_the_strengths(
    games: list[tuple[tuple[str, str], float]],
) -> None:
    rows = [(*pair, outcome) for pair, outcome in games]
    rows += [("a", "b", 0.5), ("b", "c", 0.5)]
    fitted = fit_bradley_terry(rows)
    reversed_ = fit_bradley_terry([(first, second, 1 - outcome) for first, second, outcome in rows])
    for name, strength in fitted.strengths.items():
        assert strength == pytest.approx(-reversed_.strengths[name], abs=1e-6)


def test_groups_that_never_met_are_refused_by_name() -> None:
    games: list[Comparison] = [("a", "b", 1.0), ("b", "a", 1.0), ("c", "d", 1.0), ("d", "c", 1.0)]
    with pytest.raises(ValueError, match=r"nothing joins a, b to c, d; compare items across"):
        fit_bradley_terry(games)


def test_a_model_that_always_won_gets_a_large_but_finite_strength() -> None:
    fitted = fit_bradley_terry([("a", "b", 1.0)] * 20)
    assert 0.99 < fitted.win_rate("a", "b") < 1


def test_nearly_separated_strengths_stay_finite() -> None:
    games: list[Comparison] = [("a", "b", 1.0)] * 5000 + [("a", "b", 0.0)]
    fitted = fit_bradley_terry(games)
    assert fitted.strengths["a"] - fitted.strengths["b"] == pytest.approx(math.log(5000), abs=0.05)


def test_mistakes_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="no comparisons"):
        fit_bradley_terry([])
    with pytest.raises(ValueError, match="'a' is compared with itself"):
        fit_bradley_terry([("a", "a", 1.0)])
    with pytest.raises(ValueError, match="outcome 2"):
        fit_bradley_terry([("a", "b", 2)])
