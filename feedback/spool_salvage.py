"""Brings back from a damaged spool, moved aside, every event that can still be read."""

from __future__ import annotations

import sqlite3
import zlib
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from feedback.spool import Spool


@dataclass(frozen=True, slots=True)
class Salvage:
    """What came back; `lost_sequences` are numbers of the damaged spool."""

    num_recovered: int
    lost_sequences: tuple[int, ...]


def salvage(damaged: Path, into: Spool) -> Salvage:
    """Append the readable events of the spool at `damaged` to another spool.

    Appending is idempotent by event id, so this can be repeated. Events get new sequences and
    readers begin again; every fold is over the set of events, so that changes nothing. The damaged
    files stay as they are.

    Raises:
        ValueError: the file does not even tell how many events it held.
    """
    lost = []
    durable = []
    read_only = f"{damaged.absolute().as_uri()}?mode=ro"  # else SQLite would trim a damaged log
    with closing(sqlite3.connect(read_only, uri=True)) as connection:
        for sequence in range(1, _last_sequence(connection, damaged) + 1):
            record = _read_record(connection, sequence)
            if record is None:
                lost.append(sequence)
            else:
                durable.append(into.append_encoded(*record))
    return Salvage(len([future.result() for future in durable]), tuple(lost))


def _last_sequence(connection: sqlite3.Connection, damaged: Path) -> int:
    """Ask every place that knows; damage may have hit one of them."""
    last = 0
    for query in ("SELECT seq FROM sqlite_sequence", "SELECT max(sequence) FROM events"):
        try:
            row = connection.execute(query).fetchone()
        except sqlite3.DatabaseError:
            continue
        last = max(last, row[0] if row and row[0] else 0)
    if not last:
        raise ValueError(f"{damaged} cannot be salvaged: it does not tell how many events it held")
    return last


def _read_record(connection: sqlite3.Connection, sequence: int) -> tuple[str, bytes] | None:
    """Return event id and payload as they were appended, None if they cannot be read whole."""
    query = "SELECT event_id, payload, checksum FROM events WHERE sequence = ?"
    try:
        row = connection.execute(query, (sequence,)).fetchone()
    except sqlite3.DatabaseError:
        return None
    if row is None or zlib.crc32(row[1]) != row[2]:
        return None
    return str(row[0]), bytes(row[1])
