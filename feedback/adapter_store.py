"""Publish adapters under their content's hash, atomically; knows no channel and no engine."""

import shutil
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from feedback import adapter_files
from feedback.adapter_files import (
    ADAPTER_KINDS,
    CONFIG_NAME,
    HEAD_NAME,
    MANIFEST_NAME,
    SCORING_KINDS,
    WEIGHTS_NAME,
    AdapterFiles,
    AdapterKind,
    AdapterManifest,
    AdapterRefused,
)
from feedback.adapter_validation import verify_content
from feedback.canonical_json import readable_json
from feedback.durable_files import move_directory, new_staging_directory, remove_stale_entries

_STALE_STAGING_S = 24 * 3600.0


class AdapterStore:
    """The directory adapters/ of one data directory, and incoming/ where they are built."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir

    @property
    def incoming_directory(self) -> Path:
        """Where things are built aside, on the same file system as their final place."""
        return self.data_dir / "incoming"

    def publish(
        self, kind: AdapterKind, build: Callable[[Path], None], manifest: AdapterManifest
    ) -> str:
        """Let `build` write the adapter into an empty directory and publish it; return its id.

        The same content gets the same id however often, and by however many at once, it is
        published; the first manifest stays. A crash leaves nothing under adapters/.

        Raises AdapterRefused when files are missing, damaged, not safetensors or do not belong.
        """
        if kind not in ADAPTER_KINDS:
            raise ValueError(f"kind {kind!r} is unknown; use one of {', '.join(ADAPTER_KINDS)}.")
        remove_stale_entries(self.incoming_directory, _STALE_STAGING_S)
        staging = new_staging_directory(self.incoming_directory)
        try:
            build(staging)
            adapter_id = _finish(kind, staging, manifest)
            if not move_directory(staging, self._path(adapter_id)):
                self.verify(adapter_id)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        return adapter_id

    def adapter(self, adapter_id: str) -> AdapterFiles:
        """Return a published adapter.

        Raises AdapterRefused (unknown_adapter) for an id that is malformed or not published.
        """
        path = self._path(adapter_id)
        if not path.is_dir():
            message = f"{adapter_id} is not published here; publish it, or name another adapter."
            raise AdapterRefused("unknown_adapter", message)
        return AdapterFiles(
            adapter_id=adapter_id,
            kind=adapter_files.kind_of(adapter_id),
            path=path,
            config=adapter_files.read_config(path),
            manifest=_read_manifest(path),
        )

    def verify(self, adapter_id: str) -> None:
        """Rehash a published adapter.

        Raises AdapterRefused: hash_mismatch, or why the files cannot be read.
        """
        verify_content(self.adapter(adapter_id))

    def list_adapters(self) -> list[str]:
        """Return the ids of all published adapters, sorted."""
        names = (path.name for path in (self.data_dir / "adapters").iterdir())
        return sorted(name for name in names if adapter_files.is_adapter_id(name))

    def _path(self, adapter_id: str) -> Path:
        adapter_files.kind_of(adapter_id)  # refuses anything that is not an id before it is a path
        return self.data_dir / "adapters" / adapter_id


def _finish(kind: AdapterKind, staging: Path, manifest: AdapterManifest) -> str:
    """Bring what was built into its one form, add the manifest and return the id."""
    _keep_only_adapter_files(kind, staging)
    config = adapter_files.canonical_config(
        adapter_files.read_config(staging), manifest.base_id, manifest.weights_hash
    )
    (staging / CONFIG_NAME).write_bytes(readable_json(config))
    (staging / MANIFEST_NAME).write_bytes(readable_json(manifest.model_dump(mode="json")))
    return adapter_files.content_id(kind, staging)


def _keep_only_adapter_files(kind: AdapterKind, staging: Path) -> None:
    """Drop PEFT's model card and refuse everything else that is not part of an adapter."""
    (staging / "README.md").unlink(missing_ok=True)
    allowed = {CONFIG_NAME, WEIGHTS_NAME}
    if kind in SCORING_KINDS:
        allowed.add(HEAD_NAME)
    for path in sorted(staging.iterdir()):
        if path.name not in allowed or path.is_symlink() or not path.is_file():
            raise AdapterRefused(
                "not_safetensors",
                f"{path.name} is not part of an adapter of kind {kind}; write only"
                f" {', '.join(sorted(allowed))} as plain files.",
            )


def _read_manifest(path: Path) -> AdapterManifest:
    manifest = path / MANIFEST_NAME
    if not manifest.is_file():
        message = f"{path.name} has no {MANIFEST_NAME}; remove its directory, publish it again."
        raise AdapterRefused("missing_config", message)
    try:
        return AdapterManifest.model_validate_json(manifest.read_bytes())
    except ValidationError as error:
        message = f"{path.name}/{MANIFEST_NAME} is damaged ({error.error_count()} faults);"
        message += " remove its directory, publish it again."
        raise AdapterRefused("missing_config", message) from error
