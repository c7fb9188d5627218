"""Win rates between arms: who wins, ties, clusters, selection; on answers made by hand."""

from dataclasses import asdict

import pytest

from instructloop.demo.measurement import (
    TIE_MARGIN,
    best_by,
    compare,
    describe,
    oracle_best,
    utilities_of,
)
from instructloop.demo.personas import Answer
from instructloop.demo.prompts import load_demonstrations

DEMONSTRATIONS = load_demonstrations()[:20]
REQUESTS = {d.id: d.text for d in DEMONSTRATIONS}
GOOD = {d.id: (Answer(d.completion, 34, "stop"),) for d in DEMONSTRATIONS}
CUT = {d.id: (Answer(d.completion[:60], 34, "length"),) for d in DEMONSTRATIONS}
JUNK = {d.id: (Answer("Error xqzt undefined vorblex", 34, "length"),) for d in DEMONSTRATIONS}
ARMS = {"good": GOOD, "cut": CUT, "junk": JUNK}


def test_the_better_arm_wins_nearly_always_and_the_rate_lies_in_its_interval():
    rate = compare(REQUESTS, ARMS, "good", "junk", seed=0)
    assert rate.rate > 0.95
    assert 0.5 < rate.low <= rate.rate <= rate.high <= 1
    assert rate.num_prompts == rate.num_pairs == 20
    assert "simulated" in rate.judge


def test_swapping_the_arms_turns_the_rate_round():
    one = compare(REQUESTS, ARMS, "good", "cut", seed=0)
    other = compare(REQUESTS, ARMS, "cut", "good", seed=0)
    assert one.rate == pytest.approx(1 - other.rate)
    assert one.low == pytest.approx(1 - other.high)


def test_an_arm_against_itself_is_all_ties_and_half():
    rate = compare(REQUESTS, ARMS, "good", "good", seed=0)
    assert (rate.rate, rate.low, rate.high, rate.tie_share) == (0.5, 0.5, 0.5, 1.0)
    assert rate.length_ratio == 1.0


def test_answers_whose_utilities_differ_by_less_than_the_margin_tie():
    text = DEMONSTRATIONS[0].completion
    key = DEMONSTRATIONS[0].id
    flat, longer = Answer(text, 45, "stop"), Answer(text, 46, "stop")
    arms = {"flat": {key: (flat,)}, "longer": {key: (longer,)}}
    gap = (
        utilities_of(REQUESTS, arms["flat"], key)[0]
        - utilities_of(REQUESTS, arms["longer"], key)[0]
    )
    assert gap > TIE_MARGIN  # one token too many costs more than a tie allows
    assert compare(REQUESTS, arms, "flat", "longer", seed=0).rate == 1.0
    arms["same"] = {key: (Answer(text, 20, "stop"),)}
    assert compare(REQUESTS, arms, "flat", "same", seed=0).rate == 0.5


def test_every_answer_meets_every_answer_of_its_prompt_and_of_no_other():
    twice = {key: (*GOOD[key], *CUT[key]) for key in GOOD}
    thrice = {key: JUNK[key] * 3 for key in GOOD}
    rate = compare(REQUESTS, {"twice": twice, "thrice": thrice}, "twice", "thrice", seed=0)
    assert rate.num_pairs == 20 * 2 * 3
    assert rate.num_prompts == 20


def test_copies_of_the_same_answers_do_not_narrow_the_interval():
    once = compare(REQUESTS, ARMS, "good", "cut", seed=0)
    many = {"good": {k: v * 4 for k, v in GOOD.items()}, "cut": CUT}
    copied = compare(REQUESTS, many, "good", "cut", seed=0)
    assert copied.rate == pytest.approx(once.rate)
    assert copied.high - copied.low == pytest.approx(once.high - once.low, abs=0.01)


def test_arms_that_answer_different_prompts_are_refused():
    fewer = dict(list(GOOD.items())[1:])
    with pytest.raises(ValueError, match="different prompts"):
        compare(REQUESTS, {"a": GOOD, "b": fewer}, "a", "b", seed=0)


def test_best_by_keeps_the_answer_with_the_highest_score():
    both = {key: (*JUNK[key], *GOOD[key]) for key in GOOD}
    assert best_by({key: [0.1, 0.2] for key in both}, both) == GOOD
    assert best_by({key: [0.2, 0.1] for key in both}, both) == JUNK


def test_best_by_wants_one_score_per_answer():
    with pytest.raises(ValueError, match="as many scores"):
        best_by({}, GOOD)


def test_the_oracle_is_at_least_as_good_as_every_arm_it_chooses_from():
    both = {key: (*CUT[key], *GOOD[key], *JUNK[key]) for key in GOOD}
    arms = {**ARMS, "oracle": oracle_best(REQUESTS, both)}
    for arm in ARMS:
        assert compare(REQUESTS, arms, "oracle", arm, seed=0).rate >= 0.5
    assert describe(REQUESTS, arms, "oracle").mean_utility >= max(
        describe(REQUESTS, arms, arm).mean_utility for arm in ARMS
    )


def test_the_description_of_an_arm_counts_its_answers():
    good, junk = describe(REQUESTS, ARMS, "good"), describe(REQUESTS, ARMS, "junk")
    assert (good.num_answers, good.mean_tokens, good.finished_share) == (20, 34, 1.0)
    assert junk.finished_share == 0.0
    assert junk.commonest_opening_share == 1.0
    assert junk.prompt_match_share == pytest.approx(0.5, abs=0.01)
    assert good.prompt_match_share > 0.7
    assert good.distinct_2 > junk.distinct_2


def test_everything_that_goes_into_a_report_is_plain():
    rate = asdict(compare(REQUESTS, ARMS, "good", "cut", seed=0))
    quality = asdict(describe(REQUESTS, ARMS, "good"))
    assert {type(value) for value in [*rate.values(), *quality.values()]} <= {str, int, float}
