"""Store a snapshot as Parquet files beside its manifest and read it back equal.

It does not know how rows were chosen.
"""

import re
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from feedback.canonical_json import readable_json
from feedback.durable_files import move_directory, new_staging_directory
from feedback.snapshot_rows import (
    DemonstrationRow,
    PromptRow,
    RankedChoice,
    RankingRow,
    Snapshot,
    SnapshotManifest,
    snapshot_id,
)

MANIFEST_NAME = "manifest.json"
DEMONSTRATIONS_NAME = "demonstrations.parquet"
RANKINGS_NAME = "rankings.parquet"
PROMPTS_NAME = "prompts.parquet"

_SNAPSHOT_ID = re.compile(r"snapshot-[0-9a-f]{16}")

_TEXT = pa.string()
_TOKEN_IDS = pa.list_(pa.int32())
_PROMPT_FIELDS = [
    ("event_id", _TEXT),
    ("prompt_hash", _TEXT),
    ("prompt_text", _TEXT),
    ("prompt_messages", pa.list_(pa.list_(_TEXT))),
    ("use_case", _TEXT),
    ("source", _TEXT),
    ("split", _TEXT),
]
_CHOICE = pa.struct(
    [
        ("choice_id", _TEXT),
        ("adapter_id", _TEXT),
        ("text", _TEXT),
        ("token_ids", _TOKEN_IDS),
        ("token_logprobs", pa.list_(pa.float64())),
        ("logprobs_kind", _TEXT),
        ("is_on_policy", pa.bool_()),
        ("stop_reason", _TEXT),
        ("num_visible_tokens", pa.int32()),
    ]
)
_SCHEMAS = {
    DEMONSTRATIONS_NAME: pa.schema(
        [
            *_PROMPT_FIELDS,
            ("completion_text", _TEXT),
            ("kind", _TEXT),
        ]
    ),
    RANKINGS_NAME: pa.schema(
        [
            *_PROMPT_FIELDS,
            ("vote_id", _TEXT),
            ("ballot_id", _TEXT),
            ("conversation_id", _TEXT),
            ("prompt_token_ids", _TOKEN_IDS),
            ("choices", pa.list_(_CHOICE)),
            ("tie_groups", pa.list_(pa.list_(pa.int32()))),
            ("voter", _TEXT),
            ("voter_role", _TEXT),
        ]
    ),
    PROMPTS_NAME: pa.schema([*_PROMPT_FIELDS, ("prompt_token_ids", _TOKEN_IDS)]),
}

Row = DemonstrationRow | RankingRow | PromptRow


def snapshot_path(data_dir: Path, name: str) -> Path:
    """Return where a snapshot lies.

    Raises ValueError for anything but a snapshot id, before it becomes a path.
    """
    if not _SNAPSHOT_ID.fullmatch(name):
        raise ValueError(f"{name!r} is no snapshot id; it reads snapshot-<16 hex digits>.")
    return data_dir / "snapshots" / name


def write_snapshot(snapshot: Snapshot, data_dir: Path) -> Path:
    """Write snapshots/<id>/ whole and return it; an id that exists is left as it is."""
    target = snapshot_path(data_dir, snapshot.id)
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = new_staging_directory(data_dir / "incoming")
    try:
        _write_table(staging / DEMONSTRATIONS_NAME, snapshot.demonstrations)
        _write_table(staging / RANKINGS_NAME, snapshot.rankings)
        _write_table(staging / PROMPTS_NAME, snapshot.prompts)
        manifest = readable_json(snapshot.manifest.model_dump(mode="json"))
        (staging / MANIFEST_NAME).write_bytes(manifest)
        move_directory(staging, target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return target


def load_manifest(path: Path) -> SnapshotManifest:
    """Read the manifest of a snapshot's directory, without its rows.

    Raises ValueError when it is no snapshot.
    """
    if not (path / MANIFEST_NAME).is_file():
        raise ValueError(f"{path.name} is no snapshot: it has no {MANIFEST_NAME}; build it again.")
    return SnapshotManifest.model_validate_json((path / MANIFEST_NAME).read_bytes())


def load_snapshot(path: Path) -> Snapshot:
    """Read a snapshot's directory.

    Raises ValueError when it is no snapshot or its rows are not those that its id names.
    """
    manifest = load_manifest(path)
    snapshot = Snapshot(
        manifest=manifest,
        demonstrations=tuple(DemonstrationRow(**row) for row in _read(path / DEMONSTRATIONS_NAME)),
        rankings=tuple(_ranking(row) for row in _read(path / RANKINGS_NAME)),
        prompts=tuple(PromptRow(**row) for row in _read(path / PROMPTS_NAME)),
    )
    actual = snapshot_id(
        snapshot.demonstrations,
        snapshot.rankings,
        snapshot.prompts,
        is_placebo=manifest.placebo,
    )
    if actual != manifest.id:
        raise ValueError(
            f"The rows of {manifest.id} hash to {actual}: they were altered; remove the snapshot"
            " and build it again."
        )
    return snapshot


def _write_table(path: Path, rows: Sequence[Row]) -> None:
    table = pa.Table.from_pylist([asdict(row) for row in rows], schema=_SCHEMAS[path.name])
    pq.write_table(table, path, compression="zstd")


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        # Not read_table: it would take columns from the names of parent directories.
        records = pq.ParquetFile(path).read().to_pylist()
    except (OSError, pa.ArrowInvalid) as error:
        message = f"{path.parent.name}/{path.name} cannot be read ({error}); build it again."
        raise ValueError(message) from error
    return [{name: _frozen(value) for name, value in record.items()} for record in records]


def _ranking(record: dict[str, Any]) -> RankingRow:
    choices = tuple(
        RankedChoice(**{name: _frozen(value) for name, value in choice.items()})
        for choice in record.pop("choices")
    )
    return RankingRow(**record, choices=choices)


def _frozen(value: Any) -> Any:
    """Turn lists into tuples, at every depth."""
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value
