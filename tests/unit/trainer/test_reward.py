"""The reward model learns an order from one pass for K answers, and is what its files say it is."""

from pathlib import Path

import pytest
import torch
from tiny_llama import add_random_adapter, tiny_model

from feedback.adapter_files import AdapterManifest, AdapterRefused
from feedback.registry import Registry
from policy.adapter_weights import load_adapter, load_head, write_adapter
from policy.heads import ScalarHead
from policy.language_model import LanguageModel, LoraSettings, Trunk
from trainer.estimators import ranking_loss
from trainer.evidence import adapter_hash
from trainer.packing import Transcript
from trainer.progress import silent
from trainer.reward import (
    RankedAnswers,
    RewardModel,
    VoteSet,
    merge_votes,
    new_head,
    ranking_accuracy,
    train_reward,
    vote_scores,
)
from trainer.settings import RewardSettings
from trainer.transcripts import shuffled

LIKED = 7
HIDDEN = 32
SETTINGS = RewardSettings(epochs=4, batch_size=4, learning_rate=1e-2)
MANIFEST = AdapterManifest(base_id="tiny", weights_hash="a" * 64, tokenizer_hash="b" * 64)
UPPER = LoraSettings(rank=4, alpha=8, first_layer=1)


def reward_model(model: LanguageModel | None = None) -> RewardModel:
    model = model or tiny_model()
    model.add_adapter("rm", UPPER, seed=0)
    return RewardModel(model, "rm", ScalarHead.zero(HIDDEN))


def planted_votes(count: int, first: int = 0) -> list[RankedAnswers]:
    """Four answers a prompt; those that end with LIKED are better, the others tie."""
    votes = []
    for number in range(first, first + count):
        ids = [20 + i for i in shuffled(200, number)]
        answers = [Transcript(tuple(ids[:4]), (*ids[5 * k : 5 * k + 3], 0)) for k in range(1, 5)]
        best = number % 4
        answers[best] = Transcript(tuple(ids[:4]), (*ids[30:32], LIKED))
        others = [k for k in range(4) if k != best]
        votes.append(RankedAnswers.from_tie_groups(answers, [[best], others]))
    return votes


def test_each_answer_is_passed_once_and_never_once_per_pair() -> None:
    # CASES E7: 50 prompts with K = 6 have 750 pairs and 300 answers. All have two tokens here.
    every_token_once = 50 * (2 + 6 * 2)
    model = CountingModel.tiny()
    reward = reward_model(model)
    votes = [
        RankedAnswers.from_tie_groups(
            [Transcript((number, 9), (10 + k, 30 + number)) for k in range(6)],
            [[k] for k in range(6)],
        )
        for number in range(50)
    ]
    assert sum(len(vote.pairs) for vote in votes) == 50 * 15
    settings = RewardSettings(epochs=1, batch_size=10, learning_rate=1e-3)
    train_reward(reward, votes, settings, 0, silent)
    assert model.num_tokens == every_token_once
    model.num_tokens = 0
    # Batches of 8 do not divide 50 votes; each is passed once all the same.
    train_reward(reward, votes, settings.model_copy(update={"batch_size": 8}), 0, silent)
    assert model.num_tokens == every_token_once
    model.num_tokens = 0
    vote_scores(reward, VoteSet.of(reward, votes))
    assert model.num_tokens == every_token_once


def test_a_head_of_two_states_reads_the_last_token_and_the_mean_of_the_response() -> None:
    model = tiny_model()
    add_random_adapter(model, "rm", 1, UPPER)
    answers = [Transcript((5, 6, 7), tuple(range(20, 20 + size))) for size in (1, 4, 2)]
    states = []
    for answer in answers:
        ids = torch.tensor([answer.ids])
        trunk = model.trunk(ids, torch.ones_like(ids, dtype=torch.bool), 0)
        with torch.no_grad():
            states.append(model.hidden(trunk, "rm")[0, 3:])
    head = new_head(HIDDEN, "last_and_mean")
    with torch.no_grad():
        head.weight.copy_(torch.randn(2 * HIDDEN, generator=torch.Generator().manual_seed(1)))
        head.bias.fill_(0.25)
    last, mean = head.weight.detach().split(HIDDEN)
    expected = [float(s[-1] @ last + s.mean(dim=0) @ mean) + 0.25 for s in states]
    assert RewardModel(model, "rm", head).scores(answers).tolist() == pytest.approx(expected, 1e-4)
    # The critic that starts from it reads one state with the sum of both.
    folded = head.folded(HIDDEN)
    one = states[1][0]
    assert folded(one).item() == pytest.approx(float(one @ (last + mean)) + 0.25, 1e-4)
    assert torch.equal(new_head(HIDDEN, "last").folded(HIDDEN).weight, torch.zeros(HIDDEN))


class CountingModel(LanguageModel):
    """Counts the tokens that pass through the adapted layers."""

    num_tokens = 0

    @classmethod
    def tiny(cls) -> "CountingModel":
        tiny = tiny_model()
        return cls(tiny._network, tiny.tokenizer)

    def hidden(self, trunk: Trunk, adapter: str | None) -> torch.Tensor:
        self.num_tokens += int(trunk.is_token_BT.sum())
        return super().hidden(trunk, adapter)


