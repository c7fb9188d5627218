"""Statistics of preferences: win rates with intervals, agreement, length control, strengths.

An outcome is 1 for a win, 0 for a loss, 0.5 for a tie, of the first side over the second. It does
not know who judged what; rows that share a cluster (a prompt) are not independent, so intervals
resample whole clusters.
"""

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
DEFAULT_NUM_RESAMPLES = 2000

# Bounds the memory of one batch of resamples to about 32 MB per array.
_MAX_RESAMPLED_VALUES = 4_000_000
# As weak as it can be while a fit stays finite where the outcomes separate perfectly.
_RIDGE = 1e-2
_MAX_LOG_ODDS_STEP = 5.0
_MAX_NEWTON_STEPS = 50
_NEWTON_TOLERANCE = 1e-10


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its confidence bounds; `low` <= `estimate` <= `high`."""

    estimate: float
    low: float
    high: float
    confidence: float


def win_rate(
    outcomes: Sequence[float],
    clusters: Sequence[Hashable],
    *,
    seed: int,
    num_resamples: int = DEFAULT_NUM_RESAMPLES,
    confidence: float = 0.95,
) -> Interval:
    """Return the mean outcome (ties count half) with a prompt-clustered bootstrap interval.

    The percentile bootstrap of Efron and Tibshirani (1993, ch. 13) over whole clusters.

    Args:
        outcomes: [N] values in [0, 1].
        clusters: [N] the prompt of each outcome.
        seed: of the resampling; swapping the sides under one seed mirrors the interval exactly.
        num_resamples: bootstrap samples.
        confidence: probability that the interval should cover the true rate.

    Raises:
        ValueError: outcomes are empty, outside [0, 1] or not as many as clusters.
    """
    values = _checked_outcomes(outcomes)
    return _clustered_mean(values, clusters, seed, num_resamples, confidence)


def paired_difference(
    first: Sequence[float],
    second: Sequence[float],
    clusters: Sequence[Hashable],
    *,
    seed: int,
    num_resamples: int = DEFAULT_NUM_RESAMPLES,
    confidence: float = 0.95,
) -> Interval:
    """Return the mean of `first` - `second`, measured on the same rows, with its interval.

    Args:
        first: [N] a value per row, e.g. 1 where a reward model ordered a pair rightly.
        second: [N] the same of the other side.
        clusters: [N] the prompt of each row.
        seed: of the resampling.
        num_resamples: bootstrap samples.
        confidence: as in `win_rate`.

    Raises:
        ValueError: lengths differ, there are no rows, or a value is not finite.
    """
    if len(first) != len(second):
        raise ValueError(f"first has {len(first)} values, second {len(second)}; pair them.")
    differences = _checked_floats("differences", np.subtract(first, second))
    return _clustered_mean(differences, clusters, seed, num_resamples, confidence)


def wilson_interval(num_wins: float, num_trials: int, *, confidence: float = 0.95) -> Interval:
    """Return Wilson's (1927) score interval for independent trials; a tie is half a win.

    Raises ValueError unless 0 <= num_wins <= num_trials and num_trials >= 1.
    """
    if num_trials < 1 or not 0 <= num_wins <= num_trials:
        raise ValueError(f"{num_wins} wins of {num_trials} trials; give 0 <= wins <= trials >= 1.")
    z = NormalDist().inv_cdf(0.5 + _checked_confidence(confidence) / 2)
    rate, shrink = num_wins / num_trials, 1 + z * z / num_trials
    center = (rate + z * z / (2 * num_trials)) / shrink
    spread = rate * (1 - rate) / num_trials + z * z / (4 * num_trials * num_trials)
    half_width = z * math.sqrt(spread) / shrink
    return _interval(rate, max(0.0, center - half_width), min(1.0, center + half_width), confidence)


def outcomes_of(tie_groups: Sequence[Sequence[int]]) -> dict[tuple[int, int], float]:
    """Return the outcome of every pair (i, j), i < j, of one ranking given best group first."""
    place = {item: position for position, group in enumerate(tie_groups) for item in group}
    items = sorted(place)
    return {
        (i, j): float(0.5 + 0.5 * np.sign(place[j] - place[i]))
        for position, i in enumerate(items)
        for j in items[position + 1 :]
    }


def pairwise_agreement(first: Sequence[float], second: Sequence[float]) -> float:
    """Return how far two judges agree on the same pairs, in [0, 1]; ties count softly.

    A pair adds 1 - |difference|: 1 where both say the same (a tie included), 0.5 where one says
    tie, 0 where they contradict. Without ties it is the share of equal answers, as in the paper's
    labeler agreement (3.4).

    Raises ValueError when lengths differ, there are no pairs or values lie outside [0, 1].
    """
    if len(first) != len(second):
        raise ValueError(f"first has {len(first)} values, second {len(second)}; pair them.")
    return float(1 - np.abs(_checked_outcomes(first) - _checked_outcomes(second)).mean())


def length_controlled_win_rate(
    outcomes: Sequence[float],
    length_differences: Sequence[float],
    clusters: Sequence[Hashable],
    *,
    seed: int,
    num_resamples: int = DEFAULT_NUM_RESAMPLES,
    confidence: float = 0.95,
) -> Interval:
    """Return the win rate that equal lengths would have had, in the manner of AlpacaEval 2.

    Dubois et al. (2024, "Length-Controlled AlpacaEval", section 3) regress the preference
    logistically on the model, the length term tanh(difference / its standard deviation) and the
    prompt's difficulty, then set the length term to zero. Here is one pair of models and no
    difficulty term: logit P = a + b tanh(difference / sd), and the estimate is sigmoid(a).

    Args:
        outcomes: [N] values in [0, 1].
        length_differences: [N] length of the first side's answer minus the second's, any unit.
        clusters: [N] the prompt of each outcome.
        seed: of the resampling.
        num_resamples: bootstrap samples; each is fitted anew.
        confidence: as in `win_rate`.

    Raises:
        ValueError: as `win_rate`, or a length difference is missing or not finite.
    """
    values = _checked_outcomes(outcomes)
    differences = _checked_floats("length_differences", np.asarray(length_differences))
    if len(differences) != len(values):
        raise ValueError(f"{len(values)} outcomes need as many length_differences.")
    deviation = float(differences.std())
    lengths = np.tanh(differences / deviation) if deviation > 0 else np.zeros_like(differences)
    cluster_of, num_clusters = _cluster_indices(clusters, len(values))
    estimate = _fit_intercepts(values, lengths, np.ones((1, len(values))))
    resampled = [
        _fit_intercepts(values, lengths, weights[:, cluster_of])
        for weights in _resample(num_clusters, seed, num_resamples, len(values))
    ]
    rates = 1 / (1 + np.exp(-np.concatenate([estimate, *resampled])))
    return _percentiles(float(rates[0]), rates[1:], confidence)


def _clustered_mean(
    values: Floats,
    clusters: Sequence[Hashable],
    seed: int,
    num_resamples: int,
    confidence: float,
) -> Interval:
    cluster_of, num_clusters = _cluster_indices(clusters, len(values))
    sums = np.bincount(cluster_of, weights=values, minlength=num_clusters)
    sizes = np.bincount(cluster_of, minlength=num_clusters).astype(np.float64)
    means = [
        (weights @ sums) / (weights @ sizes)
        for weights in _resample(num_clusters, seed, num_resamples, num_clusters)
    ]
    return _percentiles(float(values.mean()), np.concatenate(means), confidence)


def _resample(num_clusters: int, seed: int, num_resamples: int, row_size: int) -> Iterator[Floats]:
    """Yield how often each cluster is drawn, [R, num_clusters], in batches of bounded memory."""
    if num_resamples < 1:
        raise ValueError(f"num_resamples is {num_resamples}; take at least 1.")
    generator = np.random.default_rng(seed)
    shares = np.full(num_clusters, 1 / num_clusters)
    batch = max(1, _MAX_RESAMPLED_VALUES // row_size)
    for start in range(0, num_resamples, batch):
        size = min(batch, num_resamples - start)
        yield generator.multinomial(num_clusters, shares, size=size).astype(np.float64)


def _fit_intercepts(outcomes: Floats, lengths: Floats, weights: Floats) -> Floats:
    """Fit weighted logistic regressions on (1, length) by Newton's method; return intercepts.

    Shapes: outcomes, lengths [N]; weights [R, N]; result [R]. Fractional outcomes are allowed
    (quasi-likelihood).
    """
    design = np.stack([np.ones_like(lengths), lengths])  # [2, N]
    coefficients = np.zeros((len(weights), 2))
    for _ in range(_MAX_NEWTON_STEPS):
        chances = 1 / (1 + np.exp(-coefficients @ design))  # [R, N]
        gradient = (weights * (outcomes - chances)) @ design.T - _RIDGE * coefficients
        curvature = weights * chances * (1 - chances)
        hessian = np.einsum("rn,in,jn->rij", curvature, design, design, optimize=True)
        hessian += _RIDGE * np.eye(2)
        step = np.linalg.solve(hessian, gradient[..., None])[..., 0]
        step = np.clip(step, -_MAX_LOG_ODDS_STEP, _MAX_LOG_ODDS_STEP)
        coefficients += step
        if np.abs(step).max() < _NEWTON_TOLERANCE:
            break
    return coefficients[:, 0]


def _cluster_indices(clusters: Sequence[Hashable], num_rows: int) -> tuple[NDArray[np.intp], int]:
    """Number the clusters in order of appearance; return one number per row and their count."""
    if len(clusters) != num_rows:
        raise ValueError(f"{num_rows} rows need as many clusters, not {len(clusters)}.")
    number_of: dict[Hashable, int] = {}
    indices = [number_of.setdefault(cluster, len(number_of)) for cluster in clusters]
    return np.asarray(indices, dtype=np.intp), len(number_of)


def _percentiles(estimate: float, resampled: Floats, confidence: float) -> Interval:
    tail = (1 - _checked_confidence(confidence)) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return _interval(estimate, float(low), float(high), confidence)


def _interval(estimate: float, low: float, high: float, confidence: float) -> Interval:
    """Widen the bounds to the estimate where rounding or a skewed bootstrap leaves it outside."""
    return Interval(estimate, min(low, estimate), max(high, estimate), confidence)


def _checked_outcomes(outcomes: Sequence[float]) -> Floats:
    values = _checked_floats("outcomes", np.asarray(outcomes))
    if values.min() < 0 or values.max() > 1:
        raise ValueError("outcomes must lie in [0, 1]: 1 a win, 0.5 a tie, 0 a loss.")
    return values


def _checked_floats(name: str, values: NDArray[np.generic]) -> Floats:
    floats = values.astype(np.float64)
    if floats.ndim != 1 or not len(floats) or not np.isfinite(floats).all():
        raise ValueError(f"{name} must be a non-empty list of finite numbers.")
    return floats


def _checked_confidence(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; give a probability between 0 and 1.")
    return confidence
