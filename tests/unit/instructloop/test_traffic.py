"""Visitors count every request, hear whole answers only, and stop when they are told to."""

import asyncio
import json

import httpx
import pytest

from instructloop.demo.prompts import load_prompts
from instructloop.demo.traffic import BackgroundTraffic, Pace

PACE = Pace(num_clients=4, pause_s=0.01, max_tokens=8)


def whole(adapter="sft-1"):
    return {"choices": [{"adapter_id": adapter, "finish_reason": "stop", "text": "Hello"}]}


def chunk(text, adapter="sft-1", finish=None):
    choice = {"adapter_id": adapter, "text": text, "finish_reason": finish}
    return f"data: {json.dumps({'choices': [choice]})}\n\n"


GOOD = (chunk("Hel"), chunk("lo", finish="stop"), "data: [DONE]\n\n")


def service(stream=GOOD, status=200):
    """Return a transport that answers streams with `stream` and the rest whole."""

    def answer(request: httpx.Request) -> httpx.Response:
        if status != 200:
            return httpx.Response(status, json={"error": {"message": "busy"}})
        if json.loads(request.content).get("stream"):
            return httpx.Response(200, text="".join(stream))
        return httpx.Response(200, json=whole())

    return httpx.MockTransport(answer)


async def visits_of(transport, until=20):
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        traffic = BackgroundTraffic(client, load_prompts()[:5], model="stable", seed=1)
        async with asyncio.timeout(20), traffic.running(PACE):
            while traffic.visits.num_requests < until:
                await asyncio.sleep(0.01)
    return traffic.visits


async def test_streaming_and_whole_answers_are_mixed_and_all_counted():
    visits = await visits_of(service())
    assert visits.failures == []
    assert visits.num_requests == len(visits.heard) >= 20
    assert 0 < visits.num_streamed < len(visits.heard)
    assert visits.first_token_of("sft-1") == min(h.first_token_at for h in visits.heard)
    assert visits.first_token_of("ppo-1") is None


@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        ((chunk("Hel"),), "broke off"),
        ((chunk("Hel"), "data: [DONE]\n\n"), "without a finish_reason"),
        ((chunk("Hel"), chunk("lo", "ppo-1", "stop"), "data: [DONE]\n\n"), "several versions"),
        ((), "nothing came"),
    ],
)
async def test_a_stream_that_is_not_whole_or_changes_version_is_a_failure(stream, reason):
    visits = await visits_of(service(stream))
    assert visits.failures
    assert all(reason in failure for failure in visits.failures)
    assert len(visits.failures) + len(visits.heard) == visits.num_requests


async def test_an_error_status_is_a_failure_and_is_not_repeated():
    visits = await visits_of(service(status=503))
    assert len(visits.failures) == visits.num_requests
    assert "503" in visits.failures[0]


async def test_an_exception_in_the_block_comes_out_as_it_was_and_ends_the_visits():
    async with httpx.AsyncClient(transport=service(), base_url="http://service") as client:
        traffic = BackgroundTraffic(client, load_prompts()[:5], model="stable", seed=1)
        with pytest.raises(ZeroDivisionError):
            async with traffic.running(PACE):
                raise ZeroDivisionError
        count = traffic.visits.num_requests
        await asyncio.sleep(0.1)
        assert traffic.visits.num_requests == count
