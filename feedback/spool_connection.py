"""Opens the spool's SQLite file so that a commit is a promise; it does not know who writes."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from feedback.durable_files import fsync_directory
from feedback.spool_damage import refuse_damaged_pages, reporting_damage

SCHEMA_VERSION = 1
APPLICATION_ID = 0x494C5350  # "ILSP": tells a spool from any other SQLite file
_BUSY_TIMEOUT_S = 30.0
_SYNCHRONOUS_FULL = 2

_SCHEMA = (
    """CREATE TABLE events (
        sequence INTEGER PRIMARY KEY AUTOINCREMENT,
        event_id TEXT NOT NULL UNIQUE,
        checksum INTEGER NOT NULL,
        payload BLOB NOT NULL
    ) STRICT""",
    "CREATE TABLE cursors (name TEXT PRIMARY KEY, sequence INTEGER NOT NULL) STRICT",
    """CREATE TABLE dead_letters (
        sequence INTEGER PRIMARY KEY REFERENCES events (sequence),
        reason TEXT NOT NULL
    ) STRICT""",
)


def open_for_writing(path: Path) -> sqlite3.Connection:
    """Open the file, making it if absent, in the one mode in which a commit survives a power cut.

    Raises:
        SpoolCorrupt: a page is damaged.
        ValueError: the file is no spool, or of a newer release.
    """
    with reporting_damage(path):
        connection = _connect(path, "rwc")
        try:
            _require(connection, "journal_mode", "WAL", "wal")
            _require(connection, "synchronous", "FULL", _SYNCHRONOUS_FULL)
            connection.execute("PRAGMA fullfsync = ON")  # macOS: fsync alone leaves a disk's cache
            refuse_damaged_pages(connection, path)
            _ensure_schema(connection, path)
        except BaseException:
            connection.close()
            raise
    fsync_directory(path.parent)
    return connection


def open_for_reading(path: Path) -> sqlite3.Connection:
    """Open an existing spool that this connection can never change.

    Raises:
        ValueError: there is no spool, or it is of a newer release.
    """
    if not path.exists():
        raise ValueError(f"{path} does not exist: start the service once, or check the path")
    with reporting_damage(path):
        connection = _connect(path, "rw")  # a log's reader needs its shared-memory file
        connection.execute("PRAGMA query_only = ON")
        _require_known_schema(connection, path)
    return connection


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=_BUSY_TIMEOUT_S,
        isolation_level=None,  # transactions are begun and ended explicitly
        check_same_thread=False,  # each connection is guarded by its owner
    )


def _require(connection: sqlite3.Connection, pragma: str, value: str, read_back: object) -> None:
    connection.execute(f"PRAGMA {pragma} = {value}")
    (actual,) = connection.execute(f"PRAGMA {pragma}").fetchone()
    if actual != read_back:
        raise ValueError(
            f"SQLite refused {pragma}={value} (it is {actual!r}): votes would not survive a power "
            "cut on this file system; put the data directory on another disk"
        )


def _ensure_schema(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute("BEGIN IMMEDIATE")  # two processes may open a new spool at once
    try:
        if not connection.execute("SELECT 1 FROM sqlite_schema").fetchone():
            for statement in _SCHEMA:
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        _require_known_schema(connection, path)
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _require_known_schema(connection: sqlite3.Connection, path: Path) -> None:
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application_id != APPLICATION_ID:
        raise ValueError(f"{path} is a SQLite file but no spool: give another data directory")
    if version != SCHEMA_VERSION:
        raise ValueError(
            f"{path} has spool version {version}, this release reads {SCHEMA_VERSION}: upgrade"
        )
