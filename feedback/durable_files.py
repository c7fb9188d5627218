"""Write files and directories that a crash or a reader never sees half of; knows no content.

Everything is built beside its final name on the same file system, fsynced, and then made visible
by one atomic system call: rename(2) to replace or move in, link(2) to create exclusively.
"""

import errno
import os
import shutil
import time
import uuid
from pathlib import Path


def fsync_directory(directory: Path) -> None:
    """Make the names in `directory` durable, so that a rename survives a power cut."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, payload: bytes, mode: int = 0o666) -> None:
    """Write `payload` to `path`; readers see the old file or the whole new one.

    `mode` holds from the file's first moment (less the umask): 0o600 for secrets.
    """
    aside = _write_aside(path.parent, payload, mode)
    aside.replace(path)
    fsync_directory(path.parent)


def create_exclusively(path: Path, payload: bytes, mode: int = 0o666) -> bool:
    """Create `path` whole, or return False when it exists already (link(2) never replaces)."""
    aside = _write_aside(path.parent, payload, mode)
    try:
        os.link(aside, path)
    except FileExistsError:
        return False
    finally:
        aside.unlink()
    fsync_directory(path.parent)
    return True


def move_directory(staging: Path, target: Path) -> bool:
    """Fsync the tree `staging` and rename it to `target`; False when `target` exists already."""
    _fsync_tree(staging)
    try:
        staging.rename(target)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise
        return False
    fsync_directory(target.parent)
    return True


def new_staging_directory(incoming: Path) -> Path:
    """Make an empty directory of a fresh name under `incoming`."""
    staging = incoming / uuid.uuid4().hex
    staging.mkdir(parents=True)
    return staging


def remove_stale_entries(incoming: Path, older_than_s: float) -> None:
    """Delete what crashed writers left under `incoming`; younger entries may still be in use."""
    oldest_kept = time.time() - older_than_s
    for entry in incoming.iterdir() if incoming.is_dir() else ():
        try:
            if entry.stat().st_mtime < oldest_kept:
                shutil.rmtree(entry)
        except FileNotFoundError:
            continue  # its writer just finished, or another process swept it


def _write_aside(directory: Path, payload: bytes, mode: int) -> Path:
    if not directory.is_dir():
        directory.mkdir(parents=True, exist_ok=True)
        fsync_directory(directory.parent)
    aside = directory / f".{uuid.uuid4().hex}.tmp"
    with open(aside, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
        file.write(payload)
        file.flush()
        os.fsync(file.fileno())
    return aside


def _fsync_tree(directory: Path) -> None:
    for path in directory.rglob("*"):
        if path.is_dir():
            fsync_directory(path)
        else:
            with path.open("rb") as file:
                os.fsync(file.fileno())
    fsync_directory(directory)
