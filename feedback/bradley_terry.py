"""Strengths of several models from comparisons with ties; does not know who judged them.

The model of Davidson (1970, "On extending the Bradley-Terry model to accommodate ties"): with
strengths p and tie parameter v, P(i beats j), P(tie), P(j beats i) are proportional to
p_i, v sqrt(p_i p_j), p_j. In log p and log v its likelihood is concave; a weak Gaussian prior on
both (standard deviation 30) keeps them finite where one side always won, or nobody ever tied.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_PRIOR_PRECISION = 1e-3
_MAX_NEWTON_STEPS = 500
_MAX_LOG_STEP = 1.0
_NEWTON_TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class BradleyTerry:
    """Fitted strengths.

    `strengths` are natural logarithms by item with mean 0; `tie_parameter` is v, near 0 without
    ties.
    """

    strengths: dict[str, float]
    tie_parameter: float

    def win_rate(self, first: str, second: str) -> float:
        """Return the expected outcome of `first` over `second`, ties half."""
        half_gap = (self.strengths[first] - self.strengths[second]) / 2
        # Divided by sqrt(p_i p_j), so that large strengths do not overflow.
        win, loss = math.exp(half_gap), math.exp(-half_gap)
        return (win + self.tie_parameter / 2) / (win + self.tie_parameter + loss)


def fit_bradley_terry(comparisons: Iterable[tuple[str, str, float]]) -> BradleyTerry:
    """Fit Davidson's model to (first, second, outcome), outcome 1, 0.5 (tie) or 0.

    Raises:
        ValueError: there is no comparison, an item meets itself, an outcome is another number, or
            no chain of comparisons joins two groups of items, so that their strengths have no
            common scale.
    """
    rows = list(comparisons)
    items = _checked_items(rows)
    wins, ties = _count(rows, items)
    _require_connected(items, wins + ties)
    *log_strengths, log_tie = _maximise(wins, ties)
    return BradleyTerry(dict(zip(items, log_strengths, strict=True)), math.exp(log_tie))


def _checked_items(rows: Sequence[tuple[str, str, float]]) -> list[str]:
    if not rows:
        raise ValueError("There are no comparisons to fit; collect some first.")
    for first, second, outcome in rows:
        if first == second:
            raise ValueError(f"{first!r} is compared with itself; leave that comparison out.")
        if outcome not in (0, 0.5, 1):
            raise ValueError(f"The outcome {outcome} is unknown; give 1, 0.5 for a tie, or 0.")
    return sorted({item for first, second, _ in rows for item in (first, second)})


def _count(rows: Sequence[tuple[str, str, float]], items: Sequence[str]) -> tuple[Floats, Floats]:
    """Return wins[i, j], how often i beat j, and the symmetric ties[i, j]; both [I, I]."""
    index_of = {item: index for index, item in enumerate(items)}
    wins, ties = np.zeros((2, len(items), len(items)))
    for first, second, outcome in rows:
        i, j = index_of[first], index_of[second]
        if outcome == 0.5:
            ties[i, j] += 1
            ties[j, i] += 1
        else:
            wins[(i, j) if outcome == 1 else (j, i)] += 1
    return wins, ties


def _require_connected(items: Sequence[str], met: Floats) -> None:
    is_edge = (met + met.T) > 0
    is_reached = np.arange(len(items)) == 0
    for _ in items:
        is_reached = is_reached | is_edge[is_reached].any(axis=0)
    if not is_reached.all():
        raise ValueError(
            f"The comparisons fall apart: nothing joins {_names(items, is_reached)} to"
            f" {_names(items, ~is_reached)}; compare items across the two groups."
        )


def _names(items: Sequence[str], is_chosen: NDArray[np.bool_]) -> str:
    return ", ".join(item for item, chosen in zip(items, is_chosen, strict=True) if chosen)


def _maximise(wins: Floats, ties: Floats) -> list[float]:
    """Maximise likelihood times prior by damped Newton steps; return log p, then log v."""
    parameters = np.zeros(len(wins) + 1)
    played = wins + wins.T + ties
    for _ in range(_MAX_NEWTON_STEPS):
        win, tie = _chances(parameters[:-1], parameters[-1])
        gradient, curvature = _derivatives(wins, ties, played, win, tie)
        gradient -= _PRIOR_PRECISION * parameters
        curvature += _PRIOR_PRECISION * np.eye(len(parameters))
        step = np.linalg.solve(curvature, gradient)
        longest = np.abs(step).max()
        parameters += step * min(1.0, _MAX_LOG_STEP / max(longest, _MAX_LOG_STEP))
        if longest < _NEWTON_TOLERANCE:
            return parameters.tolist()
    raise AssertionError("Newton's method did not converge on a concave function")


def _chances(log_strengths: Floats, log_tie: float) -> tuple[Floats, Floats]:
    """Return P(i beats j) and P(i ties j), both [I, I]."""
    half_gap = (log_strengths[:, None] - log_strengths[None, :]) / 2
    win, loss = np.exp(half_gap), np.exp(-half_gap)
    total = win + loss + math.exp(log_tie)
    return win / total, math.exp(log_tie) / total


def _derivatives(
    wins: Floats, ties: Floats, played: Floats, win: Floats, tie: Floats
) -> tuple[Floats, Floats]:
    """Return gradient [I + 1] and negated Hessian [I + 1, I + 1] in (log p, log v).

    One game has the sufficient statistics (score of i, is a tie), with score 1, 1/2 or 0; the
    negated Hessian of an exponential family is their covariance.
    """
    score = win + tie / 2
    gradient = np.append(
        (wins + ties / 2 - played * score).sum(axis=1), (ties - played * tie).sum() / 2
    )
    score_variance = played * (win + tie / 4 - score**2)
    covariance = played * tie * (0.5 - score)
    curvature = np.zeros((len(wins) + 1, len(wins) + 1))
    curvature[:-1, :-1] = np.diag(score_variance.sum(axis=1)) - score_variance
    curvature[:-1, -1] = curvature[-1, :-1] = covariance.sum(axis=1)
    curvature[-1, -1] = (played * tie * (1 - tie)).sum() / 2
    return gradient, curvature
