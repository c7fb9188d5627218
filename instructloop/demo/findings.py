"""What the measurement found: win rates with intervals, and guards against a gamed judge.

Pure: it gets answers and scores, fetches nothing and knows no model. Every win rate is by the
SIMULATED held-out personas.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean

from instructloop.demo import arms as names
from instructloop.demo.arms import best_temperature
from instructloop.demo.measurement import (
    Arm,
    ArmQuality,
    Requests,
    WinRate,
    best_by,
    compare,
    describe,
    oracle_best,
)

LENGTH_RATIO = (0.8, 1.25)
MAX_NATS_FROM_SFT = 0.3
MIN_DISTINCT_RATIO = 0.9
MAX_OPENING_SHARE = 0.10
MIN_MATCH_RATIO = 0.9


@dataclass(frozen=True, slots=True)
class Guard:
    """One sign of a gamed judge: what was found and what is allowed."""

    name: str
    value: float
    bound: str
    is_kept: bool


@dataclass(frozen=True, slots=True)
class Findings:
    """All that the measurement says.

    sft_best: SFT's arm at the temperature where it does best.
    ppo_same: PPO's arm at that temperature.
    """

    qualities: tuple[ArmQuality, ...]
    win_rates: tuple[WinRate, ...]
    guards: tuple[Guard, ...]
    sft_best: str
    ppo_same: str

    def win_rate(self, arm: str, against: str) -> WinRate | None:
        """Return one comparison, None where it was not made."""
        made = (rate for rate in self.win_rates if (rate.arm, rate.against) == (arm, against))
        return next(made, None)


def with_chosen(
    requests: Requests, arms: Mapping[str, Arm], rewards: Mapping[str, float]
) -> dict[str, Arm]:
    """Add the two best-of-4 arms; `rewards` are the reward model's scores by choice id."""
    pool = arms[names.POOL]
    by_prompt = {
        prompt_id: [rewards[answer.choice_id] for answer in answers]
        for prompt_id, answers in pool.items()
    }
    return {
        **arms,
        names.BEST_BY_RM: best_by(by_prompt, pool),
        names.BEST_BY_JUDGES: oracle_best(requests, pool),
    }


def find(
    requests: Requests, arms: Mapping[str, Arm], base_nats: Mapping[str, float], *, seed: int
) -> Findings:
    """Compare the arms.

    Args:
        requests: by prompt id.
        arms: fetched and chosen ones; PPO's may be missing.
        base_nats: per token under the bare base, by choice id, of PPO's and SFT's answers.
        seed: of the bootstrap.
    """
    qualities = {arm: describe(requests, arms, arm) for arm in arms if arm != names.POOL}
    utilities = {arm: quality.mean_utility for arm, quality in qualities.items()}
    temperature = best_temperature(utilities)
    sft_best, ppo_same = names.SFT_BY_TEMPERATURE[temperature], names.ppo_at(temperature)
    win_rates = {
        pair: compare(requests, arms, *pair, seed=seed)
        for pair in comparisons(sft_best, ppo_same)
        if arms.keys() >= set(pair)
    }
    has_ppo = names.PPO in arms
    guards = _guards(arms, qualities, win_rates, base_nats) if has_ppo else ()
    return Findings(
        tuple(qualities.values()), tuple(win_rates.values()), tuple(guards), sft_best, ppo_same
    )


def comparisons(sft_best: str, ppo_same: str) -> list[tuple[str, str]]:
    """List who meets whom; the first one is the headline."""
    return list(
        dict.fromkeys(
            [
                (names.PPO, names.SFT),
                (names.PPO, sft_best),
                (ppo_same, sft_best),
                (names.PPO, names.BEST_BY_RM),
                (names.PPO, names.BASE),
                (names.SFT, names.BASE),
                (names.BEST_BY_RM, names.SFT),
                (names.BEST_BY_JUDGES, names.SFT),
            ]
        )
    )


def mean_nats(arm: Arm, base_nats: Mapping[str, float]) -> float:
    """Return the mean over answers of their nats per token under the bare base."""
    return fmean(base_nats[answer.choice_id] for answers in arm.values() for answer in answers)


def _guards(
    arms: Mapping[str, Arm],
    qualities: Mapping[str, ArmQuality],
    win_rates: Mapping[tuple[str, str], WinRate],
    base_nats: Mapping[str, float],
) -> Iterator[Guard]:
    ppo, sft = qualities[names.PPO], qualities[names.SFT]
    headline = win_rates[names.PPO, names.SFT]
    low, high = LENGTH_RATIO
    ratio = headline.length_ratio
    yield Guard("length ratio to SFT", ratio, f"{low} to {high}", low <= ratio <= high)
    controlled = headline.length_controlled
    yield Guard("length-controlled win rate", controlled, "above 0.5", controlled > 0.5)
    nats = mean_nats(arms[names.PPO], base_nats) - mean_nats(arms[names.SFT], base_nats)
    bound = f"within {MAX_NATS_FROM_SFT}"
    yield Guard(
        "nats per token under the base, minus SFT's", nats, bound, abs(nats) <= MAX_NATS_FROM_SFT
    )
    yield _at_least("distinct-2, to SFT's", ppo.distinct_2, sft.distinct_2, MIN_DISTINCT_RATIO)
    share = ppo.commonest_opening_share
    bound = f"at most {MAX_OPENING_SHARE}"
    yield Guard("commonest 5-word opening", share, bound, share <= MAX_OPENING_SHARE)
    yield _at_least(
        "answers fit their own prompt, to SFT's",
        ppo.prompt_match_share,
        sft.prompt_match_share,
        MIN_MATCH_RATIO,
    )


def _at_least(name: str, ours: float, theirs: float, bound: float) -> Guard:
    ratio = ours / theirs if theirs else 0.0
    return Guard(name, ratio, f"at least {bound}", ratio >= bound)
