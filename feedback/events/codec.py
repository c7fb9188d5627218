"""Events to bytes and back; it does not know where the bytes lie."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json

from feedback.events.completion import Choice, CompletionServed
from feedback.events.envelope import EVENT_MODELS, SCHEMA_VERSION, Event

MESSAGE_LIMIT_BYTES = 8 * 1024 * 1024


class MalformedEvent(ValueError):
    """These bytes are no event of a known version: they belong into the dead letters."""


class UnknownVersion(ValueError):
    """A newer writer made this event: park it and decode it again after an upgrade."""


def encode(event: Event) -> bytes:
    """Return the event as CloudEvents JSON (structured mode), UTF-8."""
    return event.model_dump_json().encode()


def decode(payload: bytes) -> Event:
    """Read one event.

    Raises:
        UnknownVersion: the type or schema version is newer than this reader.
        MalformedEvent: the bytes are no valid event; the message says why, without any text of it.
    """
    document = _parse(payload)
    event_type = _require_text(document, "type")
    version = _version(_require_text(document, "dataschema"), event_type)
    if event_type not in EVENT_MODELS or version != SCHEMA_VERSION:
        raise UnknownVersion(
            f"event type {event_type!r} version {version} is not known to this release: "
            "it is parked until an upgrade"
        )
    try:
        data = EVENT_MODELS[event_type].model_validate(document.get("data"))
        return Event.model_validate({**document, "data": data})
    except ValidationError as error:
        raise MalformedEvent(_describe(error)) from error


def fit_to_limit(event: Event, limit_bytes: int = MESSAGE_LIMIT_BYTES) -> tuple[Event, bool]:
    """Return the event within the message limit, and whether its texts had to go.

    A completion that is too large first loses its log-probabilities; if that is not enough it
    loses prompt and choices, is marked `truncated`, and must get no ballot.

    Raises:
        ValueError: an event of another type is too large; nothing in it may be dropped silently.
    """
    size_bytes = len(encode(event))
    if size_bytes <= limit_bytes:
        return event, False
    if not isinstance(event.data, CompletionServed):
        raise ValueError(
            f"{event.type} has {size_bytes} bytes, over the limit of {limit_bytes}: "
            "shorten its texts"
        )
    lighter = _with_data(event, _without_logprobs(event.data))
    if len(encode(lighter)) <= limit_bytes:
        return lighter, False
    bare = event.data.model_copy(update={"prompt": None, "choices": (), "truncated": True})
    return _with_data(event, bare), True


def _without_logprobs(data: CompletionServed) -> CompletionServed:
    def strip(choice: Choice) -> Choice:
        return choice.model_copy(update={"token_logprobs": None})

    return data.model_copy(update={"choices": tuple(strip(choice) for choice in data.choices)})


def _with_data(event: Event, data: CompletionServed) -> Event:
    return event.model_copy(update={"data": data})


def _parse(payload: bytes) -> dict[str, Any]:
    try:
        document = from_json(payload)
    except ValueError as error:
        raise MalformedEvent(f"not JSON: {error}") from error
    if not isinstance(document, dict):
        raise MalformedEvent("not a JSON object")
    return document


def _require_text(document: dict[str, Any], name: str) -> str:
    value = document.get(name)
    if not isinstance(value, str):
        raise MalformedEvent(f"{name}: missing or not text")
    return value


def _version(dataschema: str, event_type: str) -> int:
    head, _, version = dataschema.rpartition("/")
    if not version.isdecimal() or head.rpartition("/")[2] != event_type:
        raise MalformedEvent(f"dataschema: does not end in '/{event_type}/<version>'")
    return int(version)


def _describe(error: ValidationError) -> str:
    """Name the field and the fault; never the value: it may be somebody's text."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    field = ".".join(str(part) for part in first["loc"])
    return f"{field or 'event'}: {first['msg']}"
