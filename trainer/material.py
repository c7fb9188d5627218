"""A snapshot at token level, split as the stages need it; it does not know what they do with it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from feedback.snapshot_rows import RankingRow, Snapshot, Split
from trainer.dataset import Tokenizing
from trainer.evidence_record import GatePrompt
from trainer.packing import Transcript
from trainer.reward import RankedAnswers, merge_votes, same_answers

Need = Literal["demonstrations", "votes", "held_out_votes", "prompts", "held_out_prompts"]

MISSING: dict[Need, str] = {
    "demonstrations": "there are no demonstrations to train on: submit some first",
    "votes": "too few rankings prefer one answer to another, for a reward model and for a judge "
    "with prompts of its own: collect votes on more prompts",
    "held_out_votes": "no held-out ranking prefers one answer to another, to measure the reward "
    "models by: collect votes on more prompts",
    "prompts": "there are no prompts to train on: serve some requests with consent first",
    "held_out_prompts": "there are no held-out prompts to judge the policy by: serve requests with "
    "more prompts, with consent",
}
"""What to do where something is missing."""


@dataclass(frozen=True, slots=True)
class Material:
    """All that one refresh trains on and is judged by.

    comparisons: the votes of each split, those on the same answers joined.
    comparison_prompts: the prompt hash of each of `comparisons`, for clustered intervals.
    accounts: what became of the rows by table; nothing is left out or cut without a count.
    """

    snapshot: Snapshot
    demonstrations: tuple[Transcript, ...]
    votes: dict[Split, tuple[RankedAnswers, ...]]
    comparisons: dict[Split, tuple[RankedAnswers, ...]]
    comparison_prompts: dict[Split, tuple[str, ...]]
    prompts: dict[Split, tuple[GatePrompt, ...]]
    accounts: dict[str, Any]

    @property
    def losses(self) -> dict[str, int]:
        """What was left out or cut, by table and reason; what is not named was kept whole."""
        return {
            f"{table}/{part}/{reason}": count
            for table, account in self.accounts.items()
            for part in ("excluded", "cut")
            for reason, count in account[part].items()
        }

    def require(self, needs: Collection[Need]) -> None:
        """Refuse what cannot be finished before any of it begins.

        Raises:
            ValueError: naming all that is missing, what to do, and what of the record was left out.
        """
        is_there: dict[Need, bool] = {
            "demonstrations": bool(self.demonstrations),
            "votes": bool(self.votes["train"] and self.votes["judge"]),
            "held_out_votes": bool(self.votes["gate"]),
            "prompts": bool(self.prompts["train"]),
            "held_out_prompts": bool(self.prompts["gate"]),
        }
        if missing := [MISSING[need] for need in needs if not is_there[need]]:
            losses = ", ".join(f"{name} {count}" for name, count in self.losses.items())
            left_out = f" (left out of the record: {losses})" if losses else ""
            raise ValueError("; ".join(missing) + left_out)


def tokenize(snapshot: Snapshot, tokenizing: Tokenizing) -> Material:
    """Turn the rows of a snapshot into token ids."""
    demonstrations = tokenizing.demonstrations(snapshot.demonstrations)
    splits: tuple[Split, ...] = get_args(Split)
    rankings = {
        split: tokenizing.rankings([row for row in snapshot.rankings if row.split == split])
        for split in splits
    }
    prompts = {
        split: tokenizing.prompts([row for row in snapshot.prompts if row.split == split])
        for split in splits
    }
    return Material(
        snapshot=snapshot,
        demonstrations=demonstrations.items,
        votes={split: found.items for split, found in rankings.items()},
        comparisons={
            split: merge_votes(found.items, _choice_ids(found.rows))
            for split, found in rankings.items()
        },
        comparison_prompts={
            split: tuple(
                found.rows[first].prompt_hash for first, *_ in same_answers(_choice_ids(found.rows))
            )
            for split, found in rankings.items()
        },
        prompts={
            split: tuple(
                GatePrompt(row.prompt_hash, row.prompt_text, ids)
                for row, ids in zip(found.rows, found.items, strict=True)
            )
            for split, found in prompts.items()
        },
        accounts={
            "demonstrations": asdict(demonstrations.accounts),
            **{f"rankings/{split}": asdict(found.accounts) for split, found in rankings.items()},
            **{f"prompts/{split}": asdict(found.accounts) for split, found in prompts.items()},
        },
    )


def _choice_ids(rows: Sequence[RankingRow]) -> list[list[str]]:
    return [[choice.choice_id for choice in row.choices] for row in rows]
