"""Words, stems and topics as the simulated preference counts them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instructloop.demo.vocabulary import content_words, ngrams, stem, topic_stems, words


def test_words_are_lower_case_and_keep_apostrophes_but_no_punctuation():
    assert words("Don’t stop, it's 7 o'clock!") == ["don't", "stop", "it's", "7", "o'clock"]


@pytest.mark.parametrize(
    ("form", "other"),
    [("trees", "tree"), ("baking", "bake"), ("running", "run"), ("stories", "story")],
)
def test_forms_of_one_word_share_a_stem(form: str, other: str):
    assert stem(form) == stem(other)


@pytest.mark.parametrize(("one", "other"), [("sea", "see"), ("cat", "cut"), ("bread", "bred")])
def test_different_words_keep_different_stems(one: str, other: str):
    assert stem(one) != stem(other)


@given(st.from_regex(r"[a-z]{1,12}", fullmatch=True))
def test_a_stem_is_never_empty_nor_longer_than_its_word(word: str):
    assert 0 < len(stem(word)) <= len(word)


def test_a_topic_leaves_out_function_words_and_the_words_of_the_order():
    assert topic_stems("Write a short poem about the rain.") == {"poem", "rain"}
    assert content_words("It was the rain of a day") == ["rain", "day"]


@given(st.lists(st.text(max_size=3), max_size=12), st.integers(1, 5))
def test_there_are_as_many_ngrams_as_places_for_them(tokens, size):
    grams = ngrams(tokens, size)
    assert len(grams) == max(0, len(tokens) - size + 1)
    assert all(len(gram) == size for gram in grams)
