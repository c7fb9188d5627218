"""Events of every past schema version parse for ever, and no field of theirs is lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from feedback.events.codec import decode
from feedback.events.envelope import EVENT_MODELS

GOLDEN_FILES = sorted((Path(__file__).parent / "events").glob("v*/*.json"))


def test_every_event_type_has_a_golden_file() -> None:
    assert {path.stem for path in GOLDEN_FILES} == set(EVENT_MODELS)


@pytest.mark.parametrize("path", GOLDEN_FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_golden_event_parses_and_keeps_every_field(path: Path) -> None:
    payload = path.read_bytes()
    decoded = decode(payload).model_dump(mode="json")
    assert _lost(json.loads(payload), decoded) == []


def _lost(golden: Any, decoded: Any, where: str = "") -> list[str]:
    """Name every golden value that the decoded event does not hold; new fields are fine."""
    if isinstance(golden, dict):
        return [
            lost
            for key, value in golden.items()
            for lost in _lost(value, decoded.get(key, "absent"), f"{where}.{key}")
        ]
    return [] if golden == decoded else [where]
