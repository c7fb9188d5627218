"""A ballot token casts a vote only as it was issued, within its time, on any replica."""

from __future__ import annotations

import base64
import multiprocessing
import stat
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from hypothesis import given, settings
from hypothesis import strategies as st

from feedback.ballot_encoding import pack, unpack
from feedback.ballots import BallotKeys, BallotRefused
from feedback.events.ballot import BallotChoice, BallotClaims
from feedback.identifiers import new_ballot_id, new_choice_id, new_response_id

NOW = datetime(2026, 11, 30, 12, 0, 0, 123456, tzinfo=UTC)
LIFETIME = timedelta(days=7)


def make_claims(
    adapters: Sequence[str] = ("sft-0123456789abcdef", "ppo-0123456789abcdef"),
    *,
    issued_at: datetime = NOW,
    lifetime: timedelta = LIFETIME,
    experiment: str | None = None,
    is_composed: bool = False,
) -> BallotClaims:
    response_ids = [new_response_id() for _ in (adapters if is_composed else adapters[:1])]
    choices = tuple(
        BallotChoice(
            choice_id=new_choice_id(),
            adapter_id=adapter,
            index=index,
            response_id=response_ids[index if is_composed else 0],
        )
        for index, adapter in enumerate(adapters)
    )
    return BallotClaims(
        ballot_id=new_ballot_id(),
        response_ids=tuple(response_ids),
        prompt_hash="0123456789abcdef" * 2,
        choices=choices,
        shown_order=tuple(choice.choice_id for choice in reversed(choices)),
        voter="f" * 32,
        voter_role="labeler",
        split_group="e" * 32,
        experiment=experiment,
        arms=tuple("candidate" for _ in choices) if experiment else (),
        issued_at=issued_at,
        expires_at=issued_at + lifetime,
    )


@pytest.fixture
def keys(tmp_path: Path) -> BallotKeys:
    return BallotKeys.load_or_create(tmp_path / "secrets" / "ballots.json", LIFETIME)


def refusal(keys: BallotKeys, token: str, now: datetime = NOW) -> str:
    with pytest.raises(BallotRefused) as refused:
        keys.verify(token, now)
    return refused.value.reason


def test_a_token_gives_back_exactly_what_was_claimed(keys: BallotKeys) -> None:
    claims = make_claims(experiment="length-penalty")
    assert keys.verify(keys.issue(claims), NOW) == claims


@given(
    num_choices=st.integers(1, 9),
    is_composed=st.booleans(),
    experiment=st.none() | st.text(max_size=30),
    microseconds=st.integers(-(10**16), 10**16),
)
def test_packing_loses_nothing(
    num_choices: int, is_composed: bool, experiment: str | None, microseconds: int
) -> None:
    claims = make_claims(
        ["value-0123456789abcdef"] * num_choices,
        is_composed=is_composed,
        experiment=experiment,
        issued_at=NOW + timedelta(microseconds=microseconds),
    )
    assert unpack(pack(claims)) == claims


def test_the_largest_ballot_of_nine_fits_two_kilobytes(keys: BallotKeys) -> None:
    """Nine choices, each of another response and adapter, in an experiment with a long name."""
    claims = make_claims(
        [f"value-{index:016x}" for index in range(9)], experiment="e" * 48, is_composed=True
    )
    assert len(keys.issue(claims)) <= 2048


def test_a_token_shows_neither_adapter_nor_voter(keys: BallotKeys) -> None:
    claims = make_claims()
    raw = base64.urlsafe_b64decode(keys.issue(claims))
    assert claims.choices[0].adapter_id.encode() not in raw
    assert claims.voter.encode() not in raw


def test_the_length_of_a_token_does_not_tell_the_adapters_apart(keys: BallotKeys) -> None:
    """Else a voter could see which ballots compare a policy with itself."""
    pairs = [("base-0123456789abcdef",) * 2, ("rm-0123456789abcdef", "value-fedcba9876543210")]
    lengths = {len(keys.issue(make_claims(pair, experiment="x"))) for pair in pairs}
    assert len(lengths) == 1


