"""No conversation and no prompt is on both sides of a fold, and folds weigh about the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from snapshot_rows import ranking_row

from trainer.folds import conversations, deal

names = st.integers(0, 5).map(str)
rows = st.lists(
    st.builds(
        lambda prompt, conversation: ranking_row(prompt_hash=prompt, conversation_id=conversation),
        names,
        st.none() | names,
    ),
    max_size=14,
)


@given(rows)
def test_rows_are_in_one_group_exactly_if_a_chain_of_prompts_and_conversations_joins_them(
    rows: list,
) -> None:
    group_of = conversations(rows)
    reached = [{i} for i in range(len(rows))]
    for _ in rows:  # the closure of "shares a prompt or a conversation", the slow way
        reached = [
            seen | {j for i in seen for j in range(len(rows)) if _touches(rows[i], rows[j])}
            for seen in reached
        ]
    for i in range(len(rows)):
        assert {j for j in range(len(rows)) if group_of[j] == group_of[i]} == reached[i]


def _touches(one, other) -> bool:  # type: ignore[no-untyped-def]
    same_prompt = one.prompt_hash == other.prompt_hash
    has_conversation = one.conversation_id is not None
    return same_prompt or (has_conversation and one.conversation_id == other.conversation_id)


@given(
    group_of=st.lists(st.integers(0, 9), min_size=2, max_size=40),
    num_folds=st.integers(2, 5),
    seed=st.integers(0, 99),
)
def test_every_row_is_in_one_fold_and_every_group_in_one_fold(
    group_of: list[int], num_folds: int, seed: int
) -> None:
    if len(set(group_of)) < num_folds:
        with pytest.raises(ValueError, match=f"{num_folds} folds of {len(set(group_of))}"):
            deal(group_of, [1] * len(group_of), num_folds, seed)
        return
    folds = deal(group_of, [1] * len(group_of), num_folds, seed)
    assert sorted(i for fold in folds for i in fold) == list(range(len(group_of)))
    assert all(folds)
    groups = [{group_of[i] for i in fold} for fold in folds]
    assert sum(map(len, groups)) == len(set(group_of))


def test_folds_differ_in_weight_by_no_more_than_one_group() -> None:
    weights = [1, 3, 36, 3, 1, 6, 10, 3, 3, 6, 1, 1, 3] * 6
    folds = deal(list(range(len(weights))), weights, 5, seed=1)
    loads = [sum(weights[i] for i in fold) for fold in folds]
    assert max(loads) - min(loads) <= max(weights)


def test_the_deal_depends_on_the_seed_alone() -> None:
    groups, weights = list(range(30)), [1] * 30
    assert deal(groups, weights, 5, seed=1) == deal(groups, weights, 5, seed=1)
    assert deal(groups, weights, 5, seed=1) != deal(groups, weights, 5, seed=2)


def test_one_fold_is_refused() -> None:
    with pytest.raises(ValueError, match="take at least 2 folds"):
        deal([1, 2], [1, 1], 1, seed=0)
