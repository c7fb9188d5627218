"""Files and directories appear whole or not at all."""

import os
import time
from pathlib import Path

import pytest

from feedback.durable_files import (
    create_exclusively,
    move_directory,
    new_staging_directory,
    remove_stale_entries,
    replace_file,
)


def test_a_replaced_file_is_the_new_one_and_nothing_is_left_aside(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    for payload in (b"one", b"two"):
        replace_file(path, payload)
        assert path.read_bytes() == payload
    assert list(path.parent.iterdir()) == [path]


def test_a_reader_who_opened_the_old_file_keeps_reading_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    replace_file(path, b"old" * 1000)
    with path.open("rb") as reader:
        replace_file(path, b"new")
        assert reader.read() == b"old" * 1000


def test_only_the_first_creates(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert create_exclusively(path, b"first")
    assert not create_exclusively(path, b"second")
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]


def test_a_directory_moves_in_once(tmp_path: Path) -> None:
    target = tmp_path / "target"
    for number, is_first in ((1, True), (2, False)):
        staging = new_staging_directory(tmp_path / "incoming")
        (staging / "nested").mkdir()
        (staging / "nested" / "file").write_text(str(number))
        assert move_directory(staging, target) == is_first
    assert (target / "nested" / "file").read_text() == "1"


def test_another_fault_of_the_file_system_is_not_taken_for_an_existing_target(
    tmp_path: Path,
) -> None:
    staging = new_staging_directory(tmp_path / "incoming")
    with pytest.raises(FileNotFoundError):
        move_directory(staging, tmp_path / "absent" / "target")


def test_only_old_entries_are_swept(tmp_path: Path) -> None:
    remove_stale_entries(tmp_path / "absent", older_than_s=0)
    young, old = new_staging_directory(tmp_path), new_staging_directory(tmp_path)
    (old / "file").write_text("x")
    os.utime(old, (time.time() - 100,) * 2)
    remove_stale_entries(tmp_path, older_than_s=50)
    assert list(tmp_path.iterdir()) == [young]
