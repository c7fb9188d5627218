"""A real server process keeps what it acknowledged, and ends in time and in good order."""

import asyncio
import json
import signal
import threading
import time

import httpx
import pytest

from feedback.events.codec import decode
from feedback.registry import Registry
from feedback.spool import Spool


def events_of(data_dir, event_type):
    with Spool.open(data_dir / "spool.sqlite3") as spool:
        records, page = [], spool.read(0, 1000)
        while page:
            records += page
            page = spool.read(records[-1].sequence, 1000)
    events = [decode(record.payload) for record in records]
    return [event for event in events if event.type == event_type]


def ballot_of(client, url, n=3, **fields):
    body = {"model": "stable", "prompt": "Say something", "n": n, **fields}
    response = client.post(f"{url}/v1/completions", json=body)
    assert response.status_code == 200, response.text
    return response.json()["ballots"][0]


def vote_body(ballot):
    ranking = [[choice["choice_id"]] for choice in ballot["choices"]]
    return {"ballot": ballot["token"], "ranking": ranking}


class VotingClient(threading.Thread):
    """Votes without a pause until the server is gone; keeps what was acknowledged."""

    def __init__(self, url):
        super().__init__()
        self.url = url
        self.acknowledged = []
        self.ballot_ids = []

    def run(self):
        with httpx.Client(timeout=10) as client:
            try:
                while True:
                    ballot = ballot_of(client, self.url)
                    self.ballot_ids.append(ballot["id"])
                    url = f"{self.url}/v1/feedback/rankings"
                    response = client.post(url, json=vote_body(ballot))
                    assert response.status_code == 202
                    self.acknowledged.append(response.json()["vote_id"])
            except httpx.TransportError:
                return


def test_kill_nine_during_voting_loses_no_acknowledged_vote(tmp_path, spawn_server):
    acknowledged, ballot_ids = set(), set()
    for round_s in (0.4, 0.7, 1.0):
        server = spawn_server(tmp_path)
        clients = [VotingClient(server.url) for _ in range(4)]
        for client in clients:
            client.start()
        time.sleep(round_s)
        server.process.kill()
        for client in clients:
            client.join()
            acknowledged |= set(client.acknowledged)
            ballot_ids |= set(client.ballot_ids)
    assert len(acknowledged) > 20
    votes = events_of(tmp_path, "ranking.submitted")
    assert acknowledged <= {event.data.vote_id for event in votes}
    # A ballot never leaves before its completion is in the spool.
    served = {event.data.response_id for event in events_of(tmp_path, "completion.served")}
    assert all(set(event.data.ballot.response_ids) <= served for event in votes)
    # After a restart the same ballots still work.
    server = spawn_server(tmp_path)
    with httpx.Client() as client:
        assert client.get(f"{server.url}/readyz").status_code == 200
        response = client.post(
            f"{server.url}/v1/feedback/rankings", json=vote_body(ballot_of(client, server.url))
        )
        assert response.status_code == 202


def test_no_vote_is_accepted_and_no_ballot_leaves_before_its_sync(
    tmp_path, spawn_server, sync_shim
):
    server = spawn_server(tmp_path / "data", environment=sync_shim.environment)
    wal = "spool.sqlite3-wal"
    with httpx.Client(timeout=30) as client:
        ballot = ballot_of(client, server.url)
        for path, body in (
            ("/v1/feedback/rankings", vote_body(ballot)),
            ("/v1/completions", {"model": "stable", "prompt": "x", "n": 2}),
            ("/v1/feedback/demonstrations", {"prompt": "a", "completion": "b"}),
        ):
            num_synced = sync_shim.num_synced(wal)
            sync_shim.hold()
            answered = threading.Event()
            statuses = []

            def post(path=path, body=body, answered=answered, statuses=statuses):
                statuses.append(client.post(server.url + path, json=body).status_code)
                answered.set()

            thread = threading.Thread(target=post)
            thread.start()
            assert not answered.wait(0.4)
            assert sync_shim.num_synced(wal) == num_synced
            sync_shim.release()
            thread.join(20)
            assert statuses[0] in (200, 202)
            assert sync_shim.num_synced(wal) > num_synced


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_with_an_open_stream_it_ends_in_time_and_in_good_order(
    tmp_path, spawn_server, stop
):
    """CASES A19."""
    server = spawn_server(tmp_path, delay_s=0.02, grace_s=1.0)
    body = {"model": "stable", "prompt": "x", "max_tokens": 3000, "stream": True}
    with httpx.Client(timeout=30) as client:
        ballot = ballot_of(client, server.url, max_tokens=3)
        vote = client.post(f"{server.url}/v1/feedback/rankings", json=vote_body(ballot))
        assert vote.status_code == 202
        with client.stream("POST", f"{server.url}/v1/completions", json=body) as response:
            lines = response.iter_lines()
            next(lines)
            began_at = time.monotonic()
            server.process.send_signal(stop)
            said = [line for line in lines if line]
    assert json.loads(said[-1].removeprefix("data: "))["error"]["code"] == "shutting_down"
    assert len(said) > 10
    assert server.process.wait(10) == 0
    assert time.monotonic() - began_at < 5
    assert server.process.stdout.read() == "closed\n"
    assert len(events_of(tmp_path, "ranking.submitted")) == 1
    aborted = events_of(tmp_path, "completion.served")[-1]
    assert aborted.data.choices[0].delivery == "aborted"


def test_an_answer_that_ends_within_the_grace_period_is_whole(tmp_path, spawn_server):
    server = spawn_server(tmp_path, delay_s=0.02, grace_s=10.0)
    body = {"model": "stable", "prompt": "x", "max_tokens": 40}
    answers = []

    def ask():
        answers.append(httpx.post(f"{server.url}/v1/completions", json=body, timeout=30))

    thread = threading.Thread(target=ask)
    thread.start()
    time.sleep(0.3)
    server.process.terminate()
    thread.join(20)
    assert answers[0].status_code == 200
    assert answers[0].json()["usage"]["completion_tokens"] == 40
    assert server.process.wait(10) == 0


async def test_two_replicas_share_channels_ballots_and_keys(tmp_path, spawn_server):
    """CASES B16: both follow the registry; a ballot of one is good at the other."""
    one, other = spawn_server(tmp_path), spawn_server(tmp_path)
    async with httpx.AsyncClient(timeout=30) as client:
        body = {"model": "stable", "prompt": "x", "n": 2}
        answer = await client.post(f"{one.url}/v1/completions", json=body)
        ballot = answer.json()["ballots"][0]
        vote = await client.post(f"{other.url}/v1/feedback/rankings", json=vote_body(ballot))
        assert vote.status_code == 202
        registry = Registry.open(tmp_path)
        base_id = registry.base().adapter_id
        registry.promote("stable", base_id, "test", "again, to move the sequence")
        async with asyncio.timeout(10):
            for server in (one, other):
                while True:
                    ready = (await client.get(f"{server.url}/readyz")).json()
                    if ready["channels"]["stable"]["sequence"] == 1:
                        break
                    await asyncio.sleep(0.02)
        lists = [(await client.get(f"{server.url}/v1/models")).json() for server in (one, other)]
    names = [[card["id"] for card in listed["data"]] for listed in lists]
    assert names[0] == names[1]
