"""Ratings and demonstrations are durable events of their own, never comparisons."""

import pytest


async def rate(running, **fields):
    return await running.client.post("/v1/feedback/ratings", json=fields)


async def demonstrate(running, headers=None, **fields):
    body = {"prompt": "Why?", "completion": "Because.", **fields}
    return await running.client.post("/v1/feedback/demonstrations", json=body, headers=headers)


async def served(running):
    body = (await running.complete()).json()
    return {"response_id": body["id"], "choice_id": body["choices"][0]["choice_id"]}


@pytest.mark.parametrize("scale", [{"thumb": "up"}, {"likert": 7}])
async def test_a_rating_is_logged(running, scale):
    names = await served(running)
    response = await rate(running, **names, **scale, user="ann-the-user")
    assert response.status_code == 202
    (event,) = running.events("rating.submitted")
    assert event.data.choice_id == names["choice_id"]
    assert {name: getattr(event.data, name) for name in scale} == scale


@pytest.mark.parametrize(
    "scale", [{}, {"thumb": "up", "likert": 3}, {"thumb": "sideways"}, {"likert": 0}]
)
async def test_a_rating_needs_exactly_one_scale(running, scale):
    assert (await rate(running, **await served(running), **scale)).status_code == 400


async def test_a_choice_that_a_known_response_does_not_have_is_404(running):
    names = await served(running)
    response = await rate(running, **{**names, "choice_id": "choice-x"}, thumb="up")
    assert response.status_code == 404
    assert response.json()["error"]["param"] == "choice_id"


async def test_a_demonstration_is_logged_with_its_author_hidden(running):
    response = await demonstrate(
        running, user="ann-the-user", metadata={"source": "labeler", "use_case": "open_qa"}
    )
    assert response.status_code == 202
    (event,) = running.events("demonstration.submitted")
    assert event.data.demonstration_id == response.json()["demonstration_id"]
    assert (event.data.kind, event.data.source) == ("plain", "labeler")
    assert event.data.prompt.use_case == "open_qa"
    assert event.data.prompt.token_ids == ()
    assert "ann-the-user" not in event.model_dump_json()


async def test_a_chat_demonstration_keeps_its_messages(running):
    messages = [{"role": "system", "content": "Be kind"}, {"role": "user", "content": "Hi"}]
    assert (await demonstrate(running, prompt=messages)).status_code == 202
    (event,) = running.events("demonstration.submitted")
    assert event.data.prompt.format == "chat"
    assert [message.content for message in event.data.prompt.messages] == ["Be kind", "Hi"]


async def test_a_correction_names_the_choice_and_finds_its_response(running):
    names = await served(running)
    assert (await demonstrate(running, corrects=names["choice_id"])).status_code == 202
    (event,) = running.events("demonstration.submitted")
    assert (event.data.kind, event.data.corrects) == ("correction", names["choice_id"])
    assert event.data.response_id == names["response_id"]


async def test_a_retry_with_an_idempotency_key_is_one_demonstration(running):
    headers = {"Idempotency-Key": "once"}
    answers = [(await demonstrate(running, headers)).json() for _ in range(3)]
    assert answers[0] == answers[1] == answers[2]
    assert len(running.events("demonstration.submitted")) == 1
    other = await demonstrate(running, headers, user="somebody-else")
    assert other.json() != answers[0]


@pytest.mark.parametrize(
    "fields",
    [
        {"completion": ""},
        {"prompt": ""},
        {"prompt": []},
        {"prompt": [{"role": "robot", "content": "x"}]},
        {"kind": "correction"},
        {"kind": "plain", "corrects": "choice-x"},
        {"kind": "poem"},
    ],
)
async def test_a_demonstration_that_makes_no_sense_is_400(running, fields):
    assert (await demonstrate(running, **fields)).status_code == 400
    assert running.events("demonstration.submitted") == []
