"""Noise alone is never called a mixture; a stretch from elsewhere is, wherever it lies."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.evaluations import version_evidence
from trainer.evaluations.version_evidence import NONE_OF_THEM, Finding, weigh

SCALE = 0.1


def story(
    seed: int, num_tokens: int = 48, difference: float = 0.6
) -> tuple[np.random.Generator, dict[str, np.ndarray]]:
    """Log-probabilities of one choice's tokens under two versions that differ by `difference`."""
    generator = np.random.default_rng(seed)
    one = -generator.exponential(1.5, num_tokens)
    return generator, {"a": one, "b": one + generator.laplace(0, difference, num_tokens)}


def noisy(generator: np.random.Generator, logprobs: np.ndarray, scale: float = SCALE) -> np.ndarray:
    return logprobs + generator.laplace(0, scale, len(logprobs))


def test_the_noise_that_is_assumed_gives_false_alarms_no_oftener_than_the_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(version_evidence, "FALSE_ALARM", 0.05)
    alarms = 0
    for seed in range(2000):
        generator, rescored = story(seed, num_tokens=20, difference=0.15)
        alarms += weigh("a", noisy(generator, rescored["a"]), rescored, SCALE).is_mixed
    assert alarms / 2000 <= 0.05


@given(seed=st.integers(0, 10_000), num_tokens=st.integers(1, 80), difference=st.floats(0, 3))
def test_an_honest_choice_is_not_flagged(seed: int, num_tokens: int, difference: float) -> None:
    generator, rescored = story(seed, num_tokens, difference)
    finding = weigh("a", noisy(generator, rescored["a"], SCALE / 2), rescored, SCALE)
    assert not finding.is_mixed


@given(seed=st.integers(0, 10_000))
def test_a_choice_of_another_version_is_flagged_with_its_name(seed: int) -> None:
    generator, rescored = story(seed)
    finding = weigh("a", noisy(generator, rescored["b"], SCALE / 2), rescored, SCALE)
    assert finding.is_mixed
    assert finding.inseparable_from == ()


@pytest.mark.parametrize(("first", "stop"), [(24, 48), (0, 24), (12, 36)])
def test_the_stretch_that_comes_from_another_version_is_found_where_it_lies(
    first: int, stop: int
) -> None:
    for seed in range(20):
        generator, rescored = story(seed, difference=1.0)
        logged = rescored["a"].copy()
        logged[first:stop] = rescored["b"][first:stop]
        finding = weigh("a", noisy(generator, logged, SCALE / 4), rescored, SCALE)
        assert finding.is_mixed
        assert finding.worst.rival == "b"
        # The ends may be tokens on which the two agree.
        assert abs(finding.worst.first - first) <= 6
        assert abs(finding.worst.stop - stop) <= 6


def test_tokens_that_fit_no_live_version_are_flagged_as_such() -> None:
    generator, rescored = story(0)
    logged = rescored["a"].copy()
    logged[20:40] += generator.normal(0, 2, 20)
    finding = weigh("a", logged, {"a": rescored["a"]}, SCALE)
    assert finding.is_mixed
    assert finding.worst.rival == NONE_OF_THEM


def test_versions_closer_than_the_noise_are_inseparable_and_nobody_is_accused() -> None:
    generator, rescored = story(0, difference=SCALE / 100)
    finding = weigh("a", noisy(generator, rescored["b"], SCALE / 2), rescored, SCALE)
    assert not finding.is_mixed
    assert finding.inseparable_from == ("b",)


def test_what_counts_is_what_was_logged_not_which_version_likes_the_tokens_more() -> None:
    _, rescored = story(0)
    rescored["b"] = rescored["a"] + 1.0  # b likes every token more, as may happen to a sample of a
    assert not weigh("a", rescored["a"], rescored, SCALE).is_mixed
    assert weigh("b", rescored["a"], rescored, SCALE).is_mixed


def test_one_token_that_is_off_is_no_evidence_unless_it_is_far_off() -> None:
    _, rescored = story(0)
    logged = rescored["a"].copy()
    logged[3] += 5 * SCALE
    assert not weigh("a", logged, rescored, SCALE).is_mixed
    logged[3] += 100 * SCALE
    assert weigh("a", logged, rescored, SCALE).is_mixed


def test_the_mean_gap_is_that_to_the_named_version() -> None:
    finding: Finding = weigh("a", np.array([-1.0, -2.0]), {"a": np.array([-1.5, -2.0])}, SCALE)
    assert finding.mean_gap_nats == pytest.approx(0.25)
