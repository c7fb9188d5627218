"""Names for people that lead back to nobody without the key; knows no event.

Two keys: the pseudonym key may be rotated (people then get new names), the split key never, so a
person stays in train, judge or gate for ever.
"""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

from feedback.secret_files import load_or_create_key

_PSEUDONYM_DIGITS = 32


class Pseudonyms:
    """Keyed names of an API key's users."""

    def __init__(self, key: bytes, split_key: bytes) -> None:
        self._key = key
        self._split_key = split_key

    @classmethod
    def load_or_create(cls, secrets_dir: Path) -> Pseudonyms:
        """Read both keys from `secrets_dir`, making them on first use.

        Raises:
            ValueError: a key file is damaged.
        """
        return cls(
            load_or_create_key(secrets_dir / "pseudonym.key"),
            load_or_create_key(secrets_dir / "split.key"),
        )

    def of(self, api_key_id: str, user: str | None = None) -> str:
        """Return the pseudonym of a key's `user`, or of the key itself where `user` is absent."""
        return _keyed_name(self._key, "user", api_key_id, user)

    def org(self, api_key_id: str) -> str:
        """Return the pseudonym of the organisation behind an API key."""
        return _keyed_name(self._key, "org", api_key_id, None)

    def split_group(self, api_key_id: str, user: str | None = None) -> str:
        """Return the name by which splits keep a person together."""
        return _keyed_name(self._split_key, "split", api_key_id, user)


def _keyed_name(key: bytes, purpose: str, api_key_id: str, user: str | None) -> str:
    """HMAC-SHA256, first 128 bits; lengths keep (`a`, `bc`) and (`ab`, `c`) apart."""
    subject = f"{purpose}\n{len(api_key_id)}:{api_key_id}"
    if user is not None:
        subject += f"\n{user}"
    digest = hmac.new(key, subject.encode("utf-8", "surrogatepass"), hashlib.sha256)
    return digest.hexdigest()[:_PSEUDONYM_DIGITS]
