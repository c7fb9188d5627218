"""Ballot tokens: issued by one replica, verified by any, without a look-up.

A token is a capability: who holds it may cast its voter's vote. It does not know HTTP, nor
whether a vote was cast.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from feedback.ballot_encoding import pack, unpack
from feedback.ballot_key_file import BallotKey, first_key_file, read_keys, rotate_keys
from feedback.events.ballot import BallotClaims
from feedback.secret_files import load_or_create

DEFAULT_LIFETIME = timedelta(days=7)
_MAX_TOKEN_CHARS = 16_384

RefusalReason = Literal["malformed", "forged", "expired", "unknown_version"]


class BallotRefused(ValueError):
    """The token casts no vote; `reason` is one word of `RefusalReason`."""

    def __init__(self, reason: RefusalReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class BallotKeys:
    """The keys of ballot tokens, shared by all replicas through one file.

    The file is read again when it changes, so a rotation by one process reaches the others.
    """

    def __init__(self, path: Path, lifetime: timedelta) -> None:
        self._path = path
        self._lifetime = lifetime
        self._file_state: tuple[int, int] | None = None
        self._keys: tuple[BallotKey, ...] = ()
        self._reload_if_changed()

    @classmethod
    def load_or_create(cls, path: Path, lifetime: timedelta = DEFAULT_LIFETIME) -> BallotKeys:
        """Open the key file, making it (mode 0600) on first use.

        Args:
            path: the key file.
            lifetime: the longest a ballot may live; retired keys stay valid that long.

        Raises:
            ValueError: the key file is damaged.
        """
        load_or_create(path, first_key_file)
        return cls(path, lifetime)

    def issue(self, claims: BallotClaims) -> str:
        """Return the encrypted token of these claims (<= 2 KB at K = 9).

        Raises:
            ValueError: the ballot would outlive the keys.
        """
        if claims.expires_at - claims.issued_at > self._lifetime:
            raise ValueError(
                f"ballot.expires_at is more than {self._lifetime} after issued_at: a ballot may "
                "not outlive a retired key; shorten it or raise the ballot lifetime"
            )
        self._reload_if_changed()
        return Fernet(self._keys[0].secret).encrypt(pack(claims)).decode()

    def verify(self, token: str, now: datetime | None = None) -> BallotClaims:
        """Return what the token claims.

        Raises:
            BallotRefused: with the reason malformed, forged (altered, of another service or of a
                key retired too long ago), expired or unknown_version.
        """
        now = now if now is not None else datetime.now(UTC)
        claims = self._open(token, now)
        if claims.has_expired(now):
            raise BallotRefused("expired", f"ballot expired at {claims.expires_at.isoformat()}")
        return claims

    def rotate(self, now: datetime | None = None) -> None:
        """Issue with a new key from now on; the one in use stays valid for one lifetime."""
        rotate_keys(self._path, self._lifetime, now if now is not None else datetime.now(UTC))
        self._reload_if_changed()

    def _open(self, token: str, now: datetime) -> BallotClaims:
        if not token or len(token) > _MAX_TOKEN_CHARS or not token.isascii():
            raise BallotRefused("malformed", "ballot is not a token: send it as it was received")
        self._reload_if_changed()
        valid = [Fernet(key.secret) for key in self._keys if key.is_valid(now, self._lifetime)]
        try:
            packed = MultiFernet(valid).decrypt(token)
        except InvalidToken:
            raise BallotRefused(
                "forged", "ballot was not issued here, or was altered: send it as it was received"
            ) from None
        try:
            return unpack(packed)
        except ValueError as error:
            raise BallotRefused("unknown_version", str(error)) from error

    def _reload_if_changed(self) -> None:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            if not self._keys:
                raise
            return  # a mounted secret may vanish for a moment while it is replaced
        state = (status.st_ino, status.st_mtime_ns)
        if state != self._file_state:
            self._keys = read_keys(self._path)
            self._file_state = state
