"""Names for events, votes, responses and choices; it does not know what any of them contains."""

from __future__ import annotations

import os
import time
import uuid

_EVENT_NAMESPACE = uuid.UUID("6e0c3f1a-9d55-5b0e-8a43-2f4b6d1c7e90")
_VOTE_NAMESPACE = uuid.UUID("b3a7d5e2-41c8-5f6b-9e0d-7c2a85f1436d")


def uuid7() -> str:
    """Return a new UUIDv7 (RFC 9562, 5.7): 48 bits of Unix milliseconds, then 74 random bits."""
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds << 80) | int.from_bytes(os.urandom(10), "big")
    value = (value & ~(0xF << 76)) | (0x7 << 76)
    value = (value & ~(0x3 << 62)) | (0x2 << 62)
    return str(uuid.UUID(int=value))


def idempotent_id(key: str, scope: str = "") -> str:
    """Return the event id of a caller's `Idempotency-Key`: the same for every retry.

    Pass the caller's pseudonym as `scope`, so that two callers who choose the same key do not
    collide.
    """
    return str(uuid.uuid5(_EVENT_NAMESPACE, f"{len(scope)}:{scope}{key}"))


def vote_id(ballot_id: str, voter: str) -> str:
    """Return the id of a voter's one live vote on a ballot."""
    return str(uuid.uuid5(_VOTE_NAMESPACE, f"{len(ballot_id)}:{ballot_id}{voter}"))


def new_choice_id() -> str:
    """Return an opaque choice id: random, so it tells neither adapter nor order (CASES E9)."""
    return f"choice-{os.urandom(12).hex()}"


def new_response_id() -> str:
    """Return the id of one completion response, in OpenAI's `cmpl-` form."""
    return f"cmpl-{uuid.UUID(uuid7()).hex}"


def new_ballot_id() -> str:
    """Return an opaque ballot id, random for the same reason as a choice id."""
    return f"ballot-{os.urandom(12).hex()}"
