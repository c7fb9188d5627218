"""The exported schemas are those of the models: a change without an export fails here."""

from __future__ import annotations

import json
from pathlib import Path

import feedback
from feedback.events.envelope import EVENT_MODELS
from feedback.schema_export import event_schema, export

COMMITTED = Path(feedback.__file__).parent / "schemas"


def test_committed_schemas_are_up_to_date(tmp_path: Path) -> None:
    """If this fails a field changed: think of old readers, then `instructloop schema export`."""
    exported = {path.name: path.read_text() for path in export(tmp_path)}
    committed = {path.name: path.read_text() for path in COMMITTED.glob("*.json")}
    assert exported == committed


def test_every_schema_shows_an_example_of_its_own_type() -> None:
    for event_type in EVENT_MODELS:
        schema = event_schema(event_type)
        assert schema["properties"]["type"]["const"] == event_type
        assert schema["examples"][0]["type"] == event_type
        json.dumps(schema)
