"""The CloudEvents 1.0 envelope around every event; it does not know how it is stored or sent."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal, TypeAlias

from pydantic import AwareDatetime, field_validator

from feedback.events.ballot import BallotRevealed, BallotSkipped
from feedback.events.completion import CompletionServed
from feedback.events.demonstration import DemonstrationSubmitted
from feedback.events.erasure import SubjectErased
from feedback.events.ranking import RankingRetracted, RankingSubmitted
from feedback.events.rating import RatingSubmitted
from feedback.events.record import WireRecord
from feedback.identifiers import uuid7

SCHEMA_VERSION = 1

EventData: TypeAlias = (
    CompletionServed
    | RankingSubmitted
    | RankingRetracted
    | BallotRevealed
    | BallotSkipped
    | RatingSubmitted
    | DemonstrationSubmitted
    | SubjectErased
)

Order: TypeAlias = tuple[datetime, str]
"""Where an event stands in every fold: server time, then id."""

EVENT_MODELS: dict[str, type[EventData]] = {
    "completion.served": CompletionServed,
    "ranking.submitted": RankingSubmitted,
    "ranking.retracted": RankingRetracted,
    "ballot.revealed": BallotRevealed,
    "ballot.skipped": BallotSkipped,
    "rating.submitted": RatingSubmitted,
    "demonstration.submitted": DemonstrationSubmitted,
    "subject.erased": SubjectErased,
}
_TYPE_OF_MODEL = {model: event_type for event_type, model in EVENT_MODELS.items()}


def schema_uri(event_type: str, version: int = SCHEMA_VERSION) -> str:
    """Return the `dataschema` of an event type, ending in `/<type>/<version>`."""
    return f"urn:instructloop:events/{event_type}/{version}"


class Envelope(WireRecord):
    """CloudEvents attributes (names are CloudEvents'); `partitionkey` is its extension."""

    specversion: Literal["1.0"] = "1.0"
    """CloudEvents version."""
    id: str
    """UUIDv7, or uuid5 of the caller's Idempotency-Key: a duplicate has the same id."""
    source: str
    """Who wrote it, e.g. `instructloop/service`."""
    type: str
    """Event type, e.g. `completion.served`."""
    time: AwareDatetime
    """Server time, UTC."""
    subject: str
    """What it is about: response id, ballot id, demonstration id or pseudonym."""
    datacontenttype: Literal["application/json"] = "application/json"
    """Always JSON."""
    dataschema: str
    """Ends in `/<type>/<schema version>`."""
    partitionkey: str
    """Kafka key: events that share it keep their order."""

    @field_validator("time")
    @classmethod
    def _in_utc(cls, time: datetime) -> datetime:
        return time.astimezone(UTC)


class Event(Envelope):
    """An event with its data."""

    data: EventData
    """What happened."""

    @property
    def order(self) -> Order:
        """Where the event stands in every fold: by server time, then id."""
        return (self.time, self.id)


def new_event(
    data: EventData, *, source: str, key: str | None = None, time: datetime | None = None
) -> Event:
    """Wrap `data` in an envelope.

    Args:
        data: what happened.
        source: who writes it, e.g. `instructloop/service`.
        key: the event id for a retried request (`identifiers.idempotent_id`); a new UUIDv7 if None.
        time: server time; now if None.
    """
    event_type = _TYPE_OF_MODEL[type(data)]
    subject = _subject(data)
    return Event(
        id=key if key is not None else uuid7(),
        source=source,
        type=event_type,
        time=time if time is not None else datetime.now(UTC),
        subject=subject,
        dataschema=schema_uri(event_type),
        partitionkey=subject,
        data=data,
    )


def _subject(data: EventData) -> str:
    match data:
        case CompletionServed() | RatingSubmitted():
            return data.response_id
        case RankingSubmitted() | BallotSkipped():
            return data.ballot.ballot_id
        case RankingRetracted() | BallotRevealed():
            return data.ballot_id
        case DemonstrationSubmitted():
            return data.demonstration_id
        case SubjectErased():
            return data.pseudonym
