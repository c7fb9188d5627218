"""One byte form for one JSON value, so that equal content has equal hashes; knows no schema."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def canonical_json(value: Any) -> bytes:
    """Encode `value` with sorted keys, no spaces and ASCII escapes.

    Raises ValueError for NaN and infinities, which JSON cannot carry.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def readable_json(value: Any) -> bytes:
    """Encode `value` for a file that people read: sorted keys, two-space indent, final newline."""
    return (json.dumps(value, sort_keys=True, indent=2, allow_nan=False) + "\n").encode()


def digest(value: Mapping[str, Any] | list[Any]) -> str:
    """Return the SHA-256 of the canonical form, 64 lower-case hex digits."""
    return hashlib.sha256(canonical_json(value)).hexdigest()
