"""What a held-out fold says is learnt from the other folds, and length alone is measured beside."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import torch
from snapshot_rows import ranked_choice, ranking_row
from tiny_llama import add_random_adapter, tiny_model

from feedback.snapshot_rows import RankingRow
from policy.heads import ScalarHead
from policy.language_model import LanguageModel, LoraSettings
from trainer.cross_validation import cross_validate
from trainer.dataset import Accounts, Examples
from trainer.folds import conversations, deal
from trainer.held_out_accuracy import CrossValidation
from trainer.packing import Transcript
from trainer.progress import Silent, silent
from trainer.reward import RankedAnswers, RewardModel, VoteSet, train_on, train_reward, vote_scores
from trainer.settings import RewardSettings

SETTINGS = RewardSettings(epochs=2, batch_size=8, learning_rate=1e-2)
NUM_PROMPTS = 40
EOS, LIKED = 0, 7


@pytest.fixture
def model() -> LanguageModel:
    model = tiny_model()
    model.add_adapter("fold", LoraSettings(rank=4, alpha=8, first_layer=1), seed=0)
    return model


def examples(rank: Callable[[random.Random, list[tuple[int, ...]]], None]) -> Examples:
    """Prompts with three answers of 2 to 9 tokens, ordered in place by `rank`, best first.

    One of the three ends with a token of its own instead of EOS.
    """
    source = random.Random(3)
    rows, votes = [], []
    for number in range(NUM_PROMPTS):
        prompt = tuple(source.choices(range(10, 200), k=4))
        answers = [(*source.choices(range(10, 200), k=source.randint(1, 8)), EOS) for _ in range(3)]
        answers[0] = (*source.choices(range(10, 200), k=4), LIKED)
        rank(source, answers)
        choices = [ranked_choice("x" * len(answer), answer) for answer in answers]
        rows.append(ranking_row(*choices, prompt_hash=f"p{number}", prompt_token_ids=prompt))
        transcripts = [Transcript(prompt, answer) for answer in answers]
        votes.append(RankedAnswers.from_tie_groups(transcripts, ((0,), (1,), (2,))))
    return Examples(tuple(rows), tuple(votes), Accounts(len(rows), {}, {}))


def liked_first(source: random.Random, answers: list[tuple[int, ...]]) -> None:
    source.shuffle(answers)
    answers.sort(key=lambda answer: answer[-1] != LIKED)


def longest_first(source: random.Random, answers: list[tuple[int, ...]]) -> None:
    source.shuffle(answers)
    answers.sort(key=len, reverse=True)


def validate(model: LanguageModel, data: Examples, **changes: int) -> CrossValidation:
    options = {"num_folds": 2, "seed": 1} | changes
    return cross_validate(model, "fold", data, SETTINGS, stages=Silent(), **options)


def test_a_preference_that_shows_in_the_text_is_found_on_held_out_conversations(
    model: LanguageModel,
) -> None:
    found = validate(model, examples(liked_first), num_folds=5)
    # Two of three pairs hold the liked answer; the third is a coin toss.
    assert found.accuracy.low > 0.55
    assert found.num_rankings == found.num_conversations == NUM_PROMPTS
    assert (
        found.num_comparisons == 3 * NUM_PROMPTS == sum(fold["comparisons"] for fold in found.folds)
    )


def test_a_coin_toss_is_not_predicted(model: LanguageModel) -> None:
    found = validate(model, examples(lambda source, answers: source.shuffle(answers)))
    assert found.accuracy.low <= 0.5 <= found.accuracy.high


def test_the_length_rules_are_measured_on_the_same_comparisons(model: LanguageModel) -> None:
    found = validate(model, examples(longest_first))
    assert found.longer.estimate > 0.9  # equal lengths count half
    assert found.longer.estimate + found.shorter.estimate == pytest.approx(1)
    assert found.over_longer.estimate == pytest.approx(
        found.accuracy.estimate - found.longer.estimate
    )
    assert found.over_shorter.estimate == pytest.approx(
        found.accuracy.estimate - found.shorter.estimate
    )


def test_the_same_seed_gives_the_same_figures(model: LanguageModel) -> None:
    data = examples(liked_first)
    found = validate(model, data)
    assert found == validate(tiny_with_adapter(), data)


def tiny_with_adapter() -> LanguageModel:
    model = tiny_model()
    model.add_adapter("fold", LoraSettings(rank=4, alpha=8, first_layer=1), seed=0)
    return model


def test_each_fold_is_trained_on_the_others_alone_from_the_same_start() -> None:
    data = examples(liked_first)
    found = validate(tiny_with_adapter(), data)
    group_of = conversations(data.rows)
    # The last fold: another training came before it.
    held_out = deal(group_of, [3] * NUM_PROMPTS, 2, seed=1)[-1]
    model = tiny_with_adapter()
    reward = RewardModel(model, "fold", ScalarHead.zero(model.config.hidden_size))
    others = [data.items[i] for i in range(NUM_PROMPTS) if i not in held_out]
    figures = train_reward(reward, others, SETTINGS, 1, silent)
    votes = [data.items[i] for i in held_out]
    right = [
        scores[better] > scores[worse]
        for vote, scores in zip(votes, vote_scores(reward, VoteSet.of(reward, votes)), strict=True)
        for better, worse in vote.pairs
    ]
    assert found.folds[-1]["rm/loss"] == pytest.approx(figures["rm/loss"], rel=1e-4)
    assert found.folds[-1]["accuracy"] == pytest.approx(sum(right) / len(right), abs=0.03)


def test_a_prompt_that_was_ranked_twice_counts_as_one_conversation(model: LanguageModel) -> None:
    data = examples(liked_first)
    twice: tuple[RankingRow, ...] = data.rows + data.rows
    doubled = Examples(twice, data.items + data.items, data.accounts)
    found = validate(model, doubled)
    assert (found.num_rankings, found.num_conversations) == (2 * NUM_PROMPTS, NUM_PROMPTS)


def test_the_table_shows_every_rate_with_its_interval(model: LanguageModel) -> None:
    table = validate(model, examples(liked_first)).table()
    assert [row["accuracy"] for row in table] == [
        "reward model",
        "always the longer",
        "always the shorter",
        "reward model minus longer",
        "reward model minus shorter",
    ]
    assert all({"estimate", "95% low", "high"} <= row.keys() for row in table)


def test_a_subset_of_votes_trains_as_if_it_were_alone() -> None:
    data = examples(liked_first)
    chosen = [4, 9, 2, 33, 17, 20, 21, 22, 23]
    losses = []
    for is_subset in (False, True):
        model = tiny_model()
        add_random_adapter(model, "fold", seed=5)
        reward = RewardModel(model, "fold", ScalarHead.zero(model.config.hidden_size))
        votes = [data.items[i] for i in chosen]
        whole = VoteSet.of(reward, data.items)
        some = whole.subset(chosen) if is_subset else VoteSet.of(reward, votes)
        losses.append(train_on(reward, some, SETTINGS, 0, silent)["rm/loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_states_are_kept_once_though_batches_mix_known_rows_with_new_ones() -> None:
    model = tiny_with_adapter()
    data = VoteSet.of(
        RewardModel(model, "fold", ScalarHead.zero(model.config.hidden_size)),
        examples(liked_first).items[:4],
    ).data
    data.batch([0, 1, 2])
    data.batch([2, 3, 0])
    data.batch([3, 1])
    assert data._num_kept_tokens == sum(len(data.transcripts[row].ids) for row in range(4))
    fresh = VoteSet.of(
        RewardModel(model, "fold", ScalarHead.zero(model.config.hidden_size)),
        examples(liked_first).items[:4],
    ).data
    kept, new = data.batch([3, 1]).trunk, fresh.batch([3, 1]).trunk
    real = new.is_token_BT
    torch.testing.assert_close(kept.hidden_BTD[real], new.hidden_BTD[real])
