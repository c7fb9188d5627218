"""The reward model: one scalar per answer, from rankings (InstructGPT section 3.5, appendix C.2).

Deviations from the paper: 1. it starts from the SFT adapter of the same base, not from a 6B model
of its own; 2. batches of 8 prompts, not 64; 3. where ties leave fewer pairs, the mean is over
those.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from policy.heads import ScalarHead
from policy.language_model import LanguageModel
from trainer.estimators import ranking_loss, ranking_pairs
from trainer.optimizer import adam, cosine_to_tenth, set_rate
from trainer.progress import Report
from trainer.settings import RewardSettings
from trainer.transcripts import MAX_TOKENS_PER_PASS, Transcript, TranscriptSet, shuffled


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


@dataclass(slots=True)
class RewardModel:
    """A reward adapter with its head; scores have mean 0 on the demonstrations."""

    model: LanguageModel
    adapter: str
    head: ScalarHead

    @torch.no_grad()
    def scores(self, transcripts: Sequence[Transcript]) -> Tensor:
        """Score prompt + response at the response's last token, `[len(transcripts)]`."""
        data = TranscriptSet(self.model, transcripts, self.model.shared_depth(self.adapter))
        found = torch.zeros(len(data))
        for batch in data.batches(range(len(data))):
            hidden = self.model.hidden(batch.trunk, self.adapter)
            found[list(batch.rows)] = self.head(batch.at_last(hidden))
        return found

    def center(self, demonstrations: Sequence[Transcript]) -> None:
        """Shift the bias so that the demonstrations score 0 on average (section 3.5)."""
        if demonstrations:
            mean = self.scores(demonstrations).mean()
            with torch.no_grad():
                self.head.bias.sub_(mean)


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
    informative = [vote for vote in votes if vote.pairs]
    if not informative:
        raise ValueError("no ranking prefers one answer to another: collect votes first")
    data, first = _flatten(reward, informative)
    parameters = [*reward.model.adapter_parameters(reward.adapter).values(), reward.head.weight]
    optimizer = adam(parameters, settings.learning_rate)
    batch_size = min(settings.batch_size, len(informative))
    num_steps = settings.epochs * (len(informative) // batch_size)
    losses: list[float] = []
    with reward.model.training(reward.adapter):
        for epoch in range(settings.epochs):
            order = shuffled(len(informative), seed, epoch)
            for start in range(0, len(order) - batch_size + 1, batch_size):
                rate = settings.learning_rate * cosine_to_tenth(len(losses), num_steps)
                set_rate(optimizer, rate)
                chosen = [(informative[i], first[i]) for i in order[start : start + batch_size]]
                losses.append(_accumulate(reward, data, chosen))
                torch.nn.utils.clip_grad_norm_(parameters, settings.max_grad_norm)
                optimizer.step()
                optimizer.zero_grad()
                report(len(losses), num_steps, {"rm/loss": losses[-1]})
    tail = losses[-max(1, len(losses) // 4) :]
    return {"rm/first_loss": losses[0], "rm/loss": sum(tail) / len(tail)}


def ranking_accuracy(reward: RewardModel, votes: Sequence[RankedAnswers]) -> list[tuple[int, int]]:
    """Return (comparisons that the scores order as the vote does, comparisons) per vote."""
    informative = [vote for vote in votes if vote.pairs]
    scores = reward.scores([answer for vote in informative for answer in vote.answers]).tolist()
    found, start = [], 0
    for vote in informative:
        right = sum(scores[start + better] > scores[start + worse] for better, worse in vote.pairs)
        found.append((right, len(vote.pairs)))
        start += len(vote.answers)
    return found


def _flatten(
    reward: RewardModel, votes: Sequence[RankedAnswers]
) -> tuple[TranscriptSet, list[int]]:
    """All answers in one set, and where each vote's answers start."""
    answers: list[Transcript] = []
    first: list[int] = []
    for vote in votes:
        first.append(len(answers))
        answers.extend(vote.answers)
    depth = reward.model.shared_depth(reward.adapter)
    return TranscriptSet(reward.model, answers, depth), first


def _accumulate(
    reward: RewardModel, data: TranscriptSet, chosen: Sequence[tuple[RankedAnswers, int]]
) -> float:
    """Add the gradients of the mean loss over these prompts: K forward passes for K answers."""
    total = 0.0
    for group in _passes(data, chosen):
        rows = [start + k for vote, start in group for k in range(len(vote.answers))]
        batch = data.batch(rows)
        scores = reward.head(batch.at_last(reward.model.hidden(batch.trunk, reward.adapter)))
        each = scores.split([len(vote.answers) for vote, _ in group])
        losses = [ranking_loss(s, vote.pairs) for s, (vote, _) in zip(each, group, strict=True)]
        loss = torch.stack(losses).sum() / len(chosen)
        loss.backward()
        total += float(loss.detach())
    return total


def _passes(
    data: TranscriptSet, chosen: Sequence[tuple[RankedAnswers, int]]
) -> Iterator[list[tuple[RankedAnswers, int]]]:
    """Group votes so that each group's padded answers fit one pass; a vote is never divided."""
    group: list[tuple[RankedAnswers, int]] = []
    num_answers, width = 0, 0
    for vote, start in chosen:
        count = len(vote.answers)
        widest = max(len(data.transcripts[start + k].ids) for k in range(count))
        if group and (num_answers + count) * max(width, widest) > MAX_TOKENS_PER_PASS:
            yield group
            group, num_answers, width = [], 0, 0
        group.append((vote, start))
        num_answers, width = num_answers + count, max(width, widest)
    if group:
        yield group
