"""Pseudonyms are stable, apart for different people, and lead back to nobody."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback.pseudonyms import Pseudonyms

PSEUDONYMS = Pseudonyms(b"k" * 32, b"s" * 32)


@given(st.text(), st.text() | st.none(), st.text(), st.text() | st.none())
def test_two_people_share_no_name(a: str, b: str | None, c: str, d: str | None) -> None:
    assert (PSEUDONYMS.of(a, b) == PSEUDONYMS.of(c, d)) == ((a, b) == (c, d))
    assert (PSEUDONYMS.split_group(a, b) == PSEUDONYMS.split_group(c, d)) == ((a, b) == (c, d))


def test_an_absent_user_is_not_the_empty_user() -> None:
    assert PSEUDONYMS.of("key") != PSEUDONYMS.of("key", "")


def test_an_organisation_is_not_its_keys_own_user() -> None:
    """Else erasing what a key did without a user name would erase all of its users."""
    assert PSEUDONYMS.org("key") != PSEUDONYMS.of("key")


def test_another_pseudonym_key_renames_people_and_leaves_their_split() -> None:
    rotated = Pseudonyms(b"K" * 32, b"s" * 32)
    assert rotated.of("key", "ann") != PSEUDONYMS.of("key", "ann")
    assert rotated.split_group("key", "ann") == PSEUDONYMS.split_group("key", "ann")


def test_keys_are_made_once_and_kept_private(tmp_path: Path) -> None:
    secrets_dir = tmp_path / "secrets"
    first = Pseudonyms.load_or_create(secrets_dir).of("key", "ann")
    assert Pseudonyms.load_or_create(secrets_dir).of("key", "ann") == first
    modes = {stat.S_IMODE(path.stat().st_mode) for path in secrets_dir.iterdir()}
    assert modes == {0o600}


def test_two_installations_name_people_differently(tmp_path: Path) -> None:
    one, other = (Pseudonyms.load_or_create(tmp_path / name) for name in ("one", "other"))
    assert one.of("key", "ann") != other.of("key", "ann")


@pytest.mark.parametrize("content", ["", "00", "zz" * 32])
def test_a_damaged_key_file_is_refused_by_name(tmp_path: Path, content: str) -> None:
    (tmp_path / "pseudonym.key").write_text(content)
    with pytest.raises(ValueError, match=r"pseudonym\.key is not a key file"):
        Pseudonyms.load_or_create(tmp_path)
