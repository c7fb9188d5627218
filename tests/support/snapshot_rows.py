"""Rows of a snapshot with as little in them as a test needs."""

from __future__ import annotations

from typing import Any

from feedback.snapshot_rows import RankedChoice, RankingRow


def ranked_choice(text: str, token_ids: tuple[int, ...] = ()) -> RankedChoice:
    return RankedChoice(
        choice_id=f"choice-{text}",
        adapter_id="sft-0123456789abcdef",
        text=text,
        token_ids=token_ids,
        token_logprobs=None,
        logprobs_kind="raw",
        is_on_policy=True,
        stop_reason="eos",
        num_visible_tokens=len(token_ids),
    )


def ranking_row(*choices: RankedChoice, **changes: Any) -> RankingRow:
    """A vote for the choices in their order, best first."""
    fields: dict[str, Any] = {
        "event_id": "e1",
        "vote_id": "v1",
        "ballot_id": "b1",
        "prompt_hash": "p1",
        "prompt_text": "a prompt",
        "prompt_token_ids": (1, 2, 3),
        "use_case": None,
        "choices": choices,
        "tie_groups": tuple((i,) for i in range(len(choices))),
        "voter": "w1",
        "voter_role": "labeler",
        "source": "labeler",
        "split": "train",
    }
    return RankingRow(**fields | changes)
