"""Compare arms by the held-out personas; pure: it fetches nothing and knows no model.

An arm is a named set of answers by prompt id, fetched over HTTP under one setting. Every win rate
here is judged by the SIMULATED held-out personas, without noise, and says so. For each prompt each
answer of one arm meets each answer of the other; per judge the better utility wins, and less than
`TIE_MARGIN` apart is a tie, half a win. Intervals resample whole prompts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from statistics import fmean

from feedback.preferences import Interval, length_controlled_win_rate, win_rate
from instructloop.demo.personas import Answer, Persona, held_out_personas
from instructloop.demo.preference import terms_of, weigh
from instructloop.demo.text_quality import (
    commonest_opening_share,
    distinct_2,
    prompt_match_share,
)

JUDGE = "held-out simulated personas, no noise, ties half"
TIE_MARGIN = 0.01

Requests = Mapping[str, str]
"""Requests, without the template, by prompt id."""
Arm = Mapping[str, Sequence[Answer]]
"""Answers by prompt id."""


@dataclass(frozen=True, slots=True)
class WinRate:
    """How often one arm beats another, in [0, 1], with a 95% interval over prompts."""

    arm: str
    against: str
    judge: str
    rate: float
    low: float
    high: float
    length_controlled: float
    """The rate that equal lengths would have had."""
    length_controlled_low: float
    length_controlled_high: float
    length_ratio: float
    """Mean number of tokens of `arm` over that of `against`."""
    tie_share: float
    num_prompts: int
    num_pairs: int
    """Pairs of answers compared, each by every judge."""


@dataclass(frozen=True, slots=True)
class ArmQuality:
    """What an arm's answers are like, whoever wins."""

    arm: str
    num_answers: int
    mean_utility: float
    """Mean over answers and held-out personas, in [0, 1]."""
    mean_tokens: float
    finished_share: float
    """Share of answers that the model ended itself."""
    distinct_2: float
    commonest_opening_share: float
    prompt_match_share: float
    """How often an answer fits its own request better than another one; 0.5 is chance."""


def compare(
    requests: Requests, arms: Mapping[str, Arm], arm: str, against: str, *, seed: int
) -> WinRate:
    """Return the win rate of one arm over another, on the prompts of both.

    Raises:
        ValueError: the arms do not answer the same prompts.
    """
    ours, theirs = arms[arm], arms[against]
    if ours.keys() != theirs.keys():
        raise ValueError(f"{arm} and {against} answer different prompts; fetch the same ones")
    pairs = list(_pairs(requests, ours, theirs))
    outcomes = [pair.outcome for pair in pairs]
    clusters = [pair.prompt_id for pair in pairs]
    differences = [pair.tokens_difference for pair in pairs]
    plain = win_rate(outcomes, clusters, seed=seed)
    controlled: Interval = length_controlled_win_rate(outcomes, differences, clusters, seed=seed)
    return WinRate(
        arm=arm,
        against=against,
        judge=JUDGE,
        rate=plain.estimate,
        low=plain.low,
        high=plain.high,
        length_controlled=controlled.estimate,
        length_controlled_low=controlled.low,
        length_controlled_high=controlled.high,
        length_ratio=mean_tokens(ours) / mean_tokens(theirs),
        tie_share=fmean(pair.tie_share for pair in pairs),
        num_prompts=len(ours),
        num_pairs=len(pairs),
    )


def describe(requests: Requests, arms: Mapping[str, Arm], arm: str) -> ArmQuality:
    """Measure the answers of one arm."""
    answers = arms[arm]
    flat = [answer for prompt_id in answers for answer in answers[prompt_id]]
    texts = {prompt_id: [answer.text for answer in given] for prompt_id, given in answers.items()}
    utilities = [u for prompt_id in answers for u in utilities_of(requests, answers, prompt_id)]
    return ArmQuality(
        arm=arm,
        num_answers=len(flat),
        mean_utility=fmean(utilities),
        mean_tokens=mean_tokens(answers),
        finished_share=fmean(answer.is_finished for answer in flat),
        distinct_2=distinct_2(answer.text for answer in flat),
        commonest_opening_share=commonest_opening_share(answer.text for answer in flat),
        prompt_match_share=prompt_match_share(requests, texts),
    )


def best_by(scores: Mapping[str, Sequence[float]], arm: Arm) -> dict[str, tuple[Answer]]:
    """Keep each prompt's answer with the highest score (the first of equals): best-of-n.

    Raises:
        ValueError: a prompt has not one score per answer.
    """
    return {
        prompt_id: (_best(prompt_id, scores.get(prompt_id, ()), answers),)
        for prompt_id, answers in arm.items()
    }


def oracle_best(requests: Requests, arm: Arm) -> dict[str, tuple[Answer]]:
    """Keep each prompt's best answer by the judges themselves: what selection could reach."""
    return best_by({prompt_id: utilities_of(requests, arm, prompt_id) for prompt_id in arm}, arm)


def utilities_of(requests: Requests, arm: Arm, prompt_id: str) -> list[float]:
    """Return the judges' mean utility of each answer to one prompt."""
    request = requests[prompt_id]
    return [fmean(_judged(request, answer)) for answer in arm[prompt_id]]


def mean_tokens(arm: Arm) -> float:
    """Return the mean number of tokens of an arm's answers."""
    return fmean(answer.num_tokens for answers in arm.values() for answer in answers)


@dataclass(frozen=True, slots=True)
class _Pair:
    prompt_id: str
    outcome: float
    tie_share: float
    tokens_difference: float


def _pairs(requests: Requests, ours: Arm, theirs: Arm) -> Iterator[_Pair]:
    for prompt_id, request in ((prompt_id, requests[prompt_id]) for prompt_id in ours):
        for mine, other in product(ours[prompt_id], theirs[prompt_id]):
            judged = zip(_judged(request, mine), _judged(request, other), strict=True)
            outcomes = [_outcome(a - b) for a, b in judged]
            yield _Pair(
                prompt_id,
                outcome=fmean(outcomes),
                tie_share=outcomes.count(0.5) / len(outcomes),
                tokens_difference=float(mine.num_tokens - other.num_tokens),
            )


def _outcome(difference: float) -> float:
    if abs(difference) < TIE_MARGIN:
        return 0.5
    return float(difference > 0)


@cache
def _judges() -> tuple[Persona, ...]:
    return tuple(held_out_personas())


def _judged(request: str, answer: Answer) -> list[float]:
    terms = terms_of(request, answer.text, answer.is_finished, answer.num_tokens)
    return [weigh(terms, judge.weights) for judge in _judges()]


def _best(prompt_id: str, scores: Sequence[float], answers: Sequence[Answer]) -> Answer:
    if len(scores) != len(answers):
        raise ValueError(f"prompt {prompt_id}: {len(answers)} answers need as many scores")
    return answers[max(range(len(answers)), key=scores.__getitem__)]
