"""Accuracies over held-out comparisons, beside what length alone gets; it does not know models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from feedback.preferences import Interval, paired_difference, win_rate
from feedback.snapshot_rows import RankingRow
from trainer.dataset import Accounts
from trainer.reward import RankedAnswers


@dataclass(frozen=True, slots=True)
class Comparison:
    """One pair of a ranking: 1 where a rule puts the better answer first, 0.5 where it ties."""

    conversation: int
    by_reward: float
    by_longer: float


@dataclass(frozen=True, slots=True)
class CrossValidation:
    """Accuracies over all held-out comparisons; intervals resample whole conversations.

    accounts: what was cut or left out on the way to tokens.
    made_with: the number format, the layers that adapt, and the settings.
    longer, shorter: of the rules that always prefer the longer or the shorter text, in characters.
    over_longer, over_shorter: reward model minus rule on the same comparisons.
    """

    num_rankings: int
    num_conversations: int
    num_comparisons: int
    accounts: Accounts
    accuracy: Interval
    longer: Interval
    shorter: Interval
    over_longer: Interval
    over_shorter: Interval
    folds: tuple[dict[str, float], ...]
    made_with: dict[str, Any]

    def facts(self) -> dict[str, Any]:
        """Everything as plain values, for JSON."""
        return asdict(self)

    def table(self) -> list[dict[str, str]]:
        """The rates with their intervals, a row each, for people."""
        rates = {
            "reward model": self.accuracy,
            "always the longer": self.longer,
            "always the shorter": self.shorter,
        }
        differences = {
            "reward model minus longer": self.over_longer,
            "reward model minus shorter": self.over_shorter,
        }
        return [
            {"accuracy": name, "estimate": _text(rate.estimate, sign), **_bounds(rate, sign)}
            for sign, rows in (("", rates), ("+", differences))
            for name, rate in rows.items()
        ]


def _bounds(rate: Interval, sign: str) -> dict[str, str]:
    return {f"{rate.confidence:.0%} low": _text(rate.low, sign), "high": _text(rate.high, sign)}


def _text(value: float, sign: str) -> str:
    return f"{value:{sign}.3f}"


def compare(
    vote: RankedAnswers, scores: Sequence[float], row: RankingRow, group: int
) -> Iterator[Comparison]:
    """Judge every comparison of a vote by the scores of its answers and by their lengths."""
    # Of the whole texts: the model reads answers that may be cut, the rule need not.
    lengths = [len(choice.text) for choice in row.choices]
    for better, worse in vote.pairs:
        yield Comparison(
            conversation=group,
            by_reward=_outcome(scores[better], scores[worse]),
            by_longer=_outcome(lengths[better], lengths[worse]),
        )


def _outcome(better: float, worse: float) -> float:
    return 0.5 if better == worse else float(better > worse)


def summarise(
    comparisons: Sequence[Comparison],
    figures: Sequence[dict[str, float]],
    group_of: Sequence[int],
    accounts: Accounts,
    made_with: dict[str, Any],
) -> CrossValidation:
    """Pool the comparisons of all folds; rows of one conversation are not independent."""
    seed = made_with["seed"]
    clusters = [each.conversation for each in comparisons]
    reward = [each.by_reward for each in comparisons]
    longer = [each.by_longer for each in comparisons]
    shorter = [1 - outcome for outcome in longer]
    return CrossValidation(
        num_rankings=len(group_of),
        num_conversations=len(set(group_of)),
        num_comparisons=len(comparisons),
        accounts=accounts,
        accuracy=win_rate(reward, clusters, seed=seed),
        longer=win_rate(longer, clusters, seed=seed),
        shorter=win_rate(shorter, clusters, seed=seed),
        over_longer=paired_difference(reward, longer, clusters, seed=seed),
        over_shorter=paired_difference(reward, shorter, clusters, seed=seed),
        folds=tuple(figures),
        made_with=made_with,
    )
