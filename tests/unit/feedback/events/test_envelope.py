"""The envelope is CloudEvents 1.0 and orders every fold."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from pydantic import ValidationError

from feedback.events.envelope import EVENT_MODELS, Event, new_event
from feedback.events.erasure import SubjectErased
from feedback.events.examples import example_events


def test_time_is_kept_in_utc_whatever_zone_it_was_given_in() -> None:
    noon = datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    event = new_event(SubjectErased(pseudonym="p"), source="test", time=noon)
    assert event.time.utcoffset() == timedelta(0)
    assert event.time == noon


def test_a_time_without_zone_is_refused() -> None:
    document = example_events()["subject.erased"].model_dump()
    with pytest.raises(ValidationError, match="timezone"):
        Event.model_validate({**document, "time": "2026-01-01T00:00:00"})


def test_a_key_becomes_the_id_and_no_key_gives_a_fresh_one() -> None:
    data = SubjectErased(pseudonym="p")
    assert new_event(data, source="test", key="mine").id == "mine"
    assert new_event(data, source="test").id != new_event(data, source="test").id


@pytest.mark.parametrize("event_type", EVENT_MODELS)
def test_type_and_schema_name_the_data(event_type: str) -> None:
    event = example_events()[event_type]
    assert event.type == event_type
    assert isinstance(event.data, EVENT_MODELS[event_type])
    assert event.dataschema.endswith(f"/{event_type}/1")
    assert event.partitionkey == event.subject


def test_events_are_frozen() -> None:
    event = new_event(SubjectErased(pseudonym="p"), source="test", time=datetime.now(UTC))
    with pytest.raises(ValidationError, match="frozen"):
        event.id = "other"  # type: ignore[misc]
