"""Writes that gather while a group is being synced share the next sync, in order."""

from __future__ import annotations

import sqlite3
import threading
from functools import partial
from pathlib import Path

import pytest

from feedback.group_commit import GroupCommitter
from feedback.spool_connection import open_for_writing


def _note(order: list[int], number: int, _: sqlite3.Connection) -> None:
    order.append(number)


def _count_commits(statements: list[str]) -> int:
    return sum(statement == "COMMIT" for statement in statements)


def test_writes_that_gathered_are_committed_together(tmp_path: Path) -> None:
    path = tmp_path / "spool.sqlite3"
    connection = open_for_writing(path)
    statements: list[str] = []
    connection.set_trace_callback(statements.append)
    committer = GroupCommitter(connection, path)
    may_go_on = threading.Event()
    order: list[int] = []
    first = committer.submit(lambda _: may_go_on.wait(10))
    gathered = [committer.submit(partial(_note, order, number)) for number in range(100)]
    assert not any(future.done() for future in gathered)
    may_go_on.set()
    assert first.result()
    for future in gathered:
        future.result()
    committer.close()
    assert order == list(range(100))
    assert _count_commits(statements) <= 3


def test_nothing_of_a_failed_group_is_kept_and_each_caller_is_told(tmp_path: Path) -> None:
    path = tmp_path / "spool.sqlite3"
    committer = GroupCommitter(open_for_writing(path), path)
    may_go_on = threading.Event()

    def fail(_: sqlite3.Connection) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    committer.submit(lambda _: may_go_on.wait(10))
    written = committer.submit(
        lambda connection: connection.execute("INSERT INTO cursors VALUES ('x', 1)")
    )
    failed = committer.submit(fail)
    may_go_on.set()
    for future in (written, failed):
        with pytest.raises(sqlite3.OperationalError, match="full"):
            future.result()
    rows = committer.submit(lambda c: c.execute("SELECT * FROM cursors").fetchall()).result()
    assert rows == []
    committer.close()
