"""The simulated preference: a readable, kind, complete answer wins, and tricks do not."""

from time import perf_counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instructloop.demo.preference import (
    Weights,
    coverage,
    length_penalty,
    plainness,
    terms_of,
    tone,
    utility,
)

REQUEST = "Why do leaves change colour in the autumn?"
GOOD = (
    "In autumn the days get short, so leaves stop making green food and lovely warm colours, "
    "which were there all along, can show at last."
)


def score(answer: str, *, request: str = REQUEST, is_finished: bool = True, num_tokens: int = 30):
    return utility(request, answer, is_finished, num_tokens, Weights())


TRICKS = {
    "empty": ("", 1),
    "spaces": ("  \n ", 3),
    "one word": ("Yes.", 2),
    "exclamation spam": ("Leaves change!!!!!!! Autumn!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!", 30),
    "sweet word list": (
        "Love happy good great best nice sweet kind fun joy free glad win hope.",
        30,
    ),
    "plain word list": ("Good day time home life year work world house hand place week.", 30),
    "copy of the request": (f"{REQUEST} {REQUEST} {REQUEST}", 30),
    "topic words in a row": ("Leaves change colour autumn leaves change colour autumn leaves.", 20),
    "the same sentence again": ("Leaves are good. " * 8, 40),
    "function words": ("It is that which it was and so it is to be of it and for it all.", 30),
    "a list": ("- leaves change\n- colour in autumn\n- good and nice days", 25),
    "gibberish": ("Qxvz leavves chnge colourz in autumnq blorft snarg zzkt.", 30),
    "a stock answer": ("I hope you have a good and happy day, and that life is kind to you.", 30),
    "an endless answer": (GOOD.rstrip(".") + " and so on and on and then", 48),
}


@pytest.mark.parametrize("name", TRICKS)
def test_a_trick_scores_clearly_below_a_readable_answer(name: str):
    text, num_tokens = TRICKS[name]
    is_finished = name != "an endless answer"
    assert score(text, is_finished=is_finished, num_tokens=num_tokens) < score(GOOD) - 0.12


def test_a_good_answer_scores_high_but_leaves_room():
    assert 0.6 < score(GOOD) <= 1.0


@given(st.text(max_size=200), st.text(max_size=200), st.booleans(), st.integers(0, 200))
def test_utility_and_terms_stay_in_range_for_any_text(request, answer, is_finished, num_tokens):
    terms = terms_of(request, answer, is_finished, num_tokens)
    for term in (terms.tone, terms.plain, terms.finished, terms.coverage):
        assert 0 <= term <= 1
    assert terms.penalty >= 0
    assert 0 <= utility(request, answer, is_finished, num_tokens, Weights()) <= 1


@given(st.integers(15, 45))
def test_length_earns_and_costs_nothing_from_15_to_45_tokens(num_tokens):
    assert length_penalty(num_tokens) == 0


@given(st.integers(0, 14), st.integers(46, 300))
def test_length_outside_the_band_costs_more_the_further_it_is(short, long):
    assert length_penalty(short) > 0
    assert length_penalty(long) > 0
    assert length_penalty(max(0, short - 1)) >= length_penalty(short)
    assert length_penalty(long + 1) >= length_penalty(long)


def test_shouting_does_not_change_the_tone():
    assert tone("This is a good day") == tone("THIS IS A GOOD DAY!!!")


def test_more_kind_words_stop_paying():
    kind = "What a lovely, kind and happy day for a good walk"
    assert tone(kind) == tone(f"{kind} with wonderful, great, delightful friends") == 1.0


def test_unkind_words_earn_no_tone():
    assert tone("This is a terrible, horrible, stupid idea") == 0


def test_everyday_words_are_plainer_than_learned_ones():
    assert plainness("The water makes the plant grow") > plainness(
        "Precipitation facilitates botanical proliferation"
    )


def test_repeating_an_easy_word_does_not_make_a_text_plainer():
    assert plainness("The photosynthesis time") == plainness("The photosynthesis time time time")


def test_half_of_the_topic_is_full_coverage_and_the_words_of_the_order_do_not_count():
    request = "Write a short story about a fox, a river, a bridge and a lamp."
    assert coverage(request, "The fox crossed the river.") == 1.0
    assert coverage(request, "Here is a short story that I write.") == 0.0
    assert coverage(request, "A fox!") == 0.5


def test_word_forms_count_as_the_same_topic():
    assert coverage("baking trees", "We bake by the tree.") == 1.0


def test_an_answer_is_finished_only_with_its_own_end_and_a_closed_sentence():
    closed, open_ = "The leaves turn red.", "The leaves turn"
    assert terms_of(REQUEST, closed, True, 20).finished == 1
    assert terms_of(REQUEST, closed, False, 20).finished == 0
    assert terms_of(REQUEST, open_, True, 20).finished == 0


def test_five_thousand_answers_are_scored_in_seconds():
    answers = [f"{GOOD} It was day {n} of the long and happy year." for n in range(5_000)]
    score(GOOD)
    start = perf_counter()
    for answer in answers:
        score(answer)
    assert perf_counter() - start < 20
