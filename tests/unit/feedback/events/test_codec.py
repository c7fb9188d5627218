"""Events survive the wire; what is no event is refused with a reason that quotes no text."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback.events.codec import (
    MESSAGE_LIMIT_BYTES,
    MalformedEvent,
    UnknownVersion,
    decode,
    encode,
    fit_to_limit,
)
from feedback.events.completion import CompletionServed
from feedback.events.envelope import EVENT_MODELS, Event, new_event
from feedback.events.examples import example_events
from feedback.events.ranking import RankingSubmitted

EXAMPLES = example_events()


def _document(event_type: str) -> dict[str, object]:
    document: dict[str, object] = json.loads(encode(EXAMPLES[event_type]))
    return document


@pytest.mark.parametrize("event_type", EVENT_MODELS)
def test_every_event_type_comes_back_equal(event_type: str) -> None:
    assert decode(encode(EXAMPLES[event_type])) == EXAMPLES[event_type]


@given(text=st.text(), logprobs=st.lists(st.floats(allow_nan=False, allow_infinity=False)))
def test_texts_and_logprobs_come_back_exactly(text: str, logprobs: list[float]) -> None:
    completion = EXAMPLES["completion.served"].data
    assert isinstance(completion, CompletionServed)
    choice = completion.choices[0].model_copy(
        update={
            "text": text,
            "token_ids": tuple(range(len(logprobs))),
            "token_logprobs": tuple(logprobs),
            "num_visible_tokens": 0,
        }
    )
    event = new_event(completion.model_copy(update={"choices": (choice,)}), source="test")
    assert decode(encode(event)) == event


def test_fields_of_a_newer_writer_are_tolerated() -> None:
    document = _document("subject.erased")
    document["traceparent"] = "00-abc"
    document["data"] = {"pseudonym": "p", "reason": "", "ticket": 12}
    assert decode(json.dumps(document).encode()).data == EXAMPLES["subject.erased"].data.model_copy(
        update={"pseudonym": "p", "reason": ""}
    )


@pytest.mark.parametrize(
    ("type_and_schema", "named"),
    [
        (("ranking.submitted", "urn:instructloop:events/ranking.submitted/2"), "version 2"),
        (("ranking.weighed", "urn:instructloop:events/ranking.weighed/1"), "ranking.weighed"),
    ],
)
def test_a_newer_type_or_version_is_parked_not_dead(
    type_and_schema: tuple[str, str], named: str
) -> None:
    document = _document("ranking.submitted")
    document["type"], document["dataschema"] = type_and_schema
    with pytest.raises(UnknownVersion, match=named):
        decode(json.dumps(document).encode())


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[1]", "not a JSON object"),
        (b"{}", "type: missing"),
        (b'{"type": "subject.erased"}', "dataschema: missing"),
        (b'{"type": "subject.erased", "dataschema": "x/other/1"}', "dataschema: does not end"),
        (b'{"type": "subject.erased", "dataschema": "x/subject.erased/1"}', "event: "),
    ],
)
def test_what_is_no_event_is_refused_with_the_field_named(payload: bytes, reason: str) -> None:
    with pytest.raises(MalformedEvent, match=reason):
        decode(payload)


def test_the_reason_never_quotes_somebodys_text() -> None:
    document = _document("demonstration.submitted")
    document["data"]["completion"] = ["a private sentence"]  # type: ignore[index]
    with pytest.raises(MalformedEvent) as refused:
        decode(json.dumps(document).encode())
    assert "completion" in str(refused.value)
    assert "private" not in str(refused.value)


def test_an_event_within_the_limit_is_left_alone() -> None:
    event = EXAMPLES["completion.served"]
    assert fit_to_limit(event) == (event, False)


def test_a_large_completion_loses_its_logprobs_and_nothing_else() -> None:
    event = EXAMPLES["completion.served"]
    fitted, is_truncated = fit_to_limit(event, len(encode(event)) - 1)
    assert not is_truncated
    assert isinstance(fitted.data, CompletionServed)
    assert isinstance(event.data, CompletionServed)
    assert all(choice.token_logprobs is None for choice in fitted.data.choices)
    assert [choice.text for choice in fitted.data.choices] == [
        choice.text for choice in event.data.choices
    ]
    assert decode(encode(fitted)) == fitted


def test_a_completion_too_large_even_so_is_marked_truncated_and_fits() -> None:
    event = _with_long_text(EXAMPLES["completion.served"], MESSAGE_LIMIT_BYTES)
    fitted, is_truncated = fit_to_limit(event)
    assert is_truncated
    assert isinstance(fitted.data, CompletionServed)
    assert fitted.data.truncated
    assert fitted.data.usage == event.data.usage  # type: ignore[union-attr]
    assert len(encode(fitted)) <= MESSAGE_LIMIT_BYTES
    assert decode(encode(fitted)) == fitted


def test_a_vote_too_large_is_refused_not_cut() -> None:
    ranking = EXAMPLES["ranking.submitted"].data
    assert isinstance(ranking, RankingSubmitted)
    event = new_event(ranking.model_copy(update={"rationale": "x" * 3000}), source="test")
    with pytest.raises(ValueError, match=r"ranking\.submitted has .* over the limit of 2000"):
        fit_to_limit(event, 2000)


def _with_long_text(event: Event, length: int) -> Event:
    completion = event.data
    assert isinstance(completion, CompletionServed)
    choice = completion.choices[0].model_copy(update={"text": "x" * length})
    return new_event(completion.model_copy(update={"choices": (choice,)}), source="test")
