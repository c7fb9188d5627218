"""Ballot claims to few bytes and back; it does not know encryption.

A K = 9 ballot must fit a 2 KB token, so field names are positions. Names that the voter must not
guess (adapter, arm) are padded to one width, and the whole to a multiple of 128 bytes: the length
of a token tells nothing about them.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from feedback.events.ballot import BallotChoice, BallotClaims

ENCODING_VERSION = 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_ADAPTER_WIDTH = 24
_ARM_WIDTH = 12
_STEP_BYTES = 128


def pack(claims: BallotClaims) -> bytes:
    """Return the claims as a padded JSON array."""
    place_of = {choice.choice_id: place for place, choice in enumerate(claims.choices)}
    fields = [
        ENCODING_VERSION,
        claims.ballot_id,
        claims.prompt_hash,
        claims.voter,
        claims.voter_role,
        claims.split_group,
        claims.experiment,
        (claims.issued_at - _EPOCH) // _MICROSECOND,
        (claims.expires_at - _EPOCH) // _MICROSECOND,
        list(claims.response_ids),
        [_pack_choice(choice, claims.response_ids) for choice in claims.choices],
        [place_of[choice_id] for choice_id in claims.shown_order],
        [arm.ljust(_ARM_WIDTH) for arm in claims.arms],
    ]
    packed = json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()
    return packed.ljust(-(-len(packed) // _STEP_BYTES) * _STEP_BYTES)


def unpack(packed: bytes) -> BallotClaims:
    """Read packed claims.

    Raises:
        ValueError: they were packed by another release, or are no claims.
    """
    fields = json.loads(packed)
    if not isinstance(fields, list) or not fields or fields[0] != ENCODING_VERSION:
        raise ValueError("the ballot was packed by another release: ask for a new one")
    (_, ballot_id, prompt_hash, voter, role, split_group, experiment) = fields[:7]
    (issued, expires, response_ids, choices, order, arms) = fields[7:]
    unpacked = [_unpack_choice(choice, response_ids) for choice in choices]
    return BallotClaims(
        ballot_id=ballot_id,
        response_ids=tuple(response_ids),
        prompt_hash=prompt_hash,
        choices=tuple(unpacked),
        shown_order=tuple(unpacked[place].choice_id for place in order),
        voter=voter,
        voter_role=role,
        split_group=split_group,
        experiment=experiment,
        arms=tuple(arm.rstrip() for arm in arms),
        issued_at=_EPOCH + issued * _MICROSECOND,
        expires_at=_EPOCH + expires * _MICROSECOND,
    )


def _pack_choice(choice: BallotChoice, response_ids: tuple[str, ...]) -> list[Any]:
    adapter = choice.adapter_id.ljust(_ADAPTER_WIDTH)
    return [choice.choice_id, adapter, choice.index, response_ids.index(choice.response_id)]


def _unpack_choice(packed: list[Any], response_ids: list[str]) -> BallotChoice:
    choice_id, adapter, index, response = packed
    return BallotChoice(
        choice_id=choice_id,
        adapter_id=adapter.rstrip(),
        index=index,
        response_id=response_ids[response],
    )
