"""Composed ballots, a labeler's tasks, skips: only whole answers of one prompt are compared."""

import pytest


def error_of(response, status):
    assert response.status_code == status, response.text
    return response.json()["error"]


async def choice_ids(running, **fields):
    return [choice["choice_id"] for choice in (await running.complete(**fields)).json()["choices"]]


async def compose(running, choices, **fields):
    body = {"choices": choices, **fields}
    return await running.client.post("/v1/feedback/ballots", json=body)


async def test_a_ballot_over_choices_of_two_responses_can_be_voted_on(running):
    names = [(await choice_ids(running))[0] for _ in range(2)]
    response = await compose(running, names, user="ann")
    assert response.status_code == 200
    ballot = response.json()
    assert sorted(choice["choice_id"] for choice in ballot["choices"]) == sorted(names)
    assert (await running.vote(ballot)).status_code == 202
    (vote,) = running.events("ranking.submitted")
    assert len(vote.data.ballot.response_ids) == 2


async def test_choices_survive_a_restart(start, running):
    names = await choice_ids(running, n=2)
    restarted = await start()
    assert (await compose(restarted, names)).status_code == 200


async def test_what_cannot_be_compared_is_refused(running):
    (one,) = await choice_ids(running)
    (other,) = await choice_ids(running, prompt="Something else")
    assert error_of(await compose(running, [one]), 400)["param"] == "choices"
    assert error_of(await compose(running, [one, one]), 400)["param"] == "choices"
    assert "different prompts" in error_of(await compose(running, [one, other]), 400)["message"]
    assert error_of(await compose(running, [one, "choice-x"]), 404)["code"] == "choice_not_found"


@pytest.mark.parametrize("source", ["api", "simulated"])
async def test_a_labeler_gets_each_task_once(running, source):
    texts = set()
    for prompt in ("first", "second"):
        await running.complete(n=2, prompt=prompt, metadata={"source": source})
    for _ in range(2):
        response = await running.client.get("/v1/feedback/ballots/next?user=lea")
        task = response.json()
        texts.add(task["prompt"])
        shown = [choice["choice_id"] for choice in task["ballot"]["choices"]]
        assert [choice["choice_id"] for choice in task["choices"]] == shown
        assert all(choice["text"] for choice in task["choices"])
        assert (await running.vote(task["ballot"])).status_code == 202
    assert texts == {"first", "second"}
    assert (await running.client.get("/v1/feedback/ballots/next?user=lea")).status_code == 204
    assert (await running.client.get("/v1/feedback/ballots/next?user=bob")).status_code == 200
    (vote, _) = running.events("ranking.submitted")
    assert vote.data.voter_role == "admin"


async def test_tasks_are_those_that_may_train_and_have_a_choice(running):
    await running.complete(n=2, metadata={"source": "eval"})
    await running.complete(n=1)
    await running.complete(n=2, store=False)
    assert (await running.client.get("/v1/feedback/ballots/next")).status_code == 204


async def test_a_skipped_task_does_not_come_back(running):
    await running.complete(n=2)
    ballot = (await running.client.get("/v1/feedback/ballots/next")).json()["ballot"]
    body = {"ballot": ballot["token"], "reason": "unclear_task"}
    response = await running.client.post(f"/v1/feedback/ballots/{ballot['id']}/skip", json=body)
    assert response.status_code == 202
    assert (await running.client.get("/v1/feedback/ballots/next")).status_code == 204
    (skip,) = running.events("ballot.skipped")
    assert skip.data.reason == "unclear_task"


@pytest.mark.parametrize("action", ["reveal", "skip"])
async def test_a_token_opens_only_its_own_ballot(running, action):
    ballot = await running.ballot(2)
    body = {"ballot": ballot["token"]} | ({"reason": "x"} if action == "skip" else {})
    response = await running.client.post(f"/v1/feedback/ballots/ballot-x/{action}", json=body)
    assert error_of(response, 400)["param"] == "ballot"
