"""Whose answer it was: the log-probabilities of one version fit no other, and no mixture."""

from datetime import UTC, datetime, timedelta

from feedback.events.completion import Choice
from instructloop.demo.replay import Served, closest_to_a_swap, fits_best

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)
SFT, PPO = [-1.0, -2.0, -0.5, -3.0], [-0.2, -4.0, -1.5, -1.0]
SCORED = {"sft-1": SFT, "ppo-1": PPO}


def served(choice_id, at):
    choice = Choice(
        choice_id=choice_id,
        index=0,
        adapter_id="sft-0123456789abcdef",
        text="x",
        token_ids=(1,),
        token_logprobs=(-1.0,),
        stop_reason="eos",
    )
    return Served((1, 2), choice, at)


def test_an_answer_fits_the_version_that_sampled_it_up_to_rounding():
    rounded = [value + 0.02 for value in SFT]
    assert fits_best("sft-1", rounded, SCORED)
    assert not fits_best("ppo-1", rounded, SCORED)


def test_an_answer_that_changed_version_in_the_middle_fits_neither():
    mixed = SFT[:2] + PPO[2:]
    assert not fits_best("sft-1", mixed, SCORED)
    assert not fits_best("ppo-1", mixed, SCORED)


def test_an_answer_of_an_unknown_version_fits_none_even_if_one_is_nearest():
    foreign = [value - 1.0 for value in SFT]
    assert not fits_best("sft-1", foreign, SCORED)


def test_answers_closest_to_a_swap_come_first():
    answers = [served(str(n), NOON + timedelta(seconds=10 * n)) for n in range(10)]
    swaps = [NOON + timedelta(seconds=21), NOON + timedelta(seconds=80)]
    chosen = closest_to_a_swap(answers, swaps, 3)
    assert {answer.choice.choice_id for answer in chosen} == {"8", "2", "3"}
