"""One thread that makes many small writes durable together; it does not know what they write."""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from feedback.spool_damage import reporting_damage

ResultT = TypeVar("ResultT")

_MAX_GROUP = 512


@dataclass(frozen=True, slots=True)
class _Write(Generic[ResultT]):
    statement: Callable[[sqlite3.Connection], ResultT]
    outcome: Future[ResultT]


class GroupCommitter:
    """Runs writes in the order submitted; while one group is being synced the next one gathers.

    A future resolves only after the COMMIT that holds its write has returned, that is after
    SQLite's fsync of the log (synchronous=FULL).
    """

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path
        self._pending: queue.SimpleQueue[_Write[Any] | None] = queue.SimpleQueue()
        self._closing = threading.Lock()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="spool-writer", daemon=True)
        self._thread.start()

    def submit(self, statement: Callable[[sqlite3.Connection], ResultT]) -> Future[ResultT]:
        """Queue a write; its result is the future's once it is durable.

        Raises:
            ValueError: the spool is closed.
        """
        outcome: Future[ResultT] = Future()
        with self._closing:
            if self._is_closed:
                raise ValueError(f"{self._path} is closed: nothing can be appended to it")
            self._pending.put(_Write(statement, outcome))
        return outcome

    def close(self) -> None:
        """Write what is queued, then end the thread; later submits are refused."""
        with self._closing:
            if not self._is_closed:
                self._is_closed = True
                self._pending.put(None)
        self._thread.join()

    def _run(self) -> None:
        is_open = True
        while is_open:
            group, is_open = self._next_group()
            if group:
                self._commit(group)
        self._connection.close()

    def _next_group(self) -> tuple[list[_Write[Any]], bool]:
        """Wait for a write, then take along whatever has gathered; False at the end."""
        group: list[_Write[Any]] = []
        try:
            while len(group) < _MAX_GROUP:
                write = self._pending.get(block=not group)
                if write is None:
                    return group, False
                # From here on the caller's cancel() no longer has an effect: the write happens.
                write.outcome.set_running_or_notify_cancel()
                group.append(write)
        except queue.Empty:
            pass
        return group, True

    def _commit(self, group: list[_Write[Any]]) -> None:
        try:
            results = self._in_transaction(group)
        except Exception as error:  # noqa: BLE001  the thread outlives it, every caller gets it
            for write in group:
                if not write.outcome.cancelled():
                    write.outcome.set_exception(error)
            return
        for write, result in zip(group, results, strict=True):
            if not write.outcome.cancelled():
                write.outcome.set_result(result)

    def _in_transaction(self, group: list[_Write[Any]]) -> list[Any]:
        with reporting_damage(self._path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                results = [write.statement(self._connection) for write in group]
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # SQLite may have rolled back by itself
                    self._connection.execute("ROLLBACK")
                raise
        return results
