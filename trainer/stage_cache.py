"""Remember which adapter came of which inputs, so that a killed or repeated refresh goes on.

It does not know what stages do. A stage's fingerprint covers its settings, seed, data and parents;
equal inputs give the equal adapter (DESIGN 4.6), so a finished stage never runs again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from feedback.canonical_json import digest, readable_json
from feedback.durable_files import replace_file


@dataclass(frozen=True, slots=True)
class StageResult:
    """What a stage published and what it measured."""

    adapter_id: str
    figures: dict[str, Any]


class StageCache:
    """Results of finished stages, one small file each, under DATA_DIR/work/stages/."""

    def __init__(self, data_dir: Path) -> None:
        self._root = data_dir / "work" / "stages"

    def find(self, fingerprint: str) -> StageResult | None:
        """Return the result of a finished stage, None if it has not finished."""
        path = self._path(fingerprint)
        return StageResult(**json.loads(path.read_bytes())) if path.is_file() else None

    def keep(self, fingerprint: str, result: StageResult) -> None:
        """Remember a result durably."""
        replace_file(self._path(fingerprint), readable_json(asdict(result)))

    def _path(self, fingerprint: str) -> Path:
        return self._root / f"{fingerprint}.json"


def fingerprint(identity: Mapping[str, Any]) -> str:
    """Return the name of all that decides a stage's result: 64 hex digits."""
    return digest(identity)
