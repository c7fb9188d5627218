"""Writes the JSON Schema of every event type; it does not know where events go."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import create_model

from feedback.events.envelope import EVENT_MODELS, SCHEMA_VERSION, Envelope, schema_uri
from feedback.events.examples import example_events


def export(directory: Path) -> list[Path]:
    """Write one `<type>.<version>.json` per event type and return the paths, sorted."""
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for event_type in sorted(EVENT_MODELS):
        path = directory / f"{event_type}.{SCHEMA_VERSION}.json"
        path.write_text(json.dumps(event_schema(event_type), indent=2, ensure_ascii=False) + "\n")
        written.append(path)
    return written


def event_schema(event_type: str) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of an event as it is written, with a filled example."""
    data_model = EVENT_MODELS[event_type]
    fields: dict[str, Any] = {"type": (Literal[event_type], ...), "data": (data_model, ...)}
    event_model = create_model(
        f"{data_model.__name__}Event", __base__=Envelope, __doc__=data_model.__doc__, **fields
    )
    schema = event_model.model_json_schema(mode="serialization")
    example = example_events()[event_type].model_dump(mode="json")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": schema_uri(event_type),
        **schema,
        "examples": [example],
    }
