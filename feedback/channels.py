"""A channel: an append-only list of which adapter it named when; knows no adapter's content."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from feedback.canonical_json import readable_json
from feedback.durable_files import create_exclusively

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_ENTRY_FILE = re.compile(r"(0|[1-9][0-9]*)\.json")


class ChannelError(ValueError):
    """A channel's name is not allowed, it names nothing yet, or its newest file is damaged."""


class ChannelEntry(BaseModel):
    """One line of a channel's audit.

    Example: {"sequence": 3, "adapter_id": "ppo-0123456789abcdef", "by": "admin-key-1",
    "reason": "live win rate 0.61", "at": "2026-11-30T12:00:00Z"}
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    sequence: int = Field(ge=0)
    adapter_id: str
    by: str = Field(min_length=1, description="who promoted: a key's id, or a program's name")
    reason: str
    at: datetime = Field(description="server time, UTC")


class ChannelLog:
    """The files channels/<name>/<sequence>.json; the highest sequence is the current one."""

    def __init__(self, channels_directory: Path, name: str) -> None:
        """Address a channel; nothing is created before the first entry.

        Raises ChannelError for a name that could leave the directory.
        """
        if not _NAME.fullmatch(name):
            raise ChannelError(
                f"Channel name {name!r} is not allowed; use a lower-case letter, then up to 31 of"
                " a-z, 0-9, '-' and '_'."
            )
        self.name = name
        self._directory = channels_directory / name

    def current(self) -> ChannelEntry:
        """Return the newest entry.

        Raises ChannelError when there is none or it cannot be read.
        """
        sequences = self._sequences()
        if not sequences:
            raise ChannelError(f"Channel {self.name!r} names no adapter yet; promote one first.")
        return self._read(sequences[-1])

    def history(self) -> list[ChannelEntry]:
        """Return all entries, oldest first; empty for a channel nobody promoted to."""
        return [self._read(sequence) for sequence in self._sequences()]

    def append(self, adapter_id: str, by: str, reason: str) -> ChannelEntry:
        """Add the next entry; of concurrent writers each gets a sequence of its own."""
        while True:
            sequence = (self._sequences() or [-1])[-1] + 1
            entry = self.create(sequence, adapter_id, by, reason)
            if entry is not None:
                return entry

    def create(self, sequence: int, adapter_id: str, by: str, reason: str) -> ChannelEntry | None:
        """Create exactly this entry, or return None when the sequence is taken."""
        entry = ChannelEntry(
            sequence=sequence, adapter_id=adapter_id, by=by, reason=reason, at=datetime.now(UTC)
        )
        payload = readable_json(entry.model_dump(mode="json", exclude={"sequence"}))
        return entry if create_exclusively(self._path(sequence), payload) else None

    def _path(self, sequence: int) -> Path:
        return self._directory / f"{sequence}.json"

    def _sequences(self) -> list[int]:
        if not self._directory.is_dir():
            return []
        matches = (_ENTRY_FILE.fullmatch(path.name) for path in self._directory.iterdir())
        return sorted(int(match[1]) for match in matches if match)

    def _read(self, sequence: int) -> ChannelEntry:
        path = self._path(sequence)
        try:
            return ChannelEntry(sequence=sequence, **json.loads(path.read_bytes()))
        except (ValidationError, ValueError, TypeError) as error:
            raise ChannelError(
                f"Channel file {self.name}/{path.name} is damaged ({type(error).__name__});"
                " restore it from a backup, or remove it to return to the entry before."
            ) from error


def channel_names(channels_directory: Path) -> list[str]:
    """Return the names of all channels that exist, sorted."""
    if not channels_directory.is_dir():
        return []
    names = (path.name for path in channels_directory.iterdir())
    return sorted(name for name in names if _NAME.fullmatch(name))
