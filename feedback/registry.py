"""Publish adapters under their content's hash and say by channel which one is served.

Everything lives in one data directory (DESIGN 4.4). It knows no engine and no training; what an
engine must refuse is decided in adapter_validation.
"""

import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from feedback import adapter_files, adapter_validation
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
from feedback.base_description import BaseDescription, read_base_description
from feedback.canonical_json import readable_json
from feedback.channels import ChannelEntry, ChannelError, ChannelLog, channel_names
from feedback.durable_files import (
    create_exclusively,
    move_directory,
    new_staging_directory,
    remove_stale_entries,
    replace_file,
)

# Which verdict a channel asks for; an admin's reason can stand in for the live one.
_VERDICT_OF_CHANNEL = {"candidate": "offline", "stable": "live"}
_STALE_STAGING_S = 24 * 3600.0
_RECORD_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_VERDICT_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")


class Registry:
    """The adapters, channels, cards and verdicts of one data directory."""

    def __init__(self, data_dir: Path, *, max_rank: int) -> None:
        self.data_dir = data_dir
        self._max_rank = max_rank

    @classmethod
    def open(cls, data_dir: Path, *, max_rank: int = 64) -> "Registry":
        """Open (and lay out, where new) the registry under `data_dir`.

        Args:
            data_dir: the data directory.
            max_rank: the largest LoRA rank that `promote` lets through.
        """
        for name in ("adapters", "channels", "snapshots", "cards", "verdicts", "incoming"):
            (data_dir / name).mkdir(parents=True, exist_ok=True)
        return cls(data_dir, max_rank=max_rank)

    @property
    def snapshots_directory(self) -> Path:
        """Where snapshots are built."""
        return self.data_dir / "snapshots"

    @property
    def incoming_directory(self) -> Path:
        """Where things are built aside, on the same file system as their final place."""
        return self.data_dir / "incoming"

    def bind_base(self, description: BaseDescription) -> None:
        """Bind the directory to one base; the first call also makes it sequence 0 of `stable`.

        Raises ValueError when the directory is bound to another base.
        """
        payload = readable_json(description.model_dump(mode="json"))
        create_exclusively(self.data_dir / "base.json", payload)
        bound = self.base()
        differing = bound.differences(description)
        if differing:
            raise ValueError(
                f"This data directory belongs to base {bound.base_id} ({bound.weights_hash}),"
                f" not {description.base_id} ({description.weights_hash}): {', '.join(differing)}"
                " differ; serve the first one or take another data directory."
            )
        self._channel("stable").create(0, bound.adapter_id, "instructloop", "the base model")

    def base(self) -> BaseDescription:
        """Return the base that the directory is bound to.

        Raises ValueError when none is.
        """
        path = self.data_dir / "base.json"
        if not path.exists():
            raise ValueError("This data directory has no base yet; start the service on it first.")
        return read_base_description(path)

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
            _keep_only_adapter_files(kind, staging)
            config = adapter_files.canonical_config(
                adapter_files.read_config(staging), manifest.base_id, manifest.weights_hash
            )
            (staging / CONFIG_NAME).write_bytes(readable_json(config))
            adapter_id = adapter_files.content_id(kind, staging)
            (staging / MANIFEST_NAME).write_bytes(readable_json(manifest.model_dump(mode="json")))
            if not move_directory(staging, self._adapter_path(adapter_id)):
                self.verify(adapter_id)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        return adapter_id

    def adapter(self, adapter_id: str) -> AdapterFiles:
        """Return a published adapter.

        Raises AdapterRefused (unknown_adapter) for an id that is malformed or not published.
        """
        path = self._adapter_path(adapter_id)
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
        adapter_validation.verify_content(self.adapter(adapter_id))

    def list_adapters(self) -> list[str]:
        """Return the ids of all published adapters, sorted."""
        names = (path.name for path in (self.data_dir / "adapters").iterdir())
        return sorted(name for name in names if adapter_files.is_adapter_id(name))

    def list_channels(self) -> list[str]:
        """Return the names of all channels that name an adapter, sorted."""
        return channel_names(self.data_dir / "channels")

    def current(self, channel: str) -> ChannelEntry:
        """Return what a channel names now.

        Raises ChannelError when it names nothing.
        """
        return self._channel(channel).current()

    def history(self, channel: str) -> list[ChannelEntry]:
        """Return all that a channel has named, oldest first: its audit."""
        return self._channel(channel).history()

    def promote(self, channel: str, adapter_id: str, by: str, reason: str) -> ChannelEntry:
        """Validate an adapter, ask for its proof, then make it the channel's current one.

        `candidate` needs an offline verdict that passed; `stable` a live one or a non-empty
        reason; other channels a non-empty reason.

        Raises AdapterRefused and leaves the channel as it is.
        """
        log = self._channel(channel)
        self._validate_servable(adapter_id)
        self._require_proof(channel, adapter_id, reason)
        return log.append(adapter_id, by, reason.strip())

    def rollback(self, channel: str, by: str, reason: str) -> ChannelEntry:
        """Return the channel to the last adapter that differs from its current one.

        Raises ChannelError when there is none, ValueError without a reason.
        """
        if not reason.strip():
            raise ValueError("A rollback needs a reason; say in `reason` why it is done.")
        log = self._channel(channel)
        current = log.current().adapter_id
        earlier = [entry for entry in log.history() if entry.adapter_id != current]
        if not earlier:
            raise ChannelError(f"Channel {channel!r} never named another adapter to return to.")
        # What was served already needs no new proof, but its files must still be whole.
        self._validate_servable(earlier[-1].adapter_id)
        return log.append(earlier[-1].adapter_id, by, f"rollback: {reason.strip()}")

    def write_verdict(self, adapter_id: str, name: str, verdict: Mapping[str, Any]) -> Path:
        """Write verdicts/<adapter_id>/<name>.json; a later evaluation replaces an earlier one.

        Raises ValueError unless `verdict` has the boolean `passed`.
        """
        if not isinstance(verdict.get("passed"), bool):
            raise ValueError("A verdict needs the field `passed`, true or false.")
        self.adapter(adapter_id)
        path = self._verdict_path(adapter_id, name)
        path.parent.mkdir(exist_ok=True)
        replace_file(path, readable_json(dict(verdict)))
        return path

    def verdict(self, adapter_id: str, name: str) -> dict[str, Any] | None:
        """Return a verdict, or None when the adapter has not been judged by that name."""
        path = self._verdict_path(adapter_id, name)
        if not path.is_file():
            return None
        verdict: dict[str, Any] = json.loads(path.read_bytes())
        return verdict

    def write_card(self, card_id: str, files: Mapping[str, bytes]) -> Path:
        """Write the directory cards/<card_id>/ whole; a card is never changed afterwards.

        Raises ValueError for names with a path in them and for a card_id already taken by
        other content.
        """
        target = self.data_dir / "cards" / _checked_name(card_id, "card_id")
        staging = new_staging_directory(self.incoming_directory)
        try:
            for name, payload in files.items():
                (staging / _checked_name(name, "card file")).write_bytes(payload)
            if not move_directory(staging, target) and _read_files(target) != dict(files):
                raise ValueError(f"Card {card_id} exists with other content; take a new card_id.")
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        return target

    def _channel(self, name: str) -> ChannelLog:
        return ChannelLog(self.data_dir / "channels", name)

    def _adapter_path(self, adapter_id: str) -> Path:
        adapter_files.kind_of(adapter_id)  # refuses anything that is not an id before it is a path
        return self.data_dir / "adapters" / adapter_id

    def _verdict_path(self, adapter_id: str, name: str) -> Path:
        adapter_files.kind_of(adapter_id)
        if not _VERDICT_NAME.fullmatch(name):
            raise ValueError(f"Verdict name {name!r} is not allowed; use a-z, 0-9 and '_'.")
        return self.data_dir / "verdicts" / adapter_id / f"{name}.json"

    def _validate_servable(self, adapter_id: str) -> None:
        base = self.base()
        if adapter_id == base.adapter_id:
            return
        if adapter_files.is_base_adapter_id(adapter_id):
            message = f"{adapter_id} is another base than {base.adapter_id}; promote this one."
            raise AdapterRefused("base_mismatch", message)
        files = self.adapter(adapter_id)
        if files.kind in SCORING_KINDS:
            message = f"{adapter_id} scores text and cannot answer; promote an sft or ppo adapter."
            raise AdapterRefused("not_servable", message)
        adapter_validation.validate_adapter(files, base, max_rank=self._max_rank)

    def _require_proof(self, channel: str, adapter_id: str, reason: str) -> None:
        name = _VERDICT_OF_CHANNEL.get(channel)
        if name and self._has_passed(adapter_id, name):
            return
        if channel == "candidate":
            message = f"{adapter_id} has no passed offline verdict; run the gate on it first."
            raise AdapterRefused("no_verdict", message)
        if not reason.strip():
            needed = f"a passed {name} verdict or a reason" if name else "a reason"
            message = f"Promotion to {channel!r} needs {needed}; say in `reason` why it is done."
            raise AdapterRefused("no_verdict", message)

    def _has_passed(self, adapter_id: str, name: str) -> bool:
        if adapter_files.is_base_adapter_id(adapter_id):
            return False
        verdict = self.verdict(adapter_id, name)
        return verdict is not None and verdict.get("passed") is True


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
                f"{path.name} is not part of an {kind} adapter; write only"
                f" {', '.join(sorted(allowed))} as plain files.",
            )


def _read_manifest(path: Path) -> AdapterManifest:
    manifest = path / MANIFEST_NAME
    if not manifest.is_file():
        message = f"{path.name} has no {MANIFEST_NAME}; remove its directory, publish it again."
        raise AdapterRefused("missing_config", message)
    return AdapterManifest.model_validate_json(manifest.read_bytes())


def _checked_name(name: str, what: str) -> str:
    if not _RECORD_NAME.fullmatch(name):
        raise ValueError(f"{what} {name!r} is not allowed; use letters, digits, '.', '_' and '-'.")
    return name


def _read_files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}
