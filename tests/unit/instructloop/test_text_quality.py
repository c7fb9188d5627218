"""The guards against gaming: each has a known value on a small text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instructloop.demo.text_quality import (
    commonest_opening_share,
    distinct_2,
    prompt_match_share,
)

REQUESTS = {"fox": "Describe a fox.", "lamp": "Describe a lamp.", "river": "Describe a river."}


def test_distinct_2_counts_different_pairs_of_words_over_all_pairs():
    assert distinct_2(["red green blue"]) == 1.0
    assert distinct_2(["a b a b a"]) == 2 / 4
    assert distinct_2(["red green", "red green"]) == 1 / 2
    assert distinct_2([]) == 0.0


def test_the_commonest_opening_is_counted_over_all_answers():
    same = ["It is good to see you today.", "It is good to see them."]
    assert commonest_opening_share([*same, "It is good to see us.", "A fox ran."]) == 0.75
    assert commonest_opening_share(["One of them.", "Another of them."]) == 0.5
    assert commonest_opening_share([]) == 0.0


def test_answers_about_their_own_prompt_match_it_and_swapped_ones_do_not():
    own = {key: [f"Here is a {key}."] for key in REQUESTS}
    swapped = {"fox": ["A lamp."], "lamp": ["A river."], "river": ["A fox."]}
    assert prompt_match_share(REQUESTS, own) == 1.0
    assert prompt_match_share(REQUESTS, swapped) < 0.5


def test_one_answer_for_everything_matches_by_chance():
    assert prompt_match_share(REQUESTS, {key: ["How nice!"] for key in REQUESTS}) == 0.5


@given(st.lists(st.text(max_size=60), max_size=8))
def test_shares_stay_between_zero_and_one(texts):
    assert 0 <= distinct_2(texts) <= 1
    assert 0 <= commonest_opening_share(texts) <= 1


@pytest.mark.parametrize("num_copies", [2, 10])
def test_copies_of_one_answer_lower_distinct_2(num_copies: int):
    assert distinct_2(["one two three"] * num_copies) == pytest.approx(1 / num_copies)
