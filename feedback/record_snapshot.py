"""From the record of events in a data directory to a snapshot, in one step for all commands.

It does not know what a snapshot is used for.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from feedback.fold import fold
from feedback.ingest import read_record
from feedback.snapshot_rows import Snapshot
from feedback.snapshots import SnapshotSettings, build_snapshot, count_votes_sent
from feedback.spool import Spool

SPOOL_NAME = "spool.sqlite3"


@dataclass(frozen=True, slots=True)
class RecordSnapshot:
    """A snapshot with the numbers of records that could not become events."""

    snapshot: Snapshot
    num_dead_letters: int
    num_parked: int


def snapshot_record(data_dir: Path, settings: SnapshotSettings | None = None) -> RecordSnapshot:
    """Read every event of `data_dir`, fold them, and build (or find) their snapshot.

    A service that is writing meanwhile is not disturbed.

    Raises:
        ValueError: if there is no record, or it is damaged.
    """
    with Spool.open_reader(data_dir / SPOOL_NAME) as spool:
        record = read_record(spool)
    votes_sent = count_votes_sent(record.events)
    snapshot = build_snapshot(fold(record.events), data_dir, settings, votes_sent=votes_sent)
    return RecordSnapshot(snapshot, len(record.dead_letters), len(record.parked))
