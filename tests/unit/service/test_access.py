"""Open to this machine without keys, closed to everybody else; roles; no page of another site."""

import json
import time

import pytest

from service.access import (
    Access,
    Caller,
    create_key,
    is_loopback,
    read_keys,
    refuse_open_address,
    require_role,
)
from service.errors import NotAuthenticated, NotPermitted


@pytest.fixture
def keys_path(tmp_path):
    return tmp_path / "keys.json"


def ask(access, secret=None, host="127.0.0.1:8000", origin=None):
    return access.caller(secret and f"Bearer {secret}", host, origin)


def wait_for_change(access):
    """Make the next look at the file due, without waiting a second."""
    access._checked_at = time.monotonic() - 10


def test_without_keys_this_machine_may_do_everything(keys_path):
    assert ask(Access(keys_path, is_loopback=True)) == Caller("local", "admin")


def test_without_keys_another_address_lets_nobody_in(keys_path):
    with pytest.raises(NotAuthenticated):
        ask(Access(keys_path, is_loopback=False))
    with pytest.raises(ValueError, match="keys create"):
        refuse_open_address("0.0.0.0", keys_path)
    refuse_open_address("127.0.0.1", keys_path)
    create_key(keys_path, "admin")
    refuse_open_address("0.0.0.0", keys_path)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example"])
def test_a_name_rebound_to_this_address_is_refused(keys_path, host):
    with pytest.raises(NotPermitted, match="Host"):
        ask(Access(keys_path, is_loopback=True), host=host)


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://[bad"])
def test_a_page_of_another_site_is_refused_while_the_service_is_open(keys_path, origin):
    access = Access(keys_path, is_loopback=True)
    with pytest.raises(NotPermitted, match="Origin"):
        ask(access, origin=origin)
    for local in ("http://localhost:3000", "http://127.0.0.1:8000", "http://[::1]:80"):
        ask(access, origin=local)


def test_a_key_tells_who_calls_and_only_its_hash_is_kept(keys_path):
    key_id, secret = create_key(keys_path, "labeler")
    assert secret not in keys_path.read_text()
    assert keys_path.stat().st_mode & 0o077 == 0
    access = Access(keys_path, is_loopback=True)
    assert ask(access, secret, host="any.example", origin="https://any") == Caller(
        key_id, "labeler"
    )


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic abc", "Bearer il-wrong"])
def test_a_missing_or_wrong_key_is_refused(keys_path, header):
    create_key(keys_path, "client")
    with pytest.raises(NotAuthenticated):
        Access(keys_path, is_loopback=True).caller(header, "127.0.0.1", None)


def test_a_changed_file_is_read_again(keys_path):
    _, first = create_key(keys_path, "client")
    access = Access(keys_path, is_loopback=True)
    _, second = create_key(keys_path, "admin")
    wait_for_change(access)
    assert ask(access, second).role == "admin"
    document = json.loads(keys_path.read_text())
    keys_path.write_text(json.dumps({"keys": document["keys"][1:]}))
    wait_for_change(access)
    with pytest.raises(NotAuthenticated, match="revoked"):
        ask(access, first)


def test_the_first_key_closes_an_open_service(keys_path):
    access = Access(keys_path, is_loopback=True)
    create_key(keys_path, "admin")
    wait_for_change(access)
    with pytest.raises(NotAuthenticated):
        ask(access)


def test_a_file_that_breaks_keeps_the_keys_and_one_that_vanishes_opens_nothing(keys_path):
    _, secret = create_key(keys_path, "client")
    access = Access(keys_path, is_loopback=True)
    keys_path.write_text("{")
    wait_for_change(access)
    assert ask(access, secret).role == "client"
    keys_path.unlink()
    wait_for_change(access)
    for header in (None, secret):
        with pytest.raises(NotAuthenticated):
            ask(access, header)


@pytest.mark.parametrize("content", ["", "[]", '{"keys": [{"id": "x"}]}', '{"key": []}'])
def test_a_broken_file_at_start_is_an_error_that_names_it(keys_path, content):
    keys_path.write_text(content)
    with pytest.raises(ValueError, match=r"keys\.json"):
        Access(keys_path, is_loopback=True)


def test_a_role_that_does_not_exist_gets_no_key(keys_path):
    with pytest.raises(ValueError, match="role"):
        create_key(keys_path, "root")
    assert read_keys(keys_path) == {}


def test_roles_cover_those_below_them():
    require_role(Caller("k", "admin"), "labeler")
    require_role(Caller("k", "labeler"), "client")
    with pytest.raises(NotPermitted, match="admin"):
        require_role(Caller("k", "labeler"), "admin")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost"])
def test_loopback(host):
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org", ""])
def test_not_loopback(host):
    assert not is_loopback(host)


async def test_routes_ask_for_their_roles(start, registry):
    keys = registry.data_dir / "keys.json"
    secrets = {role: create_key(keys, role)[1] for role in ("client", "labeler", "admin")}
    running = await start()

    async def statuses(path):
        found = []
        for role in (None, *secrets):
            headers = {} if role is None else {"authorization": f"Bearer {secrets[role]}"}
            found.append((await running.client.get(path, headers=headers)).status_code)
        return found

    assert await statuses("/v1/models") == [401, 200, 200, 200]
    assert await statuses("/v1/feedback/ballots/next") == [401, 403, 204, 204]
    assert await statuses("/admin/adapters") == [401, 403, 403, 200]
    assert await statuses("/livez") == [200, 200, 200, 200]
    assert (await running.complete()).status_code == 401


async def test_a_ballot_casts_its_vote_without_a_key(start, registry):
    _, secret = create_key(registry.data_dir / "keys.json", "client")
    running = await start()
    running.client.headers["authorization"] = f"Bearer {secret}"
    ballot = await running.ballot(2)
    del running.client.headers["authorization"]
    assert (await running.vote(ballot)).status_code == 202
