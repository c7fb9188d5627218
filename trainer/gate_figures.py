"""From the evidence record to the figures of gate and card; it does not know models or bounds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from feedback.preferences import (
    Interval,
    length_controlled_win_rate,
    paired_difference,
    win_rate,
)
from trainer.answer_measures import commonest_opening_share, distinct_2, repetition
from trainer.evidence_record import EvidenceRecord, JudgedAnswer, JudgedRanking
from trainer.gate import AnswerFigures, GateEvidence, Rate

BEST_OF = 4


@dataclass(frozen=True, slots=True)
class Figures:
    """What the gate reads, and what only the card shows.

    length_accuracy: of preferring the longer answer, or the shorter where that does better here;
        choosing in hindsight favours the baseline.
    rm_over_length, judge_over_length: accuracy minus that baseline's, on the same comparisons.
    """

    gate: GateEvidence
    length_controlled_win_rate: Rate
    length_accuracy: Rate
    rm_over_length: Interval
    judge_over_length: Interval


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Outcomes in {0, 0.5, 1} of a first side over a second, with the prompt of each."""

    values: tuple[float, ...]
    clusters: tuple[str, ...]


def figures(record: EvidenceRecord, seed: int) -> Figures:
    """Compute every figure; `seed` is the bootstrap's.

    Raises:
        ValueError: if there are no gate prompts, no comparisons, or fewer than 4 answers a prompt.
    """
    _require_material(record)
    names = record.names
    by_judge, by_proxy = _duels(record, judge_score), _duels(record, proxy_score)
    rm = _accuracy(record.rankings, lambda ranking: ranking.proxy_scores)
    judge = _accuracy(record.rankings, lambda ranking: ranking.judge_scores)
    length = _length_baseline(record.rankings)
    minus_length = partial(paired_difference, second=length.values, clusters=length.clusters)
    gate = GateEvidence(
        win_rate=_rate(by_judge, names.judge, seed),
        proxy_win_rate=_rate(by_proxy, names.proxy, seed),
        rm_accuracy=_rate(rm, "held-out votes", seed),
        judge_accuracy=_rate(judge, "held-out votes", seed),
        best_of_4=_rate(_best_of(record.incumbent), names.judge, seed),
        kl_nats=_mean([a.kl_nats for a in record.candidate if a.kl_nats is not None]),
        candidate=answer_figures(record.candidate),
        incumbent=answer_figures(record.incumbent),
        training=record.training,
    )
    return Figures(
        gate=gate,
        length_controlled_win_rate=_length_controlled(record, by_judge, seed),
        length_accuracy=_rate(length, "held-out votes", seed),
        rm_over_length=minus_length(rm.values, seed=seed),
        judge_over_length=minus_length(judge.values, seed=seed),
    )


def answer_figures(answers: Sequence[JudgedAnswer]) -> AnswerFigures:
    """Measure how answers look."""
    visible = [answer.visible_ids for answer in answers]
    return AnswerFigures(
        num_answers=len(answers),
        mean_length=_mean([len(ids) for ids in visible]),
        eos_rate=_mean([answer.is_finished for answer in answers]),
        repetition=repetition(visible),
        distinct_2=distinct_2(visible),
        opening_share=commonest_opening_share(visible),
    )


def judge_score(answer: JudgedAnswer) -> float:
    """Return the judge's score."""
    return answer.judge_score


def proxy_score(answer: JudgedAnswer) -> float:
    """Return the optimised reward model's score."""
    return answer.proxy_score


def by_prompt(answers: Sequence[JudgedAnswer]) -> dict[str, list[JudgedAnswer]]:
    """Group answers by prompt, in their order."""
    found: dict[str, list[JudgedAnswer]] = {}
    for answer in answers:
        found.setdefault(answer.prompt_hash, []).append(answer)
    return found


def _duels(record: EvidenceRecord, score: Callable[[JudgedAnswer], float]) -> Outcomes:
    """Compare every candidate answer with every incumbent answer to the same prompt."""
    duels = [
        (_outcome(score(ours), score(theirs)), ours.prompt_hash)
        for ours, theirs in _meetings(record)
    ]
    return _outcomes(duels)


def _meetings(record: EvidenceRecord) -> Iterator[tuple[JudgedAnswer, JudgedAnswer]]:
    incumbent = by_prompt(record.incumbent)
    return ((ours, theirs) for ours in record.candidate for theirs in incumbent[ours.prompt_hash])


def _best_of(answers: Sequence[JudgedAnswer]) -> Outcomes:
    """Compare the proxy's pick of each 4 answers with the other three, by the judge.

    Against all three instead of one drawn at random: the same expectation without the luck.
    """
    duels = []
    for prompt_hash, of_prompt in by_prompt(answers).items():
        for start in range(0, len(of_prompt) - BEST_OF + 1, BEST_OF):
            four = of_prompt[start : start + BEST_OF]
            best = max(four, key=proxy_score)
            duels += [
                (_outcome(best.judge_score, other.judge_score), prompt_hash)
                for other in four
                if other is not best
            ]
    return _outcomes(duels)


def _accuracy(
    rankings: Sequence[JudgedRanking], scores: Callable[[JudgedRanking], Sequence[float]]
) -> Outcomes:
    """Say of every comparison whether the scores order it as the vote does; a tie is half right."""
    return _outcomes(
        [
            (_outcome(scores(ranking)[better], scores(ranking)[worse]), ranking.prompt_hash)
            for ranking in rankings
            for better, worse in ranking.pairs
        ]
    )


def _length_baseline(rankings: Sequence[JudgedRanking]) -> Outcomes:
    longer = _accuracy(rankings, lambda ranking: ranking.lengths)
    if _mean(longer.values) >= 0.5:
        return longer
    return Outcomes(tuple(1 - value for value in longer.values), longer.clusters)


def _length_controlled(record: EvidenceRecord, duels: Outcomes, seed: int) -> Rate:
    differences = [
        len(ours.visible_ids) - len(theirs.visible_ids) for ours, theirs in _meetings(record)
    ]
    interval = length_controlled_win_rate(duels.values, differences, duels.clusters, seed=seed)
    return _named(interval, duels, record.names.judge)


def _rate(outcomes: Outcomes, judge: str, seed: int) -> Rate:
    return _named(win_rate(outcomes.values, outcomes.clusters, seed=seed), outcomes, judge)


def _named(interval: Interval, outcomes: Outcomes, judge: str) -> Rate:
    return Rate(
        judge=judge,
        estimate=interval.estimate,
        low=interval.low,
        high=interval.high,
        confidence=interval.confidence,
        num_prompts=len(set(outcomes.clusters)),
        num_comparisons=len(outcomes.values),
    )


def _outcomes(duels: Sequence[tuple[float, str]]) -> Outcomes:
    return Outcomes(tuple(value for value, _ in duels), tuple(prompt for _, prompt in duels))


def _outcome(first: float, second: float) -> float:
    return float(0.5 + 0.5 * np.sign(first - second))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")


def _require_material(record: EvidenceRecord) -> None:
    if not record.prompts:
        raise ValueError("the gate split has no prompts: collect more traffic, then refresh again")
    if record.design.samples_per_prompt < BEST_OF:
        raise ValueError(
            f"samples_per_prompt is {record.design.samples_per_prompt}: best-of-{BEST_OF} needs"
            f" at least {BEST_OF}"
        )
    if not any(ranking.pairs for ranking in record.rankings):
        raise ValueError(
            "the gate split has no ranking that prefers one answer to another: collect more votes,"
            " then refresh again"
        )
