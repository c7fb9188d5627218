"""The decision whether a candidate has proved itself: numbers in, a verdict out.

It does not know models, samples or files. A figure that is not a number refuses.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from trainer.gate_settings import GateSettings


@dataclass(frozen=True, slots=True)
class Rate:
    """A share in [0, 1] with its prompt-clustered bootstrap interval, and whose word it is."""

    judge: str
    estimate: float
    low: float
    high: float
    confidence: float
    num_prompts: int
    num_comparisons: int


@dataclass(frozen=True, slots=True)
class AnswerFigures:
    """How one side's answers look, whatever they say.

    mean_length: tokens before EOS.  eos_rate: share that ended by themselves.
    repetition: mean share of 3-grams that repeat an earlier one of the same answer.
    distinct_2: share of different ones among all pairs of neighbouring tokens.
    opening_share: share of answers with the commonest first 5 tokens.
    """

    num_answers: int
    mean_length: float
    eos_rate: float
    repetition: float
    distinct_2: float
    opening_share: float


@dataclass(frozen=True, slots=True)
class TrainingFacts:
    """What shows that PPO ran and moved only the policy.

    relative_change: norm of (candidate's lora_B - init's) over the norm of init's.
    ref_hash_before, ref_hash_after: of the KL anchor's weights, around the training.
    num_policy_steps: optimiser steps of the policy.
    """

    relative_change: float
    ref_hash_before: str
    ref_hash_after: str
    num_policy_steps: int


@dataclass(frozen=True, slots=True)
class GateEvidence:
    """All that the decision reads.

    win_rate, proxy_win_rate: candidate over incumbent, by the judge and by the optimised model.
    rm_accuracy, judge_accuracy: of the two reward models on held-out comparisons.
    best_of_4: the reward model's pick of 4 over another of them, by the judge.
    kl_nats: KL(candidate, init) per response.
    """

    win_rate: Rate
    proxy_win_rate: Rate
    rm_accuracy: Rate
    judge_accuracy: Rate
    best_of_4: Rate
    kl_nats: float
    candidate: AnswerFigures
    incumbent: AnswerFigures
    training: TrainingFacts


@dataclass(frozen=True, slots=True)
class Reason:
    """One rule applied: which sentinel, what was found, what is allowed, and the same in words."""

    name: str
    figure: float
    bound: str
    is_kept: bool
    sentence: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """Every rule that was applied; a sentinel may have more than one."""

    checks: tuple[Reason, ...]

    @property
    def passed(self) -> bool:
        """True if every rule is kept."""
        return not self.reasons

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """The rules that refuse the candidate."""
        return tuple(check for check in self.checks if not check.is_kept)


def decide(evidence: GateEvidence, bounds: GateSettings) -> Verdict:
    """Apply every rule; one broken rule refuses the candidate."""
    return Verdict(
        (
            *_preference(evidence, bounds),
            *_reward_models(evidence, bounds),
            *_drift(evidence, bounds),
            *_answers(evidence.candidate, evidence.incumbent, bounds),
            *_training(evidence.training, bounds),
        )
    )


def _preference(evidence: GateEvidence, bounds: GateSettings) -> Iterator[Reason]:
    yield from _better_than_chance("win_rate", "the win rate", evidence.win_rate, bounds)
    gap = evidence.proxy_win_rate.estimate - evidence.win_rate.estimate
    what = "the optimised reward model's win rate minus the judge's (over-optimised)"
    yield _at_most("proxy_gap", what, gap, bounds.max_proxy_gap)


def _reward_models(evidence: GateEvidence, bounds: GateSettings) -> Iterator[Reason]:
    accuracy = evidence.rm_accuracy
    what = "the reward model's accuracy"
    yield from _better_than_chance("rm_accuracy", what, accuracy, bounds)
    yield _at_least("rm_accuracy", what, accuracy.estimate, bounds.min_rm_accuracy)
    what = "the judge's accuracy"
    yield from _better_than_chance("judge_accuracy", what, evidence.judge_accuracy, bounds)
    what = "the rate at which the reward model's pick of 4 beats another"
    yield from _better_than_chance("best_of_4", what, evidence.best_of_4, bounds)


def _drift(evidence: GateEvidence, bounds: GateSettings) -> Iterator[Reason]:
    what = "the KL from init per response, in nats,"
    yield _at_least("kl", what, evidence.kl_nats, bounds.min_kl_nats)
    yield _at_most("kl", what, evidence.kl_nats, bounds.max_kl_nats)


def _answers(
    candidate: AnswerFigures, incumbent: AnswerFigures, bounds: GateSettings
) -> Iterator[Reason]:
    growth = ratio(candidate.mean_length, incumbent.mean_length)
    what = "the length of its answers over the incumbent's"
    yield _at_least("length", what, growth, bounds.min_length_ratio)
    yield _at_most("length", what, growth, bounds.max_length_ratio)
    drop = incumbent.eos_rate - candidate.eos_rate
    what = "the fall of the share of answers that end by themselves"
    yield _at_most("eos_rate", what, drop, bounds.max_eos_rate_drop)
    rise = candidate.repetition - incumbent.repetition
    what = "the rise of the share of repeated 3-grams"
    yield _at_most("repetition", what, rise, bounds.max_repetition_rise)
    distinct = ratio(candidate.distinct_2, incumbent.distinct_2)
    what = "distinct-2 over the incumbent's"
    yield _at_least("repetition", what, distinct, bounds.min_distinct_ratio)
    yield _opening(candidate, bounds)


def _opening(candidate: AnswerFigures, bounds: GateSettings) -> Reason:
    what = "the share of answers with the commonest first 5 tokens"
    if candidate.num_answers >= bounds.min_opening_answers:
        return _at_most("opening", what, candidate.opening_share, bounds.max_opening_share)
    sentence = f"{what} is not judged on {candidate.num_answers} answers"
    bound = f"from {bounds.min_opening_answers} answers on"
    return _reason("opening", sentence, candidate.opening_share, bound, is_kept=True)


def _training(facts: TrainingFacts, bounds: GateSettings) -> Iterator[Reason]:
    name = "training_happened"
    what = "the relative change of the policy's lora_B"
    yield _at_least(name, what, facts.relative_change, bounds.min_relative_change)
    what = "the number of optimiser steps of the policy"
    yield _at_least(name, what, facts.num_policy_steps, bounds.min_policy_steps)
    num_changed = int(facts.ref_hash_before != facts.ref_hash_after)
    yield _at_most(name, "the number of changes to the KL anchor's weights", num_changed, 0)


def _better_than_chance(name: str, what: str, rate: Rate, bounds: GateSettings) -> Iterator[Reason]:
    """Gate by the interval's lower bound, and by whether there are prompts enough for one."""
    is_kept = rate.low > bounds.chance
    sentence = f"{what} {rate.estimate:.3f} has the lower bound {rate.low:.3f}"
    yield _reason(name, sentence, rate.low, f"> {bounds.chance:g}", is_kept)
    what = f"the number of prompts behind {what}"
    yield _at_least(name, what, rate.num_prompts, bounds.min_prompts)


def _at_least(name: str, what: str, figure: float, bound: float) -> Reason:
    return _reason(name, _found(what, figure), figure, f">= {bound:g}", figure >= bound)


def _at_most(name: str, what: str, figure: float, bound: float) -> Reason:
    return _reason(name, _found(what, figure), figure, f"<= {bound:g}", figure <= bound)


def _found(what: str, figure: float) -> str:
    return f"{what} is not a number" if math.isnan(figure) else f"{what} is {figure:.4g}"


def _reason(name: str, sentence: str, figure: float, bound: str, is_kept: bool) -> Reason:
    sentence = sentence[0].upper() + sentence[1:]
    ending = "as required" if is_kept else "required"
    return Reason(name, figure, bound, is_kept, f"{sentence}; {bound} {ending}.")


def ratio(figure: float, reference: float) -> float:
    """Return figure / reference; two empty sides are equal, one against nothing is not a number."""
    if reference == 0:
        return 1.0 if figure == 0 else float("nan")
    return figure / reference
