"""Who may do what: API keys by role from a file of hashes; knows no route.

Without any key the service is open to everybody on loopback and closed to everybody elsewhere.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from feedback.events.record import Role
from service.errors import NotAuthenticated, NotPermitted

log = structlog.get_logger(__name__)

_RANK: Mapping[Role, int] = {"client": 0, "labeler": 1, "admin": 2}
_RECHECK_INTERVAL_S = 1.0
LOCAL_KEY_ID = "local"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request: the API key's id (not its secret) and role."""

    key_id: str
    role: Role

    def may(self, role: Role) -> bool:
        """Say whether the caller's role covers this one: admin > labeler > client."""
        return _RANK[self.role] >= _RANK[role]


class _Key(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    role: Role
    sha256: str


class _KeysFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    keys: list[_Key]


class Access:
    """The keys file, read again when it changes.

    A broken file at start is an error. One that breaks later is logged, and the keys read last
    stay in force; one that is emptied or removed closes the service instead of opening it.
    """

    def __init__(self, keys_path: Path, *, is_loopback: bool) -> None:
        self._path = keys_path
        self._is_loopback = is_loopback
        self._stamp: tuple[int, ...] | None = None
        self._checked_at = time.monotonic()
        self._callers = read_keys(keys_path)
        self._stamp = _stamp(keys_path)
        self._is_open = is_loopback and not self._callers

    def caller(self, authorization: str | None, host: str | None, origin: str | None) -> Caller:
        """Return who sends a request with these headers.

        Raises:
            NotAuthenticated: keys exist and the request carries none of them.
            NotPermitted: the service is open, but the request comes from a page of another site.
        """
        self._reread()
        if self._is_open:
            _require_local_page(host, origin)
            return Caller(LOCAL_KEY_ID, "admin")
        scheme, _, secret = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not secret:
            raise NotAuthenticated("send an API key as 'Authorization: Bearer KEY'")
        found = self._callers.get(_hash(secret.strip()))
        if found is None:
            raise NotAuthenticated("this API key is unknown or was revoked")
        return found

    def _reread(self) -> None:
        now = time.monotonic()
        if now - self._checked_at < _RECHECK_INTERVAL_S:
            return
        self._checked_at = now
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._callers = read_keys(self._path)
        except ValueError:
            log.error("keys_file_broken", path=str(self._path))
            return
        self._is_open = self._is_open and not self._callers
        log.info("keys_file_read", num_keys=len(self._callers))


def require_role(caller: Caller, role: Role) -> None:
    """Raise NotPermitted unless the caller's role covers this one."""
    if not caller.may(role):
        raise NotPermitted(f"this needs role {role}; the key has role {caller.role}")


def refuse_open_address(host: str, keys_path: Path) -> None:
    """Raise ValueError if the service would listen beyond loopback without any API key."""
    if not is_loopback(host) and not read_keys(keys_path):
        raise ValueError(
            f"host {host} is reachable from other machines and {keys_path} holds no API key; "
            "create one with `instructloop keys create --role admin` or listen on 127.0.0.1"
        )


def is_loopback(host: str) -> bool:
    """Say whether an address to listen on can only be reached from this machine."""
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def create_key(keys_path: Path, role: Role) -> tuple[str, str]:
    """Add a key to the file and return (key id, secret); only the secret's hash is kept.

    Raises:
        ValueError: the role is unknown, or the file exists and cannot be read.
    """
    if role not in _RANK:
        raise ValueError(f"role {role!r} is unknown; use client, labeler or admin")
    document = _read_document(keys_path)
    key_id, secret = f"key-{secrets.token_hex(4)}", f"il-{secrets.token_urlsafe(32)}"
    key = _Key(id=key_id, role=role, sha256=_hash(secret))
    _write(keys_path, _KeysFile(keys=[*document.keys, key]))
    return key_id, secret


def read_keys(keys_path: Path) -> dict[str, Caller]:
    """Return the callers by the hash of their key; none if there is no file.

    Raises:
        ValueError: the file cannot be read as a keys file.
    """
    return {key.sha256: Caller(key.id, key.role) for key in _read_document(keys_path).keys}


def _read_document(keys_path: Path) -> _KeysFile:
    try:
        return _KeysFile.model_validate_json(keys_path.read_bytes())
    except FileNotFoundError:
        return _KeysFile(keys=[])
    except (ValidationError, OSError) as error:
        raise ValueError(
            f"{keys_path} is no keys file; it must hold "
            '{"keys": [{"id": ..., "role": ..., "sha256": ...}]}'
        ) from error


def _write(keys_path: Path, document: _KeysFile) -> None:
    keys_path.parent.mkdir(parents=True, exist_ok=True)
    aside = keys_path.with_name(f".{keys_path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(document.model_dump(), file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(keys_path)


def _hash(secret: str) -> str:
    # Keys are 256 random bits: a fast hash is enough, there is nothing to guess.
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _require_local_page(host: str | None, origin: str | None) -> None:
    """Keep other sites' pages, and names rebound to this address, from using an open service."""
    for header, value in (("Host", f"//{host}" if host else None), ("Origin", origin)):
        if value is not None and not _is_local_authority(value):
            raise NotPermitted(
                f"the {header} header is not local and the service has no API keys; "
                "create a key with `instructloop keys create` to allow other origins"
            )


def _is_local_authority(url: str) -> bool:
    try:
        hostname = urlsplit(url).hostname
        return hostname is not None and is_loopback(hostname)
    except ValueError:
        return False
