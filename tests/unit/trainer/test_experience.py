"""Scores fall on the last token that was sampled, and cut answers alone pay for a missing end."""

import pytest
import torch
from tiny_ppo import SHORT, TinyPpo

from trainer.experience import Experience
from trainer.packing import Transcript
from trainer.rollouts import Rollout

EOS, CUSTOM_STOP = 0, 9
# CASES D2: a short one that ended, one that was cut, one that a custom stop token ended.
ANSWERS = (
    Rollout(Transcript((5, 6, 7), (20, EOS)), (-1.0, -1.0), is_finished=True),
    Rollout(Transcript((5, 6), (21, 22, 23, 24)), (-1.0,) * 4, is_finished=False),
    Rollout(Transcript((8,), (25, 26, CUSTOM_STOP)), (-1.0,) * 3, is_finished=True),
)


def by_row(experiences: list[Experience], name: str) -> dict[int, torch.Tensor]:
    return {
        row: getattr(each, name)[i] for each in experiences for i, row in enumerate(each.batch.rows)
    }


@pytest.mark.parametrize("penalty", [0.5, 3.0])
def test_the_penalty_is_taken_from_exactly_the_answers_that_were_cut(penalty: float) -> None:
    tiny = TinyPpo.new()
    scores = {}
    for value in (0.0, penalty):
        settings = SHORT.model_copy(update={"missing_eos_penalty": value})
        scores[value] = by_row(tiny.experience([*ANSWERS], settings), "scores_B")
    paid = [float(scores[0.0][row] - scores[penalty][row]) for row in range(3)]
    assert paid == pytest.approx([0, penalty, 0], abs=1e-6)
    raw = tiny.models.reward.scores([each.transcript for each in ANSWERS])
    assert [float(scores[0.0][row]) for row in range(3)] == pytest.approx(raw.tolist(), abs=1e-5)


def test_without_kl_and_discount_every_return_is_the_score_of_the_whole_answer() -> None:
    # lambda = gamma = 1 and a reward at the end alone: each token's return is that reward,
    # which a reward on padding, or an answer without one, would break.
    tiny = TinyPpo.new()
    settings = SHORT.model_copy(update={"kl_coefficient": 0.0, "lam": 1.0})
    experiences = tiny.experience([*ANSWERS], settings)
    returns, scores = by_row(experiences, "returns_BR"), by_row(experiences, "scores_B")
    for row, answer in enumerate(ANSWERS):
        length = len(answer.transcript.response_ids)
        expected = torch.full((length,), float(scores[row]))
        torch.testing.assert_close(returns[row][:length], expected)
        assert not returns[row][length:].any()


def test_advantages_are_whitened_over_all_tokens_of_the_iteration() -> None:
    tiny = TinyPpo.new()
    experiences = tiny.experience()
    real = torch.cat([each.advantages_BR[each.batch.is_response_BR] for each in experiences])
    assert float(real.mean()) == pytest.approx(0, abs=1e-5)
    assert float(real.var(correction=0)) == pytest.approx(1, abs=1e-4)


def test_ids_are_trained_on_as_they_were_sampled() -> None:
    # CASES D13: these ids are bytes that no text holds, so that no text could bring them back.
    tiny = TinyPpo.new()
    tokenizer = tiny.models.model.tokenizer
    ids = (tokenizer.convert_tokens_to_ids("\u00ff"),) * 3
    assert tuple(tokenizer(tokenizer.decode(ids)).input_ids) != ids
    batch = tiny.experience([Rollout(Transcript((5,), ids), (-1.0,) * 3, False)])[0].batch
    assert tuple(batch.response_ids_N.tolist()) == ids