def test_the_loss_of_a_batch_is_the_mean_over_prompts_of_the_mean_over_their_pairs() -> None:
    reward = reward_model()
    with torch.no_grad():
        reward.head.weight.copy_(ScalarHead(HIDDEN, seed=3).weight)
    votes = [
        RankedAnswers.from_tie_groups(
            [Transcript((5, 6), (10 + k,) * (k + 1)) for k in range(size)],
            [[k] for k in range(size)],
        )
        for size in (2, 4, 9)
    ]
    each = [float(ranking_loss(reward.scores(vote.answers), [*vote.pairs])) for vote in votes]
    settings = RewardSettings(epochs=1, batch_size=3)
    figures = train_reward(reward, votes, settings, 0, silent)
    assert figures["rm/loss"] == pytest.approx(sum(each) / 3, rel=1e-5)


def test_ties_give_no_comparison_and_all_tied_votes_no_training() -> None:
    answers = [Transcript((1,), (10 + k,)) for k in range(3)]
    partly = RankedAnswers.from_tie_groups(answers, [[1], [0, 2]])
    assert sorted(partly.pairs) == [(1, 0), (1, 2)]
    all_tied = RankedAnswers.from_tie_groups(answers, [[0, 1, 2]])
    assert all_tied.pairs == ()
    reward = reward_model()
    assert VoteSet.of(reward, [all_tied, partly]).votes == (partly,)
    for votes in ([], [all_tied]):
        with pytest.raises(ValueError, match="no ranking prefers one answer .* collect votes"):
            train_reward(reward, votes, SETTINGS, 0, silent)


def test_votes_on_the_same_answers_are_joined_though_each_lists_them_otherwise() -> None:
    texts = {
        "a": Transcript((1,), (10,)),
        "b": Transcript((1,), (11,)),
        "c": Transcript((1,), (12,)),
    }
    orders = [("a", "b", "c"), ("c", "a", "b"), ("b", "c", "a")]
    rankings = [[["b"], ["a"], ["c"]], [["b"], ["a", "c"]], [["c"], ["b"], ["a"]]]
    votes = [
        RankedAnswers.from_tie_groups(
            [texts[name] for name in order],
            [[order.index(name) for name in group] for group in ranking],
        )
        for order, ranking in zip(orders, rankings, strict=True)
    ]
    elsewhere = RankedAnswers.from_tie_groups([texts["a"], texts["b"]], [[1], [0]])
    merged = merge_votes([*votes, elsewhere], [*orders, ("a", "b")])
    assert merged[1] == elsewhere
    assert merged[0].answers == tuple(texts.values())
    named = ["abc"[better] + "abc"[worse] for better, worse in merged[0].pairs]
    assert sorted(named) == sorted(["ba", "bc", "ac", "ba", "bc", "cb", "ca", "ba"])


def test_a_planted_preference_is_learnt_and_holds_for_prompts_not_seen() -> None:
    reward = reward_model()
    figures = train_reward(reward, planted_votes(48), SETTINGS, 0, silent)
    assert figures["rm/first_loss"] == pytest.approx(0.6931, abs=1e-3)  # a head of zeros: log 2
    assert figures["rm/loss"] < 0.3
    found = ranking_accuracy(reward, planted_votes(20, first=100))
    assert {count for _, count in found} == {3}
    # A coin gets 30 of 60, and 45 once in 15,000 tries.
    assert sum(right for right, _ in found) >= 45


def test_centering_makes_the_demonstrations_mean_zero_and_moves_no_difference() -> None:
    reward = RewardModel(tiny_model(), "rm", ScalarHead(HIDDEN, seed=1))
    add_random_adapter(reward.model, "rm", 4)
    demonstrations = [Transcript((5, 6), (7, k, 0)) for k in range(20, 27)]
    before = reward.scores(demonstrations)
    assert abs(float(before.mean())) > 1e-3
    reward.center(demonstrations)
    after = reward.scores(demonstrations)
    assert float(after.mean()) == pytest.approx(0, abs=1e-5)
    torch.testing.assert_close(before - before.mean(), after)
    reward.center([])
    assert torch.equal(reward.scores(demonstrations), after)


def test_only_the_reward_adapter_and_its_head_change() -> None:
    reward = reward_model()
    add_random_adapter(reward.model, "sft", 1)
    before, unembedding = adapter_hash(reward.model, "sft"), reward.model.unembedding_VD.clone()
    mine = adapter_hash(reward.model, "rm")
    train_reward(reward, planted_votes(8), SETTINGS, 0, silent)
    assert adapter_hash(reward.model, "sft") == before
    assert torch.equal(reward.model.unembedding_VD, unembedding)
    assert adapter_hash(reward.model, "rm") != mine
    assert reward.head.weight.abs().sum() > 0


def test_saved_and_loaded_on_a_fresh_base_it_gives_the_same_scores(tmp_path: Path) -> None:
    # CASES D7.
    reward = reward_model()
    train_reward(reward, planted_votes(16), SETTINGS, 0, silent)
    answers = [answer for vote in planted_votes(6, first=50) for answer in vote.answers]
    reward.center(answers[:5])
    registry = Registry.open(tmp_path)
    adapter_id = registry.publish(
        "rm",
        lambda directory: write_adapter(reward.model, "rm", directory, "tiny", reward.head),
        MANIFEST,
    )
    files = registry.adapter(adapter_id)
    fresh = tiny_model()
    again = RewardModel(fresh, load_adapter(fresh, files), load_head(files))
    assert (again.scores(answers) - reward.scores(answers)).abs().max() < 1e-6
    assert files.head_path is not None
    files.head_path.unlink()
    with pytest.raises(AdapterRefused, match="publish the head with its adapter"):
        load_head(files)
