"""The simulated labelers: who they are and how they rank."""

import random
from dataclasses import astuple, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instructloop.demo.personas import (
    Answer,
    Habit,
    held_out_personas,
    rank,
    tie_groups,
    training_personas,
)
from instructloop.demo.preference import Weights

REQUEST = "Describe a first swim in cold water and how it feels afterwards."
GOOD = Answer(
    "The cold water takes your breath at first, but after the swim you feel warm, "
    "happy and wide awake for the rest of the day.",
    28,
    "stop",
)
BAD = Answer("Error: undefined xqzt\n\n### Request:\nError: undefined xqzt", 48, "length")
CALM = replace(training_personas()[0], noise_scale=0.0, left_bonus=0.0)
LONG = Answer("so it goes and goes " * 9, 48, "length")


def test_there_are_twelve_considered_voters_a_careless_and_a_length_lover():
    habits = [persona.habit for persona in training_personas()]
    assert habits.count(Habit.CONSIDERED) == 12
    assert habits.count(Habit.CARELESS) == habits.count(Habit.LONGEST) == 1


def test_held_out_judges_are_four_others_without_noise_or_bias():
    judges = held_out_personas()
    voters = training_personas()
    assert len(judges) == 4
    assert all(judge.noise_scale == judge.left_bonus == 0 for judge in judges)
    assert not {j.persona_id for j in judges} & {v.persona_id for v in voters}
    assert not {astuple(j.weights) for j in judges} & {astuple(v.weights) for v in voters}


def test_weights_differ_between_personas_stay_near_the_usual_ones_and_sum_to_one():
    personas = [p for p in training_personas() if p.habit is Habit.CONSIDERED]
    assert len({astuple(persona.weights) for persona in personas}) == 12
    for persona in personas + held_out_personas():
        assert sum(astuple(persona.weights)) == pytest.approx(1)
        for weight, usual in zip(astuple(persona.weights), astuple(Weights()), strict=True):
            assert 0.7 / 1.3 <= weight / usual <= 1.3 / 0.7


def test_personas_are_the_same_on_every_call():
    assert training_personas() == training_personas()


@given(st.lists(st.floats(0, 1), max_size=9), st.floats(0, 0.5))
def test_tie_groups_hold_every_answer_once_best_first_and_within_the_threshold(felt, threshold):
    groups = tie_groups(felt, threshold)
    assert sorted(index for group in groups for index in group) == list(range(len(felt)))
    for group in groups:
        values = [felt[index] for index in group]
        assert max(values) - min(values) <= threshold
    tops = [max(felt[index] for index in group) for group in groups]
    assert tops == sorted(tops, reverse=True)


def test_without_noise_the_better_answer_wins_wherever_it_is_shown():
    assert rank(CALM, REQUEST, [GOOD, BAD], random.Random(0)) == ((0,), (1,))
    assert rank(CALM, REQUEST, [BAD, GOOD], random.Random(0)) == ((1,), (0,))


def test_equal_answers_tie():
    assert rank(CALM, REQUEST, [GOOD, GOOD], random.Random(0)) == ((0, 1),)


def test_the_same_generator_state_gives_the_same_ranking():
    persona = training_personas()[0]
    answers = [GOOD, BAD, LONG, GOOD]
    assert rank(persona, REQUEST, answers, random.Random(7)) == rank(
        persona, REQUEST, answers, random.Random(7)
    )


def test_the_first_answer_shown_wins_more_often_among_equals():
    persona = replace(training_personas()[0], tie_threshold=0.0)
    rng = random.Random(0)
    wins = sum(rank(persona, REQUEST, [GOOD, GOOD], rng)[0] == (0,) for _ in range(4_000))
    assert 0.51 < wins / 4_000 < 0.65


def test_the_careless_labeler_ignores_the_answers():
    careless = next(p for p in training_personas() if p.habit is Habit.CARELESS)
    rng = random.Random(0)
    firsts = [0 in rank(careless, REQUEST, [BAD, GOOD], rng)[0] for _ in range(2_000)]
    assert 0.45 < sum(firsts) / 2_000 < 0.6


def test_the_length_lover_always_takes_the_longest():
    longest = next(p for p in training_personas() if p.habit is Habit.LONGEST)
    assert rank(longest, REQUEST, [GOOD, BAD, LONG], random.Random(0))[0] == (2,)
