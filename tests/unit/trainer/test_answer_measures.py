"""Repetition, variety and openings mean what their names say, on any token ids."""

from hypothesis import given
from hypothesis import strategies as st

from trainer.answer_measures import commonest_opening_share, distinct_2, repetition

id_lists = st.lists(st.lists(st.integers(0, 5), max_size=12), max_size=8)


def test_an_answer_that_says_one_thing_over_and_over_repeats_nearly_all_of_its_3_grams() -> None:
    assert repetition([[1, 2, 3] * 10]) == 25 / 28
    assert repetition([[1] * 10]) == 7 / 8


def test_an_answer_without_a_recurring_3_gram_repeats_nothing() -> None:
    assert repetition([[1, 2, 1, 2, 3], [7], []]) == 0.0


def test_repetition_is_within_answers_and_not_between_them() -> None:
    assert repetition([[1, 2, 3, 4], [1, 2, 3, 4]]) == 0.0


def test_distinct_2_counts_different_neighbours_over_all_answers() -> None:
    assert distinct_2([[1, 2, 3], [1, 2, 3]]) == 0.5
    assert distinct_2([[1, 2], [3, 4]]) == 1.0


def test_the_opening_share_is_that_of_the_commonest_first_five_tokens() -> None:
    same = [1, 2, 3, 4, 5]
    assert commonest_opening_share([[*same, 6], [*same, 7, 8], [9, 9], [1, 2, 3]]) == 0.5


@given(id_lists)
def test_every_measure_is_a_share(answers: list[list[int]]) -> None:
    for measure in (repetition, distinct_2, commonest_opening_share):
        assert 0 <= measure(answers) <= 1


@given(id_lists, st.permutations(range(6)))
def test_no_measure_depends_on_which_ids_a_tokenizer_uses(
    answers: list[list[int]], renamed: list[int]
) -> None:
    others = [[renamed[token] for token in answer] for answer in answers]
    for measure in (repetition, distinct_2, commonest_opening_share):
        assert measure(others) == measure(answers)
