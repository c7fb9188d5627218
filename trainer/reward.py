"""The reward model: one scalar per answer, from rankings (InstructGPT section 3.5, appendix C.2).

Deviations from the paper: 1. it starts from the SFT adapter of the same base, not from a 6B model
of its own, and from a head of zeros; 2. batches of 8 prompts or fewer, not 64, and two
epochs in the preset `demo`; 3. where ties leave fewer pairs, the mean is over those; 4. with
`read_out` "last_and_mean" the head reads the mean over the response beside its last token: a few
hundred votes do not teach attention to carry tone and wording to the last token (docs/LOG.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from policy.heads import ScalarHead
from policy.language_model import LanguageModel
from trainer.estimators import ranking_loss, ranking_pairs
from trainer.optimizer import adam, cosine_to_tenth, set_rate
from trainer.packing import Transcript, passes
from trainer.progress import Report
from trainer.settings import ReadOut, RewardSettings
from trainer.transcripts import Batch, TranscriptSet, dealt, shuffled


@dataclass(frozen=True, slots=True)
class RankedAnswers:
    """One vote: K answers to one prompt, and the (better, worse) index pairs it implies."""

    answers: tuple[Transcript, ...]
    pairs: tuple[tuple[int, int], ...]

    @classmethod
    def from_tie_groups(
        cls, answers: Sequence[Transcript], tie_groups: Sequence[Sequence[int]]
    ) -> RankedAnswers:
        """Keep the comparisons of an order of tie groups, best first."""
        return cls(tuple(answers), tuple(ranking_pairs(tie_groups)))


def merge_votes(
    votes: Sequence[RankedAnswers], choice_ids: Sequence[Sequence[str]]
) -> tuple[RankedAnswers, ...]:
    """Join the votes of several labelers on the same answers into one batch element.

    Each vote keeps all of its comparisons, so that labelers who disagree pull against each other;
    the K answers are passed through the model once, not once per labeler.

    Args:
        votes: N votes.
        choice_ids: `[N][K]`, which answers each vote ranks, in the order of its answers.
    """
    ranked = list(zip(votes, choice_ids, strict=True))
    return tuple(_merge([ranked[i] for i in group]) for group in same_answers(choice_ids))


def same_answers(choice_ids: Sequence[Sequence[str]]) -> list[list[int]]:
    """Group the votes that rank the same answers, by index; groups in the order of first votes."""
    groups: dict[frozenset[str], list[int]] = {}
    for index, ids in enumerate(choice_ids):
        groups.setdefault(frozenset(ids), []).append(index)
    return list(groups.values())


def _merge(group: Sequence[tuple[RankedAnswers, Sequence[str]]]) -> RankedAnswers:
    """Join votes on the same answers, whose order is the first vote's."""
    first, first_ids = group[0]
    place = {choice_id: index for index, choice_id in enumerate(first_ids)}
    pairs = [(place[ids[a]], place[ids[b]]) for vote, ids in group for a, b in vote.pairs]
    return RankedAnswers(first.answers, tuple(pairs))


@dataclass(slots=True)
class RewardModel:
    """A reward adapter with its head; scores have mean 0 on the demonstrations."""

    model: LanguageModel
    adapter: str
    head: ScalarHead

    def scores(self, transcripts: Sequence[Transcript]) -> Tensor:
        """Score prompt + response, `[len(transcripts)]`."""
        data = TranscriptSet(self.model, transcripts, self.model.shared_depth(self.adapter))
        return self.scores_of(data, range(len(data)))

    def read(self, batch: Batch, hidden_LTD: Tensor) -> Tensor:
        """Score each response of a batch from its states, `[B]`.

        The head's size says what it reads: a weight of D the last token's state, one of 2 D that
        and the mean over the response.
        """
        last = batch.at_last(hidden_LTD)
        if self.head.weight.numel() == last.shape[1]:
            return cast("Tensor", self.head(last))
        both = torch.cat([last.float(), batch.response_mean(hidden_LTD)], dim=1)
        return cast("Tensor", self.head(both))

    @torch.no_grad()
    def scores_of(self, data: TranscriptSet, rows: Sequence[int]) -> Tensor:
        """Score some transcripts of a set, `[len(rows)]`."""
        place = {row: i for i, row in enumerate(rows)}
        found = torch.zeros(len(rows))
        for batch in data.batches(rows):
            hidden = self.model.hidden(batch.trunk, self.adapter)
            found[[place[row] for row in batch.rows]] = self.read(batch, hidden)
        return found

    def center(self, demonstrations: Sequence[Transcript]) -> None:
        """Shift the bias so that the demonstrations score 0 on average (section 3.5)."""
        if demonstrations:
            mean = self.scores(demonstrations).mean()
            with torch.no_grad():
                self.head.bias.sub_(mean)


