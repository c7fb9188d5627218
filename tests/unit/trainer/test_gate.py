"""The gate refuses by name whatever breaks a rule, and passes what breaks none."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.gate import AnswerFigures, GateEvidence, Rate, TrainingFacts, decide
from trainer.gate_settings import GateSettings

BOUNDS = GateSettings()
SENTINELS = {
    "win_rate",
    "rm_accuracy",
    "judge_accuracy",
    "best_of_4",
    "kl",
    "length",
    "eos_rate",
    "repetition",
    "opening",
    "proxy_gap",
    "training_happened",
}


def rate(estimate: float, low: float, num_prompts: int = 40) -> Rate:
    high = min(1.0, 2 * estimate - low)
    return Rate("rm-0123456789abcdef", estimate, low, high, 0.95, num_prompts, 16 * num_prompts)


ANSWERS = AnswerFigures(
    num_answers=160,
    mean_length=30.0,
    eos_rate=0.9,
    repetition=0.05,
    distinct_2=0.6,
    opening_share=0.03,
)
TRAINING = TrainingFacts(
    relative_change=0.2, ref_hash_before="a" * 64, ref_hash_after="a" * 64, num_policy_steps=96
)
GOOD = GateEvidence(
    win_rate=rate(0.68, 0.61),
    proxy_win_rate=rate(0.75, 0.69),
    rm_accuracy=rate(0.64, 0.58),
    judge_accuracy=rate(0.6, 0.53),
    best_of_4=rate(0.7, 0.6),
    kl_nats=7.5,
    candidate=ANSWERS,
    incumbent=ANSWERS,
    training=TRAINING,
)


def candidate(**changes: float) -> GateEvidence:
    return replace(GOOD, candidate=replace(ANSWERS, **changes))


def training(**changes: Any) -> GateEvidence:
    return replace(GOOD, training=replace(TRAINING, **changes))


def test_evidence_that_breaks_no_rule_passes_and_every_sentinel_was_asked() -> None:
    verdict = decide(GOOD, BOUNDS)
    assert verdict.passed
    assert verdict.reasons == ()
    assert {check.name for check in verdict.checks} == SENTINELS


@pytest.mark.parametrize(
    ("name", "evidence"),
    [
        ("win_rate", replace(GOOD, win_rate=rate(0.58, 0.49))),
        ("win_rate", replace(GOOD, win_rate=rate(0.58, 0.5))),
        ("win_rate", replace(GOOD, win_rate=rate(0.9, 0.8, num_prompts=7))),
        ("rm_accuracy", replace(GOOD, rm_accuracy=rate(0.56, 0.49))),
        ("rm_accuracy", replace(GOOD, rm_accuracy=rate(0.54, 0.51))),
        ("judge_accuracy", replace(GOOD, judge_accuracy=rate(0.55, 0.5))),
        ("best_of_4", replace(GOOD, best_of_4=rate(0.53, 0.48))),
        ("kl", replace(GOOD, kl_nats=30.5)),
        ("kl", replace(GOOD, kl_nats=0.0)),
        ("length", candidate(mean_length=23.9)),
        ("length", candidate(mean_length=37.6)),
        ("length", candidate(mean_length=0.0)),
        ("eos_rate", candidate(eos_rate=0.79)),
        ("repetition", candidate(repetition=0.11)),
        ("repetition", candidate(distinct_2=0.47)),
        ("opening", candidate(opening_share=0.11)),
        ("proxy_gap", replace(GOOD, proxy_win_rate=rate(0.94, 0.9))),
        ("training_happened", training(relative_change=0.0)),
        ("training_happened", training(ref_hash_after="b" * 64)),
        ("training_happened", training(num_policy_steps=0)),
    ],
)
def test_evidence_that_breaks_one_rule_is_refused_by_that_name_alone(
    name: str, evidence: GateEvidence
) -> None:
    verdict = decide(evidence, BOUNDS)
    assert not verdict.passed
    assert {reason.name for reason in verdict.reasons} == {name}


def test_a_planted_reward_that_likes_shouting_is_refused_by_the_sentinels_it_trips() -> None:
    """CASES D14: a policy that found "!!!" pleases its own reward model and nobody else."""
    shouting = replace(
        GOOD,
        win_rate=rate(0.5, 0.43),
        proxy_win_rate=rate(0.99, 0.97),
        kl_nats=66.0,
        candidate=replace(
            ANSWERS,
            mean_length=48.0,
            eos_rate=0.1,
            repetition=0.9,
            distinct_2=0.05,
            opening_share=0.6,
        ),
    )
    names = {reason.name for reason in decide(shouting, BOUNDS).reasons}
    tripped = {"win_rate", "proxy_gap", "kl", "length", "eos_rate", "repetition", "opening"}
    assert names == tripped


def test_a_reason_says_the_figure_and_the_bound_in_a_sentence() -> None:
    (reason,) = decide(replace(GOOD, kl_nats=41.0), BOUNDS).reasons
    assert (reason.figure, reason.bound) == (41.0, "<= 30")
    assert reason.sentence == "The KL from init per response, in nats, is 41; <= 30 required."


def test_the_commonest_opening_is_not_judged_on_few_answers() -> None:
    few = candidate(num_answers=49, opening_share=0.2)
    assert decide(few, BOUNDS).passed
    (check,) = [check for check in decide(few, BOUNDS).checks if check.name == "opening"]
    assert "not judged" in check.sentence


@pytest.mark.parametrize(
    "evidence",
    [
        replace(GOOD, kl_nats=float("nan")),
        replace(GOOD, win_rate=replace(GOOD.win_rate, low=float("nan"))),
        candidate(mean_length=float("nan")),
        candidate(repetition=float("nan")),
        training(relative_change=float("nan")),
        replace(GOOD, incumbent=replace(ANSWERS, mean_length=0.0)),
    ],
)
def test_a_figure_that_is_not_a_number_refuses(evidence: GateEvidence) -> None:
    assert not decide(evidence, BOUNDS).passed


shares = st.floats(0, 1)
rates = st.builds(rate, shares, shares, st.integers(1, 30))
answers = st.builds(
    AnswerFigures, st.integers(1, 200), st.floats(0, 60), shares, shares, shares, shares
)
facts = st.builds(
    TrainingFacts, st.floats(0, 1e-2), st.just("a"), st.sampled_from("ab"), st.integers(0, 30)
)
evidences = st.builds(
    GateEvidence, rates, rates, rates, rates, rates, st.floats(0, 60), answers, answers, facts
)
evidences_near_good = st.one_of(
    evidences,
    st.builds(lambda r: replace(GOOD, win_rate=r), rates),
    st.builds(lambda a: replace(GOOD, candidate=a), answers),
    st.builds(lambda f: replace(GOOD, training=f), facts),
)
tightenings = st.fixed_dictionaries(
    {
        "min_prompts": st.integers(0, 40),
        "chance": st.floats(0, 0.5),
        "min_rm_accuracy": st.floats(0, 0.45),
        "min_kl_nats": st.floats(0, 10),
        "max_kl_nats": st.floats(-29, 0),
        "min_length_ratio": st.floats(0, 0.3),
        "max_length_ratio": st.floats(-0.3, 0),
        "max_eos_rate_drop": st.floats(-0.1, 0),
        "max_repetition_rise": st.floats(-0.05, 0),
        "min_distinct_ratio": st.floats(0, 0.3),
        "max_opening_share": st.floats(-0.09, 0),
        "min_opening_answers": st.integers(-49, 0),
        "max_proxy_gap": st.floats(-0.25, 0),
        "min_policy_steps": st.integers(0, 100),
        "min_relative_change": st.floats(0, 1),
    }
)


@given(evidences_near_good, tightenings)
def test_tightening_a_bound_never_turns_a_refusal_into_a_pass(
    evidence: GateEvidence, tightening: dict[str, float]
) -> None:
    tighter = GateSettings(**{name: getattr(BOUNDS, name) + by for name, by in tightening.items()})
    if not decide(evidence, BOUNDS).passed:
        assert not decide(evidence, tighter).passed


@given(evidences)
def test_a_verdict_passes_exactly_when_it_gives_no_reason_against(evidence: GateEvidence) -> None:
    verdict = decide(evidence, BOUNDS)
    assert verdict.passed == (not verdict.reasons)
    assert all(reason.name in SENTINELS for reason in verdict.reasons)
