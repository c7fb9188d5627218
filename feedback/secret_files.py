"""Key files that only their owner can read; it does not know what the keys are for."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from feedback.durable_files import create_exclusively, replace_file

KEY_SIZE_BYTES = 32
_OWNER_ONLY = 0o600


def load_or_create(path: Path, make: Callable[[], bytes]) -> bytes:
    """Return the content of `path`, made once by whichever process comes first.

    The file is whole and has mode 0600 from its first moment; a loser of the race reads the
    winner's key.
    """
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        create_exclusively(path, make(), _OWNER_ONLY)
    return path.read_bytes()


def replace(path: Path, payload: bytes) -> None:
    """Replace a key file atomically, keeping it private."""
    replace_file(path, payload, _OWNER_ONLY)


def load_or_create_key(path: Path) -> bytes:
    """Return a 32-byte random key kept as hex in `path`.

    Raises:
        ValueError: the file holds something else.
    """
    text = load_or_create(path, lambda: os.urandom(KEY_SIZE_BYTES).hex().encode() + b"\n")
    try:
        key = bytes.fromhex(text.decode("ascii").strip())
    except ValueError:
        key = b""
    if len(key) != KEY_SIZE_BYTES:
        raise ValueError(
            f"{path} is not a key file: it must hold {2 * KEY_SIZE_BYTES} hex digits; "
            "restore it from a backup, for a new key gives every subject a new pseudonym"
        )
    return key