@settings(max_examples=50)
@given(data=st.data())
def test_a_token_altered_in_any_character_is_refused(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    keys = BallotKeys.load_or_create(tmp_path_factory.mktemp("keys") / "ballots.json")
    token = keys.issue(make_claims())
    place = data.draw(st.integers(0, len(token.rstrip("=")) - 3))
    other = data.draw(st.sampled_from("ABCxyz019-_").filter(lambda c: c != token[place]))
    altered = token[:place] + other + token[place + 1 :]
    assert refusal(keys, altered) == "forged"


def test_a_token_of_another_service_is_forged(keys: BallotKeys, tmp_path: Path) -> None:
    other = BallotKeys.load_or_create(tmp_path / "other.json")
    assert refusal(keys, other.issue(make_claims())) == "forged"


@pytest.mark.parametrize(
    ("token", "reason"),
    [("", "malformed"), ("a" * 20_000, "malformed"), ("tökén", "malformed"), ("abc", "forged")],
)
def test_what_is_no_token_is_refused(keys: BallotKeys, token: str, reason: str) -> None:
    assert refusal(keys, token) == reason


def test_a_token_is_refused_after_its_expiry_and_not_at_it(keys: BallotKeys) -> None:
    claims = make_claims(lifetime=timedelta(hours=1))
    token = keys.issue(claims)
    assert keys.verify(token, claims.expires_at) == claims
    assert refusal(keys, token, claims.expires_at + timedelta(microseconds=1)) == "expired"


def test_a_ballot_may_not_outlive_a_retired_key(keys: BallotKeys) -> None:
    with pytest.raises(ValueError, match="expires_at"):
        keys.issue(make_claims(lifetime=LIFETIME + timedelta(seconds=1)))


def test_a_token_issued_just_before_a_rotation_lives_out_its_life(keys: BallotKeys) -> None:
    claims = make_claims()
    token = keys.issue(claims)
    keys.rotate(NOW)
    keys.rotate(NOW + timedelta(days=1))
    assert keys.verify(token, NOW + LIFETIME) == claims


def test_a_stolen_retired_key_is_worth_nothing_after_one_lifetime(keys: BallotKeys) -> None:
    """Issue a ballot dated later with a key that was retired: it must not pass for ever."""
    later = NOW + LIFETIME + timedelta(seconds=1)
    stolen = keys._keys[0].secret
    keys.rotate(NOW)
    forged = Fernet(stolen).encrypt(pack(make_claims(issued_at=later))).decode()
    assert refusal(keys, forged, later) == "forged"


def test_a_rotation_drops_keys_that_no_live_ballot_needs(keys: BallotKeys) -> None:
    keys.rotate(NOW)
    keys.rotate(NOW + timedelta(days=3))
    assert len(keys._keys) == 3
    keys.rotate(NOW + timedelta(days=20))
    assert len(keys._keys) == 2


def test_a_replica_follows_a_rotation_by_another(tmp_path: Path) -> None:
    path = tmp_path / "ballots.json"
    one, other = BallotKeys.load_or_create(path), BallotKeys.load_or_create(path)
    one.rotate(NOW)
    claims = make_claims()
    assert other.verify(one.issue(claims), NOW) == claims
    assert one.verify(other.issue(claims), NOW) == claims


def _issue_in_process(path: Path, claims: BallotClaims) -> str:
    return BallotKeys.load_or_create(path).issue(claims)


def test_processes_that_start_together_agree_on_one_key(tmp_path: Path) -> None:
    """No process may keep a key that the others did not see: all race to create the file."""
    path = tmp_path / "secrets" / "ballots.json"
    claims = make_claims()
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        tokens = pool.starmap(_issue_in_process, [(path, claims)] * 6)
    keys = BallotKeys.load_or_create(path)
    assert [keys.verify(token, NOW) for token in tokens] == [claims] * 6


def test_the_key_file_is_private_from_creation_through_rotation(
    keys: BallotKeys, tmp_path: Path
) -> None:
    path = tmp_path / "secrets" / "ballots.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    keys.rotate(NOW)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("content", [b"", b"{}", b'{"keys": []}', b'{"keys": [{"secret": "x"}]}'])
def test_a_damaged_key_file_is_named_and_its_content_is_not_shown(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "ballots.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"ballots\.json is not a file of ballot keys"):
        BallotKeys.load_or_create(path)
