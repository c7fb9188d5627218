"""The file of ballot keys: the newest issues, retired ones still verify; knows no ballot."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

from cryptography.fernet import Fernet
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, field_validator

from feedback.secret_files import replace


class BallotKey(BaseModel):
    """One Fernet key. Example: {"secret": "b64...", "retired_at": "2026-11-30T12:00:00Z"}."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    secret: str = Field(repr=False)
    retired_at: AwareDatetime | None = None

    @field_validator("secret")
    @classmethod
    def _is_fernet_key(cls, secret: str) -> str:
        Fernet(secret)
        return secret

    def is_valid(self, now: datetime, lifetime: timedelta) -> bool:
        """Whether a ballot of this key can still be alive."""
        return self.retired_at is None or now <= self.retired_at + lifetime


class _KeyFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    keys: tuple[BallotKey, ...] = Field(min_length=1)


def first_key_file() -> bytes:
    """Return the content of a key file with one new key."""
    return _encode((_new_key(),))


def read_keys(path: Path) -> tuple[BallotKey, ...]:
    """Return the keys, the issuing one first.

    Raises:
        ValueError: the file holds no keys.
    """
    try:
        return _KeyFile.model_validate_json(path.read_bytes()).keys
    except ValidationError as error:
        raise ValueError(
            f"{path} is not a file of ballot keys: restore it from a backup, or remove it and "
            "accept that every open ballot is refused"
        ) from error


def rotate_keys(path: Path, lifetime: timedelta, now: datetime) -> None:
    """Put a new key first, retire the one before, and drop those retired a lifetime ago."""
    with _locked(path):
        current, *retired = read_keys(path)
        kept = [key for key in retired if key.is_valid(now, lifetime)]
        retiring = current.model_copy(update={"retired_at": now})
        replace(path, _encode((_new_key(), retiring, *kept)))


def _new_key() -> BallotKey:
    return BallotKey(secret=Fernet.generate_key().decode())


def _encode(keys: tuple[BallotKey, ...]) -> bytes:
    return _KeyFile(keys=keys).model_dump_json(indent=2).encode() + b"\n"


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Two rotations at once would drop a key: the second waits for the first."""
    with path.with_name(path.name + ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
