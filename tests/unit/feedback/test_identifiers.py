"""Ids are unique, opaque where they must be, and the same for every retry where they must be."""

from __future__ import annotations

import re
import time
import uuid

from hypothesis import given
from hypothesis import strategies as st

from feedback.identifiers import (
    idempotent_id,
    new_ballot_id,
    new_choice_id,
    new_response_id,
    uuid7,
    vote_id,
)


def test_uuid7_is_version_7_of_the_rfc_variant_and_carries_the_time() -> None:
    before_ms = time.time_ns() // 1_000_000
    value = uuid.UUID(uuid7())
    assert value.version == 7
    assert value.variant == uuid.RFC_4122
    assert before_ms <= value.int >> 80 <= time.time_ns() // 1_000_000


def test_new_ids_do_not_repeat() -> None:
    for make in (uuid7, new_choice_id, new_response_id, new_ballot_id):
        assert len({make() for _ in range(2000)}) == 2000


def test_choice_ids_do_not_follow_a_sequence() -> None:
    """Two ids made in a row share no more than chance (CASES E9: no templated ids)."""
    first, second = (re.sub("^choice-", "", new_choice_id()) for _ in range(2))
    assert sum(a == b for a, b in zip(first, second, strict=True)) < 12


@given(st.text(), st.text(), st.text(), st.text())
def test_ids_of_different_pairs_differ(a: str, b: str, c: str, d: str) -> None:
    """Moving characters between ballot and voter, or scope and key, gives another id."""
    assert (vote_id(a, b) == vote_id(c, d)) == ((a, b) == (c, d))
    assert (idempotent_id(a, b) == idempotent_id(c, d)) == ((a, b) == (c, d))