def new_head(hidden_size: int, read_out: ReadOut) -> ScalarHead:
    """Return the head of zeros of a reward model that reads its answers this way."""
    return ScalarHead.zero(hidden_size * (2 if read_out == "last_and_mean" else 1))


@dataclass(frozen=True, slots=True)
class VoteSet:
    """Votes that compare something; their answers' states below the adapter are computed once.

    first: where each vote's answers start among the transcripts.
    """

    votes: tuple[RankedAnswers, ...]
    first: tuple[int, ...]
    data: TranscriptSet

    @classmethod
    def of(cls, reward: RewardModel, votes: Sequence[RankedAnswers]) -> VoteSet:
        """Lay the answers of all votes that are not all ties into one set."""
        informative = tuple(vote for vote in votes if vote.pairs)
        answers: list[Transcript] = []
        first: list[int] = []
        for vote in informative:
            first.append(len(answers))
            answers.extend(vote.answers)
        depth = reward.model.shared_depth(reward.adapter)
        return cls(informative, tuple(first), TranscriptSet(reward.model, answers, depth))

    def subset(self, indices: Sequence[int]) -> VoteSet:
        """Return some of the votes over the same states."""
        votes = tuple(self.votes[i] for i in indices)
        return VoteSet(votes, tuple(self.first[i] for i in indices), self.data)

    def rows(self, index: int) -> range:
        """The transcripts of one vote's answers."""
        return range(self.first[index], self.first[index] + len(self.votes[index].answers))

    def num_tokens(self, index: int) -> int:
        """Tokens of a vote's prompt, once, and of all its answers."""
        answers = self.votes[index].answers
        return len(answers[0].prompt_ids) + sum(len(answer.response_ids) for answer in answers)


def train_reward(
    reward: RewardModel,
    votes: Sequence[RankedAnswers],
    settings: RewardSettings,
    seed: int,
    report: Report,
) -> dict[str, float]:
    """Train adapter and head for equation 1, all comparisons of a prompt as one batch element.

    Raises:
        ValueError: if no vote prefers any answer to another.
    """
    return train_on(reward, VoteSet.of(reward, votes), settings, seed, report)


def train_on(
    reward: RewardModel, data: VoteSet, settings: RewardSettings, seed: int, report: Report
) -> dict[str, float]:
    """Do what `train_reward` does on votes whose shared states may be known already."""
    num_votes = len(data.votes)
    if not num_votes:
        raise ValueError("no ranking prefers one answer to another: collect votes first")
    parameters = [*reward.model.adapter_parameters(reward.adapter).values(), reward.head.weight]
    optimizer = adam(parameters, settings.learning_rate)
    num_steps = settings.epochs * math.ceil(num_votes / settings.batch_size)
    losses: list[float] = []
    with reward.model.training(reward.adapter):
        for epoch in range(settings.epochs):
            for chosen in dealt(shuffled(num_votes, seed, epoch), settings.batch_size):
                rate = settings.learning_rate * cosine_to_tenth(len(losses), num_steps)
                set_rate(optimizer, rate)
                losses.append(_accumulate(reward, data, chosen))
                torch.nn.utils.clip_grad_norm_(parameters, settings.max_grad_norm)
                optimizer.step()
                optimizer.zero_grad()
                report(len(losses), num_steps, {"rm/loss": losses[-1]})
    tail = losses[-max(1, len(losses) // 4) :]
    return {"rm/first_loss": losses[0], "rm/loss": sum(tail) / len(tail)}


def vote_scores(reward: RewardModel, data: VoteSet) -> list[list[float]]:
    """Score the answers of every vote, in their order."""
    each = [data.rows(i) for i in range(len(data.votes))]
    scores = reward.scores_of(data.data, [row for rows in each for row in rows])
    return [part.tolist() for part in scores.split([len(rows) for rows in each])]


def ranking_accuracy(reward: RewardModel, votes: Sequence[RankedAnswers]) -> list[tuple[int, int]]:
    """Return (comparisons that the scores order as the vote does, comparisons) per vote."""
    data = VoteSet.of(reward, votes)
    return [
        (sum(scores[better] > scores[worse] for better, worse in vote.pairs), len(vote.pairs))
        for vote, scores in zip(data.votes, vote_scores(reward, data), strict=True)
    ]


def _accumulate(reward: RewardModel, data: VoteSet, chosen: Sequence[int]) -> float:
    """Add the gradients of the mean loss over these votes; each answer is passed once."""
    total = 0.0
    for group in passes(chosen, data.num_tokens):
        batch = data.data.batch([row for i in group for row in data.rows(i)])
        scores = reward.read(batch, reward.model.hidden(batch.trunk, reward.adapter))
        each = scores.split([len(data.rows(i)) for i in group])
        losses = [ranking_loss(s, data.votes[i].pairs) for i, s in zip(group, each, strict=True)]
        loss = torch.stack(losses).sum() / len(chosen)
        loss.backward()
        total += float(loss.detach())
    return total
