"""Decide from logged and re-scored log-probabilities which version sampled a choice's tokens.

It does not know models or events. The likelihood of the tokens themselves proves little: a sample
at temperature 1 is often likelier under another version. What the engine logged does: the named
version gives every token the logged log-probability again, up to rounding; another one does not.

The test. Rounding is taken as Laplace noise of scale s: log p(logged | version) = -|gap| / s + c.
Over any stretch of tokens the named version competes with every other live one, and with "none of
them", Laplace noise `WIDE` times as wide, which catches versions that are not live and mixed
key/value caches. For an honest choice the exponential of a stretch's log-likelihood ratio has mean
1, so by Markov's inequality it exceeds 1/p with probability p at most; the bound is divided by the
number of stretches and rivals. Noise that is narrower than s only makes false alarms rarer.

Dims: T tokens of one choice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

WIDE = 8.0
NONE_OF_THEM = "none of the live versions"
FALSE_ALARM = 1e-7
"""Bound on the probability that an honest choice is called mixed."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Tokens `[first, stop)` that `rival` explains better than the named version, by `nats`."""

    rival: str
    first: int
    stop: int
    nats: float


@dataclass(frozen=True, slots=True)
class Finding:
    """What the evidence says about one choice.

    mean_gap_nats: mean over tokens of |logged - re-scored under the named version|.
    worst: the stretch that speaks most against the named version.
    threshold_nats: what `worst.nats` must reach for the choice to be mixed.
    inseparable_from: versions so alike on these tokens that, had one of them sampled the whole
        choice, the evidence would not have reached the threshold.
    """

    mean_gap_nats: float
    worst: Stretch
    threshold_nats: float
    inseparable_from: tuple[str, ...]

    @property
    def is_mixed(self) -> bool:
        """True if noise cannot explain what was logged under the named version."""
        return self.worst.nats >= self.threshold_nats


def weigh(named: str, logged_T: Floats, rescored: Mapping[str, Floats], scale: float) -> Finding:
    """Weigh one choice's evidence.

    Args:
        named: the version that the event names; a key of `rescored`.
        logged_T: log-probabilities at temperature 1 that the engine logged, nats, finite.
        rescored: by live version, those of the same tokens by a full forward pass.
        scale: of the noise between the two, nats.
    """
    gaps_T = np.abs(logged_T - rescored[named])
    rivals = {
        version: np.abs(logged_T - other_T)
        for version, other_T in rescored.items()
        if version != named
    }
    ratios = {version: (gaps_T - theirs_T) / scale for version, theirs_T in rivals.items()}
    ratios[NONE_OF_THEM] = gaps_T / scale * (1 - 1 / WIDE) - math.log(WIDE)
    threshold = _threshold(len(logged_T), len(ratios))
    found = [_best_stretch(version, ratio_T) for version, ratio_T in ratios.items()]
    alike = [
        version
        for version, other_T in rescored.items()
        if version != named and np.abs(other_T - rescored[named]).sum() / scale < threshold
    ]
    return Finding(
        mean_gap_nats=float(gaps_T.mean()),
        worst=max(found, key=lambda stretch: stretch.nats),
        threshold_nats=threshold,
        inseparable_from=tuple(sorted(alike)),
    )


def _threshold(num_tokens: int, num_rivals: int) -> float:
    num_stretches = num_tokens * (num_tokens + 1) / 2
    return math.log(num_stretches * num_rivals / FALSE_ALARM)


def _best_stretch(rival: str, ratio_T: Floats) -> Stretch:
    """Return the stretch with the largest sum: the largest rise of the running sum."""
    sums = np.concatenate([[0.0], np.cumsum(ratio_T)])
    lowest = np.minimum.accumulate(sums[:-1])
    stop = int(np.argmax(sums[1:] - lowest)) + 1
    first = int(np.argmin(sums[:stop]))
    return Stretch(rival, first, stop, float(sums[stop] - sums[first]))
