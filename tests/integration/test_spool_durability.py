"""What the spool acknowledged is on disk: no answer before its sync, nothing lost to kill -9."""

from __future__ import annotations

import random
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from feedback.events.codec import decode
from feedback.spool import Spool

# Appends without end from four threads and prints "<event id> <sequence>" once acknowledged.
_APPENDER = """
import sys, threading
from pathlib import Path
from feedback.events.envelope import new_event
from feedback.events.erasure import SubjectErased
from feedback.spool import Spool

spool = Spool.open(Path(sys.argv[1]))
printing = threading.Lock()

def append_for_ever(size):
    while True:
        event = new_event(SubjectErased(pseudonym="x" * size), source="test")
        sequence = spool.append(event).result()
        with printing:
            print(event.id, sequence, flush=True)

for size in (10, 300, 5_000, 40_000):
    threading.Thread(target=append_for_ever, args=(size,)).start()
"""

# Appends one event per line on standard input and says so once it is acknowledged.
_ONE_BY_ONE = """
import sys
from pathlib import Path
from feedback.events.envelope import new_event
from feedback.events.erasure import SubjectErased
from feedback.spool import Spool

spool = Spool.open(Path(sys.argv[1]))
print("open", flush=True)
for _ in sys.stdin:
    future = spool.append(new_event(SubjectErased(pseudonym="x"), source="test"))
    print("appended", flush=True)
    future.result()
    print("acknowledged", flush=True)
"""


# Appends until the file-size limit stands in for a full disk, then again without the limit.
_DISK_FULL = """
import resource, sys
from pathlib import Path
from feedback.events.envelope import new_event
from feedback.events.erasure import SubjectErased
from feedback.spool import Spool

spool = Spool.open(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
refused = 0
while refused < 3:
    event = new_event(SubjectErased(pseudonym="x" * 3000), source="test")
    try:
        print(event.id, spool.append(event).result(), flush=True)
    except Exception:
        refused += 1
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
event = new_event(SubjectErased(pseudonym="after"), source="test")
print(event.id, spool.append(event).result(), flush=True)
spool.close()
"""


def _kill_after(spool_path: Path, num_lines: int, delay_s: float) -> dict[str, int]:
    """Kill an appender `delay_s` after so many acknowledgements; return all it had given."""
    process = subprocess.Popen(
        [sys.executable, "-c", _APPENDER, str(spool_path)], stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(num_lines)]
        time.sleep(delay_s)
        process.kill()
        lines += process.stdout.readlines()
    whole = [line.split() for line in lines if line.endswith("\n")]
    return {event_id: int(sequence) for event_id, sequence in whole}


def test_every_acknowledged_event_survives_kill_nine_at_random_moments(tmp_path: Path) -> None:
    path = tmp_path / "spool.sqlite3"
    draw = random.Random(20261130)
    acknowledged: dict[str, int] = {}
    for _ in range(8):
        acknowledged |= _kill_after(path, draw.randrange(1, 120), draw.random() * 0.05)
        with Spool.open(path) as spool:
            records = _read_all(spool)
        kept = {decode(record.payload).id: record.sequence for record in records}
        assert all(record.is_intact for record in records)
        assert {name: kept.get(name) for name in acknowledged} == acknowledged
    assert len(acknowledged) > 100


def test_a_kill_while_the_file_is_being_made_leaves_a_usable_spool(tmp_path: Path) -> None:
    draw = random.Random(7)
    for number in range(6):
        path = tmp_path / str(number) / "spool.sqlite3"
        process = subprocess.Popen(
            [sys.executable, "-c", _APPENDER, str(path)], stdout=subprocess.DEVNULL
        )
        with process:
            _wait_until(path.exists)
            time.sleep(draw.random() * 0.02)
            process.kill()
        Spool.open(path).close()


def test_a_full_disk_refuses_appends_loses_none_and_is_left_behind(tmp_path: Path) -> None:
    """The futures fail while nothing can be written; the writer goes on once there is room."""
    path = tmp_path / "spool.sqlite3"
    command = [sys.executable, "-c", _DISK_FULL, str(path)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    acknowledged = [line.split()[0] for line in printed.stdout.splitlines()]
    with Spool.open(path) as spool:
        kept = [decode(record.payload).id for record in _read_all(spool)]
    assert kept == acknowledged
    assert len(kept) > 10


def test_a_reader_that_opens_while_another_process_appends_sees_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "spool.sqlite3"
    process = subprocess.Popen(
        [sys.executable, "-c", _APPENDER, str(path)], stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        drain = threading.Thread(target=process.stdout.read)
        drain.start()
        lengths = []
        for _ in range(25):
            with Spool.open_reader(path) as reader:
                lengths.append(reader.last_sequence())
        process.kill()
        drain.join()
    assert lengths == sorted(lengths)
    assert lengths[-1] > lengths[0]


def test_no_append_is_acknowledged_before_its_sync(tmp_path: Path, sync_shim: Any) -> None:
    """With every sync held back the appender says nothing; released, it acknowledges."""
    with _one_by_one(tmp_path / "spool.sqlite3", sync_shim) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        sync_shim.hold()
        num_synced = sync_shim.num_synced("spool.sqlite3-wal")
        num_begun = sync_shim.num_begun("spool.sqlite3-wal")
        process.stdin.write(b"go\n")
        process.stdin.close()
        assert process.stdout.readline() == b"appended\n"
        _wait_until(lambda: sync_shim.num_begun("spool.sqlite3-wal") > num_begun)
        said_too_early, _, _ = select.select([process.stdout], [], [], 0.3)
        assert said_too_early == []
        assert sync_shim.num_synced("spool.sqlite3-wal") == num_synced
        sync_shim.release()
        assert process.stdout.readline() == b"acknowledged\n"
        assert sync_shim.num_synced("spool.sqlite3-wal") > num_synced


@pytest.mark.parametrize("num_appends", [1, 5])
def test_each_group_commit_costs_a_sync_of_its_own(
    tmp_path: Path, sync_shim: Any, num_appends: int
) -> None:
    """Appends made one after another cannot share a sync: synchronous=FULL is in force."""
    with _one_by_one(tmp_path / "spool.sqlite3", sync_shim) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        before = sync_shim.num_synced("spool.sqlite3-wal")
        process.stdin.write(b"go\n" * num_appends)
        process.stdin.close()
        assert process.stdout.read().count(b"acknowledged") == num_appends
        assert sync_shim.num_synced("spool.sqlite3-wal") - before >= num_appends


def _one_by_one(path: Path, sync_shim: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", _ONE_BY_ONE, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,  # select() must see what the appender has said and nobody has read
        env=sync_shim.environment,
    )


def _wait_until(condition: Callable[[], bool], limit_s: float = 30.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.002)


def _read_all(spool: Spool) -> list[Any]:
    records: list[Any] = []
    while page := spool.read(records[-1].sequence if records else 0, limit=500):
        records += page
    return records
