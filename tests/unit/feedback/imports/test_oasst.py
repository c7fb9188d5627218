"""OpenAssistant files become our own events: same votes, nothing invented, nothing half-read."""

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback.events.codec import decode, encode
from feedback.events.completion import CompletionServed
from feedback.events.demonstration import DemonstrationSubmitted
from feedback.events.envelope import Event
from feedback.events.ranking import RankingSubmitted
from feedback.imports.oasst import ImportRefused, read_oasst

SHARED = Path(__file__).resolve().parents[5] / "shared" / "data" / "oasst"


def ranking_row(ranks: list[int], tree: str = "t1", prompt: str = "p1") -> dict[str, Any]:
    replies = [
        {"message_id": f"m{i}", "text": f"reply {i}", "rank": rank, "synthetic": False}
        for i, rank in enumerate(ranks)
    ]
    context = [
        {"role": "prompter", "text": "Hi"},
        {"role": "assistant", "text": "Hello"},
        {"role": "prompter", "text": "Why?"},
    ]
    return {"tree_id": tree, "prompt_message_id": prompt, "context": context, "replies": replies}


def demonstration_row() -> dict[str, Any]:
    row = ranking_row([0])
    del row["replies"]
    return {**row, "response": "Because.", "rank": 0}


def written(directory: Path, *rows: dict[str, Any] | str) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path = directory / "rows.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def served_and_vote(events: list[Event]) -> tuple[CompletionServed, RankingSubmitted]:
    served, vote = (event.data for event in events)
    assert isinstance(served, CompletionServed)
    assert isinstance(vote, RankingSubmitted)
    return served, vote


def test_a_ranking_is_a_completion_and_a_vote_on_its_ballot(tmp_path: Path) -> None:
    served, vote = served_and_vote(read_oasst(written(tmp_path, ranking_row([2, 0, 1]))))
    texts = {choice.choice_id: choice.text for choice in served.choices}
    order = [texts[choice_id] for group in vote.tie_groups for choice_id in group]
    assert order == ["reply 1", "reply 2", "reply 0"]
    assert served.prompt is not None
    assert vote.ballot.prompt_hash == served.prompt.prompt_hash
    assert served.prompt.messages is not None
    assert [m.role for m in served.prompt.messages] == ["user", "assistant", "user"]


def test_people_s_texts_claim_no_tokens_and_no_policy(tmp_path: Path) -> None:
    served, _ = served_and_vote(read_oasst(written(tmp_path, ranking_row([0, 1]))))
    assert served.source == "labeler"
    for choice in served.choices:
        assert not choice.is_on_policy
        assert (choice.token_ids, choice.token_logprobs) == ((), None)


def test_equal_ranks_are_tied(tmp_path: Path) -> None:
    _, vote = served_and_vote(read_oasst(written(tmp_path, ranking_row([1, 0, 1]))))
    assert [len(group) for group in vote.tie_groups] == [1, 2]


def test_the_index_of_a_choice_says_nothing_about_its_rank(tmp_path: Path) -> None:
    rows = ranking_row([0, 1, 2])
    backwards = {**rows, "replies": rows["replies"][::-1]}
    first, _ = served_and_vote(read_oasst(written(tmp_path, rows)))
    second, _ = served_and_vote(read_oasst(written(tmp_path, backwards)))
    assert first.choices == second.choices


def test_a_tree_is_never_split(tmp_path: Path) -> None:
    rows = [ranking_row([0, 1], prompt="p1"), ranking_row([1, 0], prompt="p2")]
    events = read_oasst(written(tmp_path, *rows))
    groups = {
        event.data.split_group for event in events if isinstance(event.data, CompletionServed)
    }
    voters = {event.data.voter for event in events if isinstance(event.data, RankingSubmitted)}
    assert len(groups) == len(voters) == 1


def test_a_demonstration_is_one_event(tmp_path: Path) -> None:
    [event] = read_oasst(written(tmp_path, demonstration_row()))
    assert isinstance(event.data, DemonstrationSubmitted)
    assert event.data.completion == "Because."


@given(st.lists(st.integers(0, 4), min_size=2, max_size=9))
def test_reading_twice_gives_the_same_bytes(ranks: list[int]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = written(Path(directory), ranking_row(ranks))
        first, second = read_oasst(path), read_oasst(path)
    assert [encode(event) for event in first] == [encode(event) for event in second]
    assert [decode(encode(event)) for event in first] == first


def test_a_line_separator_inside_a_text_ends_no_line(tmp_path: Path) -> None:
    row = demonstration_row()
    row["response"] = "one\u2028two\x85three"
    [event] = read_oasst(written(tmp_path, row))
    assert isinstance(event.data, DemonstrationSubmitted)
    assert event.data.completion == row["response"]


def without(row: dict[str, Any], key: str) -> dict[str, Any]:
    return {k: v for k, v in row.items() if k != key}


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ("{", "line 2: the line"),
        ("[1]", "line 2: the line"),
        (without(ranking_row([0, 1]), "replies"), "line 2: replies"),
        (without(ranking_row([0, 1]), "tree_id"), "line 2: tree_id"),
        (ranking_row([0]), "line 2: replies"),
        (ranking_row([0, -1]), "line 2: replies.1.rank"),
        ({**ranking_row([0, 1]), "context": [{"role": "assistant", "text": "x"}]}, "prompter"),
        ({**ranking_row([0, 1]), "context": [{"role": "wizard", "text": "x"}]}, "context.0.role"),
    ],
)
def test_a_bad_line_refuses_the_whole_file_and_names_itself(
    tmp_path: Path, bad: dict[str, Any] | str, named: str
) -> None:
    with pytest.raises(ImportRefused) as refusal:
        read_oasst(written(tmp_path, ranking_row([0, 1]), bad))
    assert named in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("content", [None, "", "\n\n"])
def test_an_absent_or_empty_file_is_refused(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "rows.jsonl"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ImportRefused, match="rows.jsonl"):
        read_oasst(path)


@pytest.mark.shared_data
@pytest.mark.skipif(not SHARED.is_dir(), reason="the staged OpenAssistant files are not here")
def test_the_staged_files_hold_212_rankings_with_754_pairs_and_249_demonstrations() -> None:
    votes = [
        event.data
        for event in read_oasst(SHARED / "rankings.jsonl")
        if isinstance(event.data, RankingSubmitted)
    ]
    sizes = [len(vote.ballot.choices) for vote in votes]
    assert len(votes) == 212
    assert sum(k * (k - 1) // 2 for k in sizes) == 754
    assert all(len(vote.tie_groups) == k for vote, k in zip(votes, sizes, strict=True))
    assert len(read_oasst(SHARED / "demonstrations.jsonl")) == 249
