"""Preference statistics have the properties that make them worth quoting."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedback.preferences import (
    Interval,
    length_controlled_win_rate,
    outcomes_of,
    paired_difference,
    pairwise_agreement,
    wilson_interval,
    win_rate,
)

RESAMPLES = 200
rows = st.lists(
    st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.integers(0, 5), st.integers(-50, 50)),
    min_size=1,
    max_size=40,
)


def assert_mirrored(one: Interval, other: Interval) -> None:
    assert one.estimate == pytest.approx(1 - other.estimate, abs=1e-6)
    assert one.low == pytest.approx(1 - other.high, abs=1e-6)
    assert one.high == pytest.approx(1 - other.low, abs=1e-6)


@given(rows)
def test_swapping_the_sides_mirrors_the_win_rate_and_its_interval(
    table: list[tuple[float, int, int]],
) -> None:
    outcomes, clusters, _ = map(list, zip(*table, strict=True))
    one = win_rate(outcomes, clusters, seed=1, num_resamples=RESAMPLES)
    swapped = [1 - outcome for outcome in outcomes]
    assert_mirrored(one, win_rate(swapped, clusters, seed=1, num_resamples=RESAMPLES))


@settings(deadline=None)
@given(rows)
def test_swapping_the_sides_mirrors_the_length_controlled_rate(
    table: list[tuple[float, int, int]],
) -> None:
    outcomes, clusters, lengths = map(list, zip(*table, strict=True))
    one = length_controlled_win_rate(outcomes, lengths, clusters, seed=1, num_resamples=20)
    swapped = length_controlled_win_rate(
        [1 - outcome for outcome in outcomes],
        [-length for length in lengths],
        clusters,
        seed=1,
        num_resamples=20,
    )
    assert_mirrored(one, swapped)


@given(rows)
def test_intervals_contain_their_estimate_and_stay_within_zero_and_one(
    table: list[tuple[float, int, int]],
) -> None:
    outcomes, clusters, lengths = map(list, zip(*table, strict=True))
    for interval in (
        win_rate(outcomes, clusters, seed=3, num_resamples=RESAMPLES),
        length_controlled_win_rate(outcomes, lengths, clusters, seed=3, num_resamples=20),
        wilson_interval(sum(outcomes), len(outcomes)),
    ):
        assert 0 <= interval.low <= interval.estimate <= interval.high <= 1


def test_ties_only_are_exactly_one_half() -> None:
    outcomes, clusters, lengths = [0.5] * 30, list(range(30)), list(range(-15, 15))
    assert win_rate(outcomes, clusters, seed=0) == Interval(0.5, 0.5, 0.5, 0.95)
    controlled = length_controlled_win_rate(outcomes, lengths, clusters, seed=0, num_resamples=50)
    assert controlled == Interval(0.5, 0.5, 0.5, 0.95)
    assert wilson_interval(15, 30).estimate == 0.5


def test_the_win_rate_is_the_mean_outcome_and_one_seed_gives_one_interval() -> None:
    outcomes, clusters = [1.0, 0.5, 0.0, 1.0], ["a", "a", "b", "c"]
    one = win_rate(outcomes, clusters, seed=5)
    assert one.estimate == 0.625
    assert win_rate(outcomes, clusters, seed=5) == one


def test_a_single_prompt_has_no_spread_to_resample() -> None:
    assert win_rate([1, 0, 1, 1], ["p"] * 4, seed=0) == Interval(0.75, 0.75, 0.75, 0.95)


def test_the_bootstrap_covers_the_true_rate_about_as_often_as_it_says() -> None:
    """60 prompts, 4 correlated outcomes each with ties: 95% intervals cover in 90% to 98%."""
    generator = np.random.default_rng(7)
    clusters = np.repeat(np.arange(60), 4).tolist()
    covered, num_trials, truth = 0, 400, 0.15 * 0.5 + 0.85 * 0.6
    for trial in range(num_trials):
        rates = np.repeat(generator.beta(6, 4, size=60), 4)  # mean 0.6, prompts differ
        is_tie = generator.random(240) < 0.15
        wins = (generator.random(240) < rates).astype(float)
        outcomes = np.where(is_tie, 0.5, wins)
        interval = win_rate(outcomes.tolist(), clusters, seed=trial, num_resamples=400)
        covered += interval.low <= truth <= interval.high
    assert 0.90 <= covered / num_trials <= 0.98


def test_ignoring_clusters_would_understate_the_uncertainty() -> None:
    """Twenty copies of each outcome carry no information beyond one."""
    outcomes = [1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 1.0] * 4
    single = win_rate(outcomes, list(range(32)), seed=0)
    copied = win_rate(np.repeat(outcomes, 20).tolist(), np.repeat(range(32), 20).tolist(), seed=0)
    naive = win_rate(np.repeat(outcomes, 20).tolist(), list(range(640)), seed=0)
    assert copied == single
    assert naive.high - naive.low < 0.4 * (copied.high - copied.low)


def test_more_confidence_is_a_wider_interval() -> None:
    outcomes = [1.0, 0.0, 0.5, 1.0] * 10
    narrow = win_rate(outcomes, list(range(40)), seed=0, confidence=0.5)
    wide = win_rate(outcomes, list(range(40)), seed=0, confidence=0.99)
    assert wide.low < narrow.low < narrow.high < wide.high


def test_the_batches_of_resamples_are_bounded_but_complete() -> None:
    """Many prompts and resamples: the interval is that of the normal approximation."""
    generator = np.random.default_rng(0)
    outcomes = (generator.random(20_000) < 0.6).astype(float)
    interval = win_rate(outcomes.tolist(), list(range(20_000)), seed=0, num_resamples=500)
    expected = 2 * 1.96 * math.sqrt(0.24 / 20_000)
    assert interval.high - interval.low == pytest.approx(expected, rel=0.15)


def test_wilson_matches_the_published_example() -> None:
    """Newcombe (1998), table I: 81 of 263 gives 0.2553 to 0.3662; 0 of 20 gives 0 to 0.1611."""
    interval = wilson_interval(81, 263)
    assert (interval.low, interval.high) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    interval = wilson_interval(0, 20)
    assert (interval.low, interval.high) == pytest.approx((0.0, 0.1611), abs=5e-5)


def test_a_ranking_gives_the_outcome_of_every_pair() -> None:
    assert outcomes_of([[2], [0, 3], [1]]) == {
        (0, 1): 1.0,
        (0, 2): 0.0,
        (0, 3): 0.5,
        (1, 2): 0.0,
        (1, 3): 0.0,
        (2, 3): 1.0,
    }


def test_agreement_counts_ties_softly() -> None:
    assert pairwise_agreement([1, 0, 0.5], [1, 0, 0.5]) == 1
    assert pairwise_agreement([1, 0], [0, 1]) == 0
    assert pairwise_agreement([1, 0], [0.5, 0.5]) == 0.5
    assert pairwise_agreement([1, 1, 0, 1], [1, 0, 0, 1]) == 0.75


@given(rows)
def test_agreement_is_symmetric_and_blind_to_the_side(
    table: list[tuple[float, int, int]],
) -> None:
    first = [outcome for outcome, _, _ in table]
    second = [0.5 + 0.5 * np.sign(length) for _, _, length in table]
    agreement = pairwise_agreement(first, second)
    assert agreement == pytest.approx(pairwise_agreement(second, first))
    mirrored = pairwise_agreement([1 - x for x in first], [1 - x for x in second])
    assert agreement == pytest.approx(mirrored)


def test_a_paired_difference_is_sharper_than_two_separate_rates() -> None:
    generator = np.random.default_rng(3)
    weaker = (generator.random(300) < 0.6).astype(float)
    better = np.maximum(weaker, (generator.random(300) < 0.1).astype(float))
    clusters = list(range(300))
    difference = paired_difference(better.tolist(), weaker.tolist(), clusters, seed=0)
    assert difference.estimate == pytest.approx(better.mean() - weaker.mean())
    assert difference.low > 0
    one, other = (win_rate(x.tolist(), clusters, seed=0) for x in (better, weaker))
    assert difference.high - difference.low < one.high - one.low + other.high - other.low
    reverse = paired_difference(weaker.tolist(), better.tolist(), clusters, seed=0)
    assert (reverse.low, reverse.high) == pytest.approx((-difference.high, -difference.low))


def test_length_control_removes_a_win_rate_that_is_only_length() -> None:
    """The longer answer wins 80% of the time and the first side is longer in 75% of the rows."""
    generator = np.random.default_rng(11)
    is_longer = generator.random(2000) < 0.75
    lengths = np.where(is_longer, 20.0, -20.0)
    outcomes = (generator.random(2000) < np.where(is_longer, 0.8, 0.2)).astype(float)
    raw = win_rate(outcomes.tolist(), list(range(2000)), seed=0, num_resamples=RESAMPLES)
    controlled = length_controlled_win_rate(
        outcomes.tolist(), lengths.tolist(), list(range(2000)), seed=0, num_resamples=RESAMPLES
    )
    assert raw.low > 0.6
    assert controlled.low < 0.5 < controlled.high
    assert controlled.high - controlled.low < 0.1


def test_length_control_keeps_a_win_rate_that_owes_nothing_to_length() -> None:
    generator = np.random.default_rng(12)
    outcomes = (generator.random(2000) < 0.7).astype(float)
    lengths = generator.normal(size=2000)
    clusters = list(range(2000))
    controlled = length_controlled_win_rate(
        outcomes.tolist(), lengths.tolist(), clusters, seed=0, num_resamples=RESAMPLES
    )
    assert controlled.estimate == pytest.approx(outcomes.mean(), abs=0.01)


def test_length_control_stays_finite_where_length_decides_everything() -> None:
    outcomes, lengths = [1.0] * 10 + [0.0] * 10, [5.0] * 10 + [-5.0] * 10
    interval = length_controlled_win_rate(outcomes, lengths, list(range(20)), seed=0)
    assert interval.estimate == pytest.approx(0.5)
    always = length_controlled_win_rate([1.0] * 20, lengths, list(range(20)), seed=0)
    assert 0.95 < always.estimate < 1


def test_equal_lengths_leave_the_plain_win_rate() -> None:
    outcomes = [1.0, 1.0, 0.5, 0.0] * 50
    clusters = list(range(200))
    controlled = length_controlled_win_rate(outcomes, [7.0] * 200, clusters, seed=0)
    assert controlled.estimate == pytest.approx(0.625, abs=1e-3)


@pytest.mark.parametrize(
    ("outcomes", "clusters", "words"),
    [
        ([], [], "non-empty"),
        ([1.5], ["p"], r"\[0, 1\]"),
        ([math.nan], ["p"], "finite"),
        ([1.0, 0.0], ["p"], "as many clusters"),
    ],
)
def test_a_table_that_is_none_is_refused(
    outcomes: list[float], clusters: list[str], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        win_rate(outcomes, clusters, seed=0)


def test_other_mistakes_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="confidence"):
        win_rate([1.0], ["p"], seed=0, confidence=95)
    with pytest.raises(ValueError, match="num_resamples"):
        win_rate([1.0], ["p"], seed=0, num_resamples=0)
    with pytest.raises(ValueError, match="length_differences"):
        length_controlled_win_rate([1.0, 0.0], [1.0], ["p", "q"], seed=0)
    with pytest.raises(ValueError, match="pair them"):
        paired_difference([1.0], [1.0, 0.0], ["p"], seed=0)
    with pytest.raises(ValueError, match="pair them"):
        pairwise_agreement([1.0], [1.0, 0.0])
    for num_wins, num_trials in ((2, 1), (-1, 1), (0, 0)):
        with pytest.raises(ValueError, match="wins"):
            wilson_interval(num_wins, num_trials)
