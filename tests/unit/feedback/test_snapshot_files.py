"""A snapshot on disk is whole, never changed, and reads back equal or not at all."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from feedback.fold import fold
from feedback.snapshot_files import load_manifest, load_snapshot, snapshot_path, write_snapshot
from feedback.snapshots import build_snapshot, permute_rankings


def test_a_snapshot_reads_back_equal(busy_traffic: Any, tmp_path: Path) -> None:
    completion = busy_traffic.serve(
        "Grüße, 世界 👋",
        ("a\n", ""),
        choice_changes={"token_ids": (), "token_logprobs": None, "num_visible_tokens": 0},
    )
    busy_traffic.vote(completion, [[1], [0]], "zoe")
    snapshot = build_snapshot(fold(busy_traffic.events), tmp_path)
    assert load_snapshot(snapshot_path(tmp_path, snapshot.id)) == snapshot
    placebo = permute_rankings(snapshot, seed=0)
    assert load_snapshot(write_snapshot(placebo, tmp_path)) == placebo


def test_an_empty_snapshot_reads_back_equal(tmp_path: Path) -> None:
    snapshot = build_snapshot(fold([]), tmp_path)
    assert load_snapshot(snapshot_path(tmp_path, snapshot.id)) == snapshot
    assert load_manifest(snapshot_path(tmp_path, snapshot.id)) == snapshot.manifest


def test_writing_it_again_changes_nothing(busy_traffic: Any, tmp_path: Path) -> None:
    snapshot = build_snapshot(fold(busy_traffic.events), tmp_path)
    path = snapshot_path(tmp_path, snapshot.id)
    before = {file.name: (file.stat().st_mtime_ns, file.read_bytes()) for file in path.iterdir()}
    assert build_snapshot(fold(busy_traffic.events), tmp_path) == snapshot
    after = {file.name: (file.stat().st_mtime_ns, file.read_bytes()) for file in path.iterdir()}
    assert after == before
    assert list((tmp_path / "incoming").iterdir()) == []


def test_any_parquet_reader_can_read_the_tables(busy_traffic: Any, tmp_path: Path) -> None:
    snapshot = build_snapshot(fold(busy_traffic.events), tmp_path)
    path = snapshot_path(tmp_path, snapshot.id)
    for name, num_rows in (("rankings", 40), ("demonstrations", 6), ("prompts", 40)):
        assert pq.ParquetFile(path / f"{name}.parquet").metadata.num_rows == num_rows


def test_altered_rows_are_refused(busy_traffic: Any, tmp_path: Path) -> None:
    snapshot = build_snapshot(fold(busy_traffic.events), tmp_path)
    path = snapshot_path(tmp_path, snapshot.id)
    table = pq.ParquetFile(path / "rankings.parquet").read()
    pq.write_table(table.slice(1), path / "rankings.parquet")
    with pytest.raises(ValueError, match="they were altered; remove the snapshot"):
        load_snapshot(path)


def test_a_damaged_table_is_refused_by_name(busy_traffic: Any, tmp_path: Path) -> None:
    snapshot = build_snapshot(fold(busy_traffic.events), tmp_path)
    path = snapshot_path(tmp_path, snapshot.id)
    (path / "prompts.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=r"prompts\.parquet cannot be read"):
        load_snapshot(path)


def test_a_directory_that_is_no_snapshot_is_refused(tmp_path: Path) -> None:
    for load in (load_snapshot, load_manifest):
        with pytest.raises(ValueError, match="is no snapshot"):
            load(tmp_path)


@pytest.mark.parametrize("name", ["", "..", "../x", "snapshot-1", "/etc", "snapshot-" + "0" * 17])
def test_nothing_but_a_snapshot_id_becomes_a_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="no snapshot id"):
        snapshot_path(tmp_path, name)
