"""What must not train is left out under its own name; what may train arrives unchanged."""

from dataclasses import replace
from typing import Any

import pytest

from feedback.events.prompt import ChatMessage, Prompt, hash_prompt
from feedback.fold import fold
from feedback.snapshot_selection import Eligibility, prompt_row, ranking_row, select
from feedback.splits import plan_splits

TOKENIZER = "fedcba9876543210" * 4
PLAIN = Eligibility(is_simulated=False, tokenizer_hash=TOKENIZER)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"source": "eval"}, "eval_traffic"),
        ({"source": "canary"}, "canary_traffic"),
        ({"source": "simulated"}, "simulated_traffic"),
        ({"tokenizer_hash": "another"}, "tokenizer_mismatch"),
        ({"texts": ("only one",)}, "single_choice"),
        ({"consent": False}, "no_consent"),
        ({"choice_changes": {"delivery": "aborted", "stop_reason": "aborted"}}, "aborted"),
    ],
)
def test_a_vote_that_must_not_train_is_left_out_by_its_reason(
    traffic: Any, changes: dict[str, Any], reason: str
) -> None:
    completion = traffic.serve("a prompt", **changes)
    traffic.vote(completion, [[choice.index for choice in completion.choices]], "bob")
    selection = select(fold(traffic.events), PLAIN)
    assert selection.votes == []
    assert selection.excluded_votes == {reason: 1}


@pytest.mark.parametrize("source", ["api", "chat", "labeler", "playground"])
def test_people_s_traffic_trains(traffic: Any, source: str) -> None:
    traffic.vote(traffic.serve("a prompt", source=source), [[0], [1], [2]], "bob")
    selection = select(fold(traffic.events), PLAIN)
    assert len(selection.votes) == len(selection.completions) == 1


def test_simulated_traffic_trains_where_the_data_directory_is_marked(traffic: Any) -> None:
    traffic.vote(traffic.serve("a prompt", source="simulated"), [[0], [1], [2]], "bob")
    traffic.demonstrate("another", "answer", source="simulated")
    projection = fold(traffic.events)
    marked = select(projection, replace(PLAIN, is_simulated=True))
    assert (len(marked.votes), len(marked.demonstrations), len(marked.completions)) == (1, 1, 1)
    plain = select(projection, PLAIN)
    assert (plain.votes, plain.demonstrations, plain.completions) == ([], [], [])
    assert plain.excluded_demonstrations == {"simulated_traffic": 1}


@pytest.mark.parametrize("source", ["eval", "canary"])
def test_evaluation_never_trains_even_where_marked_as_simulated(traffic: Any, source: str) -> None:
    traffic.vote(traffic.serve("a prompt", source=source), [[0], [1], [2]], "bob")
    selection = select(fold(traffic.events), replace(PLAIN, is_simulated=True))
    assert (selection.votes, selection.completions) == ([], [])


def test_imported_text_has_no_ids_and_so_no_tokenizer_to_mismatch(traffic: Any) -> None:
    completion = traffic.serve(
        "a prompt",
        token_ids=(),
        tokenizer_hash="",
        choice_changes={"token_ids": (), "token_logprobs": None, "num_visible_tokens": 0},
    )
    traffic.vote(completion, [[0], [1], [2]], "bob")
    assert len(select(fold(traffic.events), PLAIN).votes) == 1


def test_a_prompt_served_often_is_one_prompt(traffic: Any) -> None:
    for user in ("ann", "bob", "cid"):
        traffic.serve("the same", user=user)
    traffic.serve("another")
    selection = select(fold(traffic.events), PLAIN)
    texts = sorted(c.data.prompt.text for c in selection.completions if c.data.prompt)
    assert texts == ["another", "the same"]
    smallest = min(event.id for event in traffic.events[:3])
    assert smallest in {recorded.event_id for recorded in selection.completions}


def test_a_person_is_known_by_the_split_group_whose_key_never_rotates(traffic: Any) -> None:
    traffic.serve("a prompt", user="pseudonym", split_group="group")
    uses = select(fold(traffic.events), PLAIN).prompt_uses()
    assert {use.author for use in uses} == {"group"}


def test_a_chat_prompt_keeps_its_messages_and_its_conversation(traffic: Any) -> None:
    messages = (ChatMessage(role="user", content="Hi"), ChatMessage(role="assistant", content="Yo"))
    prompt = Prompt(
        format="chat",
        text="User: Hi",
        messages=messages,
        prompt_hash=hash_prompt(messages=messages),
    )
    completion = traffic.serve("ignored", prompt=prompt, conversation_id="tree-1")
    traffic.vote(completion, [[0], [1], [2]], "bob")
    raw = traffic.serve("a raw prompt")
    traffic.vote(raw, [[0], [1], [2]], "bob")
    selection = select(fold(traffic.events), PLAIN)
    plan = plan_splits(selection.prompt_uses(), {"train": 1.0}, seed=0)
    expected = (("user", "Hi"), ("assistant", "Yo"))
    by_hash = {v.ranking.ballot.prompt_hash: ranking_row(v, plan) for v in selection.votes}
    chat, plain = by_hash[prompt.prompt_hash], by_hash[raw.prompt.prompt_hash]
    assert (chat.prompt_messages, chat.conversation_id) == (expected, "tree-1")
    assert (plain.prompt_messages, plain.conversation_id) == (None, None)
    prompts = [prompt_row(recorded, plan) for recorded in selection.completions]
    assert {row.prompt_hash: row.prompt_messages for row in prompts} == {
        chat.prompt_hash: expected,
        plain.prompt_hash: None,
    }
