"""Finds damage in a spool file and says what to do; it does not know what the events mean."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from feedback.wal_scan import count_lost_commits

_SQLITE_MAGIC = b"SQLite format 3\0"
_DAMAGE_CODES = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
# quick_check reads the whole file, about 1 s per GiB; above this, damage shows when it is read.
_QUICK_CHECK_LIMIT_BYTES = 512 * 1024 * 1024


class SpoolCorrupt(ValueError):
    """The spool's file is damaged; the message names it, the way out and what is lost."""

    def __init__(self, spool: Path, damaged: Path, fault: str) -> None:
        super().__init__(
            f"{damaged} is damaged ({fault}). Way out: stop every process that uses it, move "
            f"{spool.name}, {spool.name}-wal and {spool.name}-shm together into another directory "
            f"(they belong to each other), and start again: a new, empty spool is made. Then "
            f"`instructloop spool salvage MOVED/{spool.name} --data-dir {spool.parent}` brings "
            f"back every event that can still be read; lost are those that cannot."
        )
        self.path = damaged


def wal_path(spool: Path) -> Path:
    """Return the path of SQLite's write-ahead log beside the spool file."""
    return spool.with_name(spool.name + "-wal")


def refuse_damaged_files(spool: Path) -> None:
    """Check what SQLite itself would pass over in silence, before it opens (and trims) the files.

    SQLite deletes a log whose main file is missing or empty, and drops every transaction behind
    a damaged frame of the log: both would lose acknowledged events without a word.

    Raises:
        SpoolCorrupt: the files cannot hold what was acknowledged.
    """
    size_bytes = _size_bytes(spool)
    wal = wal_path(spool)
    if _size_bytes(wal) and not size_bytes:
        raise SpoolCorrupt(spool, spool, "it is missing or empty, but its -wal file is not")
    if size_bytes:
        with spool.open("rb") as file:
            if file.read(len(_SQLITE_MAGIC)) != _SQLITE_MAGIC:
                raise SpoolCorrupt(spool, spool, "it does not begin as a SQLite file")
    num_lost = count_lost_commits(wal)
    if num_lost:
        raise SpoolCorrupt(
            spool, wal, f"{num_lost} committed transactions lie behind an unreadable part"
        )


def _size_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def refuse_damaged_pages(connection: sqlite3.Connection, spool: Path) -> None:
    """Let SQLite check the pages of a file that is not too large for it.

    Raises:
        SpoolCorrupt: a page is damaged or missing.
    """
    if spool.stat().st_size > _QUICK_CHECK_LIMIT_BYTES:
        return
    with reporting_damage(spool):
        (fault,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if fault != "ok":
        raise SpoolCorrupt(spool, spool, " ".join(str(fault).split()))


@contextmanager
def reporting_damage(spool: Path) -> Iterator[None]:
    """Turn SQLite's word for damage into SpoolCorrupt; other errors pass."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the primary code of an extended one
        if code in _DAMAGE_CODES:
            raise SpoolCorrupt(spool, spool, str(error)) from error
        raise
