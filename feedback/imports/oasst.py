"""Read OpenAssistant rankings and demonstrations as events; does not know where events go.

Limits of the source, kept visible in the events:

* Texts were written by people and by other models. There are no token ids and no
  log-probabilities (the trainer tokenises them), and nothing is on-policy.
* A rank is the consensus of several labelers whom the data does not name. The voter of a ranking
  is therefore its message tree; labelers of two trees may be the same people.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from feedback.events.ballot import BallotChoice, BallotClaims
from feedback.events.completion import (
    BaseIdentity,
    Choice,
    CompletionServed,
    Consent,
    EngineIdentity,
    Latency,
    SamplingParameters,
    Usage,
)
from feedback.events.demonstration import DemonstrationSubmitted
from feedback.events.envelope import Event, EventData, new_event
from feedback.events.prompt import ChatMessage, Prompt, hash_prompt
from feedback.events.ranking import RankingSubmitted
from feedback.identifiers import idempotent_id, vote_id

EVENT_SOURCE = "instructloop/import/oasst"
WRITER_ID = "import-oasst"  # stands where an adapter's id stands: no adapter of ours wrote the text

# One fixed time (the release of the data set), so that a second import writes the same bytes.
SERVED_AT = datetime(2023, 4, 15, tzinfo=UTC)
VOTED_AT = SERVED_AT + timedelta(seconds=1)
EXPIRES_AT = SERVED_AT + timedelta(days=1)

_CONSENT = Consent(log=True, train=True)  # published under Apache-2.0 for training
_ROLES = {"prompter": "user", "assistant": "assistant"}


class ImportRefused(ValueError):
    """A line of the file is not what the format promises; nothing was imported."""


class _Row(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _Turn(_Row):
    role: Literal["prompter", "assistant"]
    text: str = Field(min_length=1)


class _Reply(_Row):
    message_id: str = Field(min_length=1)
    text: str = Field(min_length=1)
    rank: int = Field(ge=0)


class _Task(_Row):
    tree_id: str = Field(min_length=1)
    prompt_message_id: str = Field(min_length=1)
    context: tuple[_Turn, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _asks_something(self) -> _Task:
        if self.context[-1].role != "prompter":
            raise ValueError("context must end with a prompter's turn")
        return self


class _Ranking(_Task):
    replies: tuple[_Reply, ...] = Field(min_length=2)

    @model_validator(mode="after")
    def _names_replies_once(self) -> _Ranking:
        if len({reply.message_id for reply in self.replies}) != len(self.replies):
            raise ValueError("replies must have distinct message_id")
        return self


class _Demonstration(_Task):
    response: str = Field(min_length=1)


class _AnyRow(BaseModel):
    """Tells the two files apart by the field that only one of them has."""

    model_config = ConfigDict(extra="allow")
    replies: object = None
    response: object = None


def read_oasst(path: Path) -> list[Event]:
    """Read a whole `rankings.jsonl` or `demonstrations.jsonl`, before anything is written.

    A ranking becomes `completion.served` and `ranking.submitted`, a demonstration one event. Ids
    are derived from the source's, so reading twice gives equal events.

    Raises:
        ImportRefused: the file is missing or empty, or a line is wrong; names line and field.
    """
    try:
        # Not splitlines(): U+2028 may stand inside a JSON string and ends no line.
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ImportRefused(f"{path} cannot be read: {error}; give a JSON-lines file") from error
    events: list[Event] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            events.extend(_events_of_line(line))
        except ValidationError as error:
            raise ImportRefused(f"{path}, line {number}: {_describe(error)}") from error
    if not events:
        raise ImportRefused(f"{path} holds no line to import; give a file with one JSON per line")
    return events


def _events_of_line(line: str) -> Iterator[Event]:
    kind = _AnyRow.model_validate_json(line)
    if kind.response is not None and kind.replies is None:
        yield _demonstration(_Demonstration.model_validate_json(line))
    else:
        yield from _ranking(_Ranking.model_validate_json(line))


def _ranking(row: _Ranking) -> Iterator[Event]:
    completion = _completion(row)
    yield _event(completion, "completion", row.prompt_message_id, SERVED_AT)
    yield _event(_vote(row, completion), "ranking", row.prompt_message_id, VOTED_AT)


def _completion(row: _Ranking) -> CompletionServed:
    group = _tree_name(row)
    # The file lists replies best first; by message id, an index says nothing about the rank.
    replies = sorted(row.replies, key=lambda reply: reply.message_id)
    return CompletionServed(
        response_id=f"cmpl-oasst-{row.prompt_message_id}",
        conversation_id=group,
        turn=len(row.context) // 2,
        user=group,
        split_group=group,
        source="labeler",
        prompt=_prompt(row),
        sampling=SamplingParameters(n=len(replies)),
        base=BaseIdentity(base_id=WRITER_ID, weights_hash="", tokenizer_hash=""),
        choices=tuple(_choice(reply, index) for index, reply in enumerate(replies)),
        usage=Usage(prompt_tokens=0, completion_tokens=0),
        engine=EngineIdentity(name="import", version="", dtype=""),
        latency=Latency(total_s=0.0),
        consent=_CONSENT,
    )


def _choice(reply: _Reply, index: int) -> Choice:
    return Choice(
        choice_id=_choice_id(reply),
        index=index,
        adapter_id=WRITER_ID,
        text=reply.text,
        is_on_policy=False,
        stop_reason="eos",
    )


def _vote(row: _Ranking, completion: CompletionServed) -> RankingSubmitted:
    assert completion.prompt is not None
    group = _tree_name(row)
    ballot_id = f"ballot-oasst-{row.prompt_message_id}"
    choices = tuple(
        BallotChoice(
            choice_id=choice.choice_id,
            adapter_id=choice.adapter_id,
            index=choice.index,
            response_id=completion.response_id,
        )
        for choice in completion.choices
    )
    claims = BallotClaims(
        ballot_id=ballot_id,
        response_ids=(completion.response_id,),
        prompt_hash=completion.prompt.prompt_hash,
        choices=choices,
        shown_order=tuple(choice.choice_id for choice in choices),
        voter=group,
        voter_role="labeler",
        split_group=group,
        issued_at=SERVED_AT,
        expires_at=EXPIRES_AT,
    )
    return RankingSubmitted(
        vote_id=vote_id(ballot_id, group),
        ballot=claims,
        voter=group,
        voter_role="labeler",
        tie_groups=_tie_groups(row.replies),
    )


def _tie_groups(replies: tuple[_Reply, ...]) -> tuple[tuple[str, ...], ...]:
    """Return choice ids, best rank (0) first; equal ranks are tied."""
    ordered = sorted(replies, key=lambda reply: (reply.rank, reply.message_id))
    groups = groupby(ordered, key=lambda reply: reply.rank)
    return tuple(tuple(_choice_id(reply) for reply in group) for _, group in groups)


def _demonstration(row: _Demonstration) -> Event:
    group = _tree_name(row)
    demonstration = DemonstrationSubmitted(
        demonstration_id=f"demonstration-oasst-{row.prompt_message_id}",
        prompt=_prompt(row),
        completion=row.response,
        author=group,
        author_role="labeler",
        split_group=group,
        source="labeler",
        consent=_CONSENT,
    )
    return _event(demonstration, "demonstration", row.prompt_message_id, SERVED_AT)


def _prompt(row: _Task) -> Prompt:
    messages = tuple(ChatMessage(role=_ROLES[turn.role], content=turn.text) for turn in row.context)
    # The template belongs to a model, which an import does not have: a plain transcript instead.
    turns = [f"{message.role.capitalize()}: {message.content}" for message in messages]
    return Prompt(
        format="chat",
        text="\n\n".join([*turns, "Assistant:"]),
        messages=messages,
        prompt_hash=hash_prompt(messages=messages),
    )


def _event(data: EventData, kind: str, message_id: str, time: datetime) -> Event:
    key = idempotent_id(f"{kind}/{message_id}", scope=WRITER_ID)
    return new_event(data, source=EVENT_SOURCE, key=key, time=time)


def _tree_name(row: _Task) -> str:
    return f"oasst-tree-{row.tree_id}"


def _choice_id(reply: _Reply) -> str:
    return f"choice-oasst-{reply.message_id}"


def _describe(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    field = ".".join(str(part) for part in first["loc"])
    return f"{field or 'the line'}: {first['msg']}"
