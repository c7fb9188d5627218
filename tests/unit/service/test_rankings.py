"""One live vote per ballot and voter; nothing is accepted that is not one ranking of the ballot."""

import asyncio
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta

import pytest

from feedback.ballots import BallotKeys
from feedback.identifiers import vote_id


def ids_of(ballot):
    return [choice["choice_id"] for choice in ballot["choices"]]


def error_of(response, status):
    assert response.status_code == status, response.text
    return response.json()["error"]


async def test_a_vote_is_accepted_and_is_in_the_log_with_its_ballot(running):
    ballot = await running.ballot(3)
    first, second, third = ids_of(ballot)
    fields = {
        "ranking": [[second], [third, first]],
        "ratings": {first: {"likert": 2, "flags": {"hallucination": True}}},
        "rationale": "second is best",
        "duration_ms": 1234,
        "prompt_annotations": {"ambiguous": False},
    }
    response = await running.vote(ballot, **fields)
    assert response.status_code == 202
    (event,) = running.events("ranking.submitted")
    vote = event.data
    assert response.json() == {
        "vote_id": vote.vote_id,
        "ballot_id": ballot["id"],
        "status": "accepted",
    }
    assert vote.vote_id == vote_id(ballot["id"], vote.voter)
    assert vote.tie_groups == ((second,), (third, first))
    assert vote.ballot.shown_order == (first, second, third)
    assert vote.ratings[0].likert == 2
    assert vote.ratings[0].flags.hallucination
    assert vote.prompt_annotations.ambiguous is False
    assert (vote.rationale, vote.duration_ms) == ("second is best", 1234)


async def test_voter_and_author_are_the_same_pseudonym(running):
    ballot = await running.ballot(2, user="ann-the-user")
    await running.vote(ballot)
    (served,) = running.events("completion.served")
    (vote,) = running.events("ranking.submitted")
    assert vote.data.voter == served.data.user
    assert "ann-the-user" not in vote.model_dump_json()


async def test_every_retry_gets_the_same_answer_and_adds_no_event(running):
    ballot = await running.ballot(3)
    responses = [await running.vote(ballot) for _ in range(3)]
    responses += await asyncio.gather(*(running.vote(ballot) for _ in range(5)))
    assert {response.text for response in responses} == {responses[0].text}
    assert len(running.events("ranking.submitted")) == 1


async def test_a_change_of_mind_and_back_is_kept_in_order(running):
    ballot = await running.ballot(2)
    one, other = ids_of(ballot)
    for ranking in ([[one], [other]], [[other], [one]], [[one], [other]]):
        assert (await running.vote(ballot, ranking=ranking)).status_code == 202
    events = running.events("ranking.submitted")
    assert [event.data.tie_groups[0][0] for event in events] == [one, other, one]
    assert len({event.data.vote_id for event in events}) == 1
    assert sorted(event.time for event in events) == [event.time for event in events]


async def test_an_idempotency_key_does_not_lose_a_second_different_vote(running):
    ballot = await running.ballot(2)
    one, other = ids_of(ballot)
    for ranking in ([[one], [other]], [[other], [one]]):
        body = {"ballot": ballot["token"], "ranking": ranking}
        headers = {"Idempotency-Key": "k"}
        await running.client.post("/v1/feedback/rankings", json=body, headers=headers)
    assert len(running.events("ranking.submitted")) == 2


async def test_all_bad_needs_no_order(running):
    ballot = await running.ballot(3)
    response = await running.vote(ballot, ranking=[], verdict="all_bad")
    assert response.status_code == 202
    assert error_of(await running.vote(ballot, ranking=[]), 400)["param"] == "ranking"


async def test_a_ranking_that_is_no_partition_names_the_choice(running):
    ballot = await running.ballot(3)
    a, b, c = ids_of(ballot)
    for ranking, named in (
        ([[a], [b]], c),
        ([[a], [b], [c, a]], a),
        ([[a], [b], [c], ["choice-x"]], "choice-x"),
    ):
        error = error_of(await running.vote(ballot, ranking=ranking), 400)
        assert error["param"] == "ranking"
        assert named in error["message"]
    error = error_of(await running.vote(ballot, ranking=[[a], [], [b, c]]), 400)
    assert "empty" in error["message"]
    assert running.events("ranking.submitted") == []


