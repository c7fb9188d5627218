"""The demo's HTTP client: what it sends, how it reads answers, when it tries again."""

import pytest

from instructloop.demo.api import MAX_TOKENS, RequestFailed, Sampling
from instructloop.demo.personas import Answer
from instructloop.demo.prompts import DemoPrompt, prompt_text
from instructloop.demo.sizes import FULL, QUICK
from trainer.presets import preset

PROMPT = DemoPrompt("chat-001", "chat", "Hello there!", is_held_out=False)


async def ask(api, num_choices=4):
    sampling = Sampling(num_choices=num_choices, seed=0)
    return await api.complete("stable", PROMPT, sampling, source="simulated", user="persona-01")


@pytest.mark.parametrize("sizes", [FULL, QUICK])
def test_clients_ask_for_answers_as_long_as_the_trainer_samples(sizes):
    assert preset(sizes.preset).ppo.max_response_tokens == MAX_TOKENS


async def test_a_request_says_who_asks_and_that_it_is_simulated(api, service):
    await ask(api)
    body = service.completions[0]
    assert body["model"] == "stable"
    assert body["prompt"] == prompt_text(PROMPT)
    assert (body["n"], body["max_tokens"], body["temperature"]) == (4, MAX_TOKENS, 1.0)
    assert body["user"] == "persona-01"
    assert body["metadata"] == {"source": "simulated", "use_case": "chat"}


async def test_answers_come_by_index_and_the_ballot_in_the_order_shown(api, service):
    reply = await ask(api)
    assert [answer.num_tokens for answer in reply.answers] == [20, 21, 22, 23]
    assert [answer.finish_reason for answer in reply.answers] == ["stop", "length"] * 2
    assert reply.ballot.choice_ids == tuple(f"choice-1-{index}" for index in (3, 2, 1, 0))
    assert reply.ballot.answers == reply.answers[::-1]
    assert reply.adapter_id == service.adapter_id


async def test_one_choice_has_no_ballot(api):
    reply = await ask(api, num_choices=1)
    assert reply.ballot is None
    assert isinstance(reply.answers[0], Answer)


async def test_a_vote_names_choices_by_tie_group_best_first(api, service):
    ballot = (await ask(api)).ballot
    await api.vote(ballot, ((1,), (0, 3), (2,)))
    vote = service.votes[0]
    assert vote["ballot"] == "token-1"
    assert vote["ranking"] == [["choice-1-2"], ["choice-1-3", "choice-1-0"], ["choice-1-1"]]
    assert vote["verdict"] == "ranked"


@pytest.mark.parametrize("status", [0, 503])
async def test_a_vote_is_sent_again_until_it_is_acknowledged(api, service, status):
    ballot = (await ask(api)).ballot
    service.failing["/v1/feedback/rankings"] = [status, status]
    assert await api.vote(ballot, ((0,), (1,), (2,), (3,)))
    assert api.traffic.num_failed == 0
    assert api.traffic.num_requests == 2


async def test_a_vote_that_is_never_acknowledged_fails_and_is_counted(api, service):
    ballot = (await ask(api)).ballot
    service.failing["/v1/feedback/rankings"] = [503] * 9
    with pytest.raises(RequestFailed, match="rankings failed: 503"):
        await api.vote(ballot, ((0, 1, 2, 3),))
    assert api.traffic.num_failed == 1
    assert "503" in api.traffic.failures[0]


@pytest.mark.parametrize("status", [400, 409, 500])
async def test_a_refused_vote_is_not_sent_again(api, service, status):
    ballot = (await ask(api)).ballot
    service.failing["/v1/feedback/rankings"] = [status, 202]
    with pytest.raises(RequestFailed):
        await api.vote(ballot, ((0, 1, 2, 3),))
    assert service.failing["/v1/feedback/rankings"] == [202]


@pytest.mark.parametrize("status", [0, 500, 503])
async def test_a_failed_completion_shows_and_is_not_hidden_by_a_retry(api, service, status):
    service.failing["/v1/completions"] = [status]
    with pytest.raises(RequestFailed, match="completions"):
        await ask(api)
    assert (api.traffic.num_requests, api.traffic.num_failed) == (1, 1)
