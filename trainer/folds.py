"""Divide rankings into folds that share no conversation and no prompt; it does not know models."""

from __future__ import annotations

from collections.abc import Sequence

from feedback.snapshot_rows import RankingRow
from trainer.transcripts import shuffled


def conversations(rows: Sequence[RankingRow]) -> list[int]:
    """Number the conversations: rows that share a conversation or a prompt have one number."""
    group_of_name: dict[tuple[str, str], int] = {}
    for number, row in enumerate(rows):
        names = [("prompt", row.prompt_hash)]
        if row.conversation_id is not None:
            names.append(("conversation", row.conversation_id))
        known = {group_of_name[name] for name in names if name in group_of_name}
        group = min(known, default=number)
        group_of_name |= dict.fromkeys(names, group)
        group_of_name |= {name: group for name, old in group_of_name.items() if old in known}
    return [group_of_name["prompt", row.prompt_hash] for row in rows]


def deal(
    group_of: Sequence[int], weights: Sequence[int], num_folds: int, seed: int
) -> list[list[int]]:
    """Return the rows of each fold: whole groups, dealt at random where least weight lies so far.

    Raises:
        ValueError: there are fewer groups than folds, or fewer than two folds.
    """
    groups = sorted(set(group_of))
    if not 2 <= num_folds <= len(groups):
        raise ValueError(
            f"{num_folds} folds of {len(groups)} conversations with comparisons: take at least 2 "
            "folds and at most one per conversation"
        )
    folds: list[list[int]] = [[] for _ in range(num_folds)]
    loads = [(0, 0)] * num_folds
    for place in shuffled(len(groups), seed):
        rows = [i for i, group in enumerate(group_of) if group == groups[place]]
        lightest = loads.index(min(loads))
        folds[lightest] += rows
        weight, count = loads[lightest]
        loads[lightest] = (weight + sum(weights[i] for i in rows), count + 1)
    return folds
