"""Durable appends per second: the spool's group commit against one commit per event.

Launch: make bench, or python benchmarks/bench_spool.py [NUM_EVENTS]. All rows are interleaved in
one run on one disk, because disks and machines differ: read the ratios, not the rates.
"""

import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from statistics import median

import results

from feedback.events.codec import encode
from feedback.events.envelope import Event
from feedback.events.examples import example_events
from feedback.identifiers import uuid7
from feedback.spool import Spool

NUM_ROUNDS = 3


def votes(count: int) -> list[Event]:
    """Return that many different votes of realistic size."""
    example = example_events()["ranking.submitted"]
    return [example.model_copy(update={"id": uuid7()}) for _ in range(count)]


def spool_appends(num_clients: int) -> Callable[[Path, list[Event]], None]:
    """Append from clients that each wait for their vote to be durable before the next."""

    def run(directory: Path, events: list[Event]) -> None:
        with (
            Spool.open(directory / "spool.sqlite3") as spool,
            ThreadPoolExecutor(num_clients) as clients,
        ):
            for stored in [clients.submit(lambda e: spool.append(e).result(), e) for e in events]:
                stored.result()

    return run


def commit_each(synchronous: str) -> Callable[[Path, list[Event]], None]:
    """Write with plain sqlite3, one transaction per event."""

    def run(directory: Path, events: list[Event]) -> None:
        with closing(sqlite3.connect(directory / "plain.sqlite3")) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA synchronous = {synchronous}")
            connection.execute("CREATE TABLE events (id TEXT PRIMARY KEY, payload BLOB)")
            for event in events:
                with connection:
                    row = (event.id, encode(event))
                    connection.execute("INSERT INTO events VALUES (?, ?)", row)

    return run


WAYS = {
    "spool, 1 client": spool_appends(1),
    "spool, 8 clients": spool_appends(8),
    "spool, 64 clients": spool_appends(64),
    "sqlite3, synced commit each": commit_each("FULL"),
    "sqlite3, no sync (not durable)": commit_each("OFF"),
}


def main(num_events: int) -> None:
    """Run every way in turn, several rounds, and report the median rate."""
    rates: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(NUM_ROUNDS):
        for name, run in WAYS.items():
            events = votes(num_events)
            with tempfile.TemporaryDirectory() as directory:
                started = time.perf_counter()
                run(Path(directory), events)
                rates[name].append(num_events / (time.perf_counter() - started))
    rows = [
        {"way": name, "events_per_s": median(measured), "lowest": min(measured)}
        for name, measured in rates.items()
    ]
    size = len(encode(votes(1)[0]))
    results.save("spool", rows, f"{num_events} votes of {size} bytes, {NUM_ROUNDS} rounds, median")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