async def test_ratings_of_strangers_and_unknown_flags_are_refused(running):
    ballot = await running.ballot(2)
    first = ids_of(ballot)[0]
    for ratings in (
        {"choice-x": {"likert": 3}},
        {first: {"likert": 8}},
        {first: {"flags": {"nice": True}}},
        {first: {"flags": {"hallucination": "yes"}}},
    ):
        error = error_of(await running.vote(ballot, ratings=ratings), 400)
        assert error["param"].startswith("ratings")


async def test_altered_and_foreign_tokens_are_refused_as_forged(running, tmp_path):
    ballot = await running.ballot(2)
    token = ballot["token"]
    altered = token[:40] + ("A" if token[40] != "A" else "B") + token[41:]
    claims = running.service.app.state.service.dependencies.ballot_keys.verify(token)
    foreign = BallotKeys.load_or_create(tmp_path / "other.json").issue(claims)
    for bad in (altered, foreign, token[:-8]):
        error = error_of(await running.vote({**ballot, "token": bad}), 400)
        assert (error["param"], error["code"]) == ("ballot", "ballot_forged")
    for bad in ("", "ü", "x" * 100_000):
        assert error_of(await running.vote({**ballot, "token": bad}), 400)["param"] == "ballot"


async def test_an_expired_ballot_is_gone(start):
    now = [datetime.now(UTC)]
    running = await start(service_fields={"clock": lambda: now[0]})
    ballot = await running.ballot(2)
    now[0] += timedelta(days=8)
    assert error_of(await running.vote(ballot), 410)["code"] == "ballot_expired"


async def test_after_reveal_the_ballot_is_closed_also_after_a_restart(start, running):
    ballot = await running.ballot(2)
    await running.vote(ballot)
    path = f"/v1/feedback/ballots/{ballot['id']}/reveal"
    revealed = await running.client.post(path, json={"ballot": ballot["token"]})
    assert revealed.status_code == 200
    assert {choice["adapter_id"] for choice in revealed.json()["choices"]} == {
        running.engine.base.adapter_id
    }
    assert error_of(await running.vote(ballot), 409)["code"] == "ballot_revealed"
    restarted = await start()
    assert error_of(await restarted.vote(ballot), 409)["code"] == "ballot_revealed"
    assert len(running.events("ballot.revealed")) == 1


class FlakySpool:
    """A spool whose disk can be full."""

    def __init__(self, spool):
        self.spool = spool
        self.is_full = False

    def append(self, event):
        if not self.is_full:
            return self.spool.append(event)
        future = Future()
        future.set_exception(OSError("no space left on device"))
        return future


@pytest.fixture
async def flaky(start):
    """A service over a flaky spool, and that spool."""
    spools = []

    def event_log_over(spool):
        spools.append(FlakySpool(spool))
        return spools[0]

    running = await start(service_fields={"event_log_over": event_log_over})
    return running, spools[0]


async def test_a_disk_that_fails_gives_503_and_a_retry_is_not_taken_for_accepted(flaky):
    running, spool = flaky
    ballot = await running.ballot(2)
    spool.is_full = True
    for _ in range(2):
        response = await running.vote(ballot)
        assert error_of(response, 503)["code"] == "not_durable"
        assert "retry-after" in response.headers
    spool.is_full = False
    assert (await running.vote(ballot)).status_code == 202
    assert len(running.events("ranking.submitted")) == 1


@pytest.mark.parametrize("fields", [{"n": 3}, {"n": 3, "stream": True}, {"n": 1}])
async def test_a_completion_that_the_disk_does_not_take_is_served_without_a_ballot(flaky, fields):
    running, spool = flaky
    spool.is_full = True
    response = await running.complete(**fields)
    assert response.status_code == 200
    assert '"token"' not in response.text
    assert running.metric("spool_failures_total") == 1
