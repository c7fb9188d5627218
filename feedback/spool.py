"""The spool: every event on local disk, in order, once; it does not know what an event means.

One SQLite file is spool and record. An append is acknowledged only after its group commit is
synced, so an acknowledged event survives `kill -9` and a power cut.
"""

from __future__ import annotations

import sqlite3
import threading
import zlib
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from feedback.events.codec import MESSAGE_LIMIT_BYTES, encode
from feedback.events.envelope import Event
from feedback.file_systems import refuse_network_file_system
from feedback.group_commit import GroupCommitter
from feedback.spool_connection import open_for_reading, open_for_writing
from feedback.spool_damage import SpoolCorrupt, refuse_damaged_files, reporting_damage

__all__ = ["DeadLetter", "Spool", "SpoolCorrupt", "SpooledRecord"]


@dataclass(frozen=True, slots=True)
class SpooledRecord:
    """One event as it was appended; `is_intact` is False if its bytes changed on disk."""

    sequence: int
    payload: bytes
    is_intact: bool = True


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that is no event, with the reason."""

    sequence: int
    reason: str


class Spool:
    """Append-only log of events with named cursors and dead letters.

    Safe for any number of threads, and for several processes on one machine.
    """

    def __init__(
        self, path: Path, reader: sqlite3.Connection, committer: GroupCommitter | None
    ) -> None:
        self._path = path
        self._reader = reader
        self._reading = threading.Lock()
        self._committer = committer

    @classmethod
    def open(cls, path: Path) -> Spool:
        """Open a spool for appending, making it if absent.

        Raises:
            SpoolCorrupt: the file is damaged; the message says what to do.
            ValueError: the file is no spool, of a newer release, or on a network file system.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        refuse_network_file_system(path.parent)
        refuse_damaged_files(path)
        writer = open_for_writing(path)
        return cls(path, open_for_reading(path), GroupCommitter(writer, path))

    @classmethod
    def open_reader(cls, path: Path) -> Spool:
        """Open an existing spool that another process appends to; this one cannot write.

        Raises:
            SpoolCorrupt: the file is damaged; the message says what to do.
            ValueError: there is no spool at `path`.
        """
        refuse_damaged_files(path)
        return cls(path, open_for_reading(path), None)

    @property
    def is_read_only(self) -> bool:
        """Whether this spool was opened by `open_reader`."""
        return self._committer is None

    def append(self, event: Event) -> Future[int]:
        """Queue an event; the future gives its sequence once it is durable.

        An event whose id is already there is not written again: its future gives the sequence of
        the first one. Cancelling the future does not take the event back.

        Raises:
            ValueError: the event is over the message limit (`codec.fit_to_limit` first), or the
                spool is closed or read-only.
        """
        return self.append_encoded(event.id, encode(event))

    def append_encoded(self, event_id: str, payload: bytes) -> Future[int]:
        """Queue bytes that another spool or a newer release wrote; see `append`."""
        if len(payload) > MESSAGE_LIMIT_BYTES:
            raise ValueError(
                f"event has {len(payload)} bytes, over the limit of {MESSAGE_LIMIT_BYTES}: "
                "pass it through fit_to_limit first"
            )
        return self._writer().submit(lambda connection: _insert(connection, event_id, payload))

    def read(self, after_sequence: int = 0, limit: int = 1000) -> list[SpooledRecord]:
        """Return up to `limit` records behind `after_sequence`, in order of sequence."""
        rows = self._select(
            "SELECT sequence, payload, checksum FROM events WHERE sequence > ? "
            "ORDER BY sequence LIMIT ?",
            (after_sequence, limit),
        )
        return [
            SpooledRecord(sequence, payload, zlib.crc32(payload) == checksum)
            for sequence, payload, checksum in rows
        ]

    def last_sequence(self) -> int:
        """Return the highest sequence, 0 for an empty spool."""
        ((last,),) = self._select("SELECT coalesce(max(sequence), 0) FROM events")
        return int(last)

    def cursor(self, name: str) -> int:
        """Return how far the named reader has come, 0 at first."""
        rows = self._select("SELECT sequence FROM cursors WHERE name = ?", (name,))
        return int(rows[0][0]) if rows else 0

    def advance(self, name: str, sequence: int) -> None:
        """Record durably that the named reader is done up to `sequence`; never moves back."""
        statement = (
            "INSERT INTO cursors VALUES (?, ?) ON CONFLICT (name) "
            "DO UPDATE SET sequence = max(sequence, excluded.sequence)"
        )
        self._execute(statement, (name, sequence))

    def dead_letter(self, sequence: int, reason: str) -> None:
        """Keep the reason why a record is no event; the record itself stays."""
        self._execute("INSERT OR REPLACE INTO dead_letters VALUES (?, ?)", (sequence, reason))

    def revive(self, sequence: int) -> None:
        """Take a record out of the dead letters: a later release can read it."""
        self._execute("DELETE FROM dead_letters WHERE sequence = ?", (sequence,))

    def dead_letters(self) -> list[DeadLetter]:
        """Return all dead letters in order of sequence."""
        rows = self._select("SELECT sequence, reason FROM dead_letters ORDER BY sequence")
        return [DeadLetter(sequence, reason) for sequence, reason in rows]

    def close(self) -> None:
        """Make every queued append durable, then release the file."""
        if self._committer is not None:
            self._committer.close()
        with self._reading:
            self._reader.close()

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _writer(self) -> GroupCommitter:
        if self._committer is None:
            raise ValueError(f"{self._path} was opened read-only: only the service appends to it")
        return self._committer

    def _execute(self, statement: str, parameters: Sequence[Any]) -> None:
        self._writer().submit(lambda connection: connection.execute(statement, parameters)).result()

    def _select(self, statement: str, parameters: Sequence[Any] = ()) -> list[Any]:
        with self._reading, reporting_damage(self._path):
            return self._reader.execute(statement, parameters).fetchall()


def _insert(connection: sqlite3.Connection, event_id: str, payload: bytes) -> int:
    row = connection.execute(
        "INSERT INTO events (event_id, checksum, payload) VALUES (?, ?, ?) "
        "ON CONFLICT (event_id) DO NOTHING RETURNING sequence",
        (event_id, zlib.crc32(payload), payload),
    ).fetchone()
    if row is None:
        query = "SELECT sequence FROM events WHERE event_id = ?"
        row = connection.execute(query, (event_id,)).fetchone()
    return int(row[0])
