"""A client that goes away stops its generation within a token, and nothing of it stays (A17)."""

import asyncio
import json
import time

import pytest

from engines.scripted import Script, ScriptedEngine
from feedback.events.codec import decode

TOKEN_S = 0.02


def endless(delay_s=TOKEN_S):
    return ScriptedEngine(lambda request: Script(("word ",), is_endless=True, delay_s=delay_s))


async def ask(server, **fields):
    """Open a connection, send a request, return the connection."""
    body = json.dumps({"model": "stable", "prompt": "x", "max_tokens": 2000, **fields}).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
    writer.write(head.encode() + b"Content-Type: application/json\r\n\r\n" + body)
    await writer.drain()
    return reader, writer


async def drop(connection):
    _, writer = connection
    writer.close()
    await asyncio.gather(writer.wait_closed(), return_exceptions=True)


async def until(condition, limit_s=5.0):
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.005)


def events_of(server):
    return [decode(record.payload) for record in server.service.spool.read(0, 10_000)]


@pytest.mark.parametrize("fields", [{}, {"stream": True}, {"n": 3}, {"n": 3, "stream": True}])
async def test_generation_stops_within_a_token_or_two(serve, fields):
    server = await serve(endless())
    counts = server.engine.counts
    num_tokens = counts.num_tokens  # the service has warmed the engine up
    n = fields.get("n", 1)
    connection = await ask(server, **fields)
    await until(lambda: counts.num_tokens >= num_tokens + 5 * n)
    before = counts.num_tokens
    await drop(connection)
    await until(lambda: counts.num_live == 0, limit_s=1.0)
    assert counts.num_tokens <= before + 3 * n
    await until(lambda: len(events_of(server)) == 1)
    (event,) = events_of(server)
    assert {choice.delivery for choice in event.data.choices} == {"aborted"}
    assert sum(len(choice.token_ids) for choice in event.data.choices) > 0


async def test_a_stream_that_holds_everything_back_notices_too(serve):
    """Nothing is sent while a stop string may still come: only listening tells."""
    engine = ScriptedEngine(lambda request: Script(("#",), is_endless=True, delay_s=TOKEN_S))
    server = await serve(engine)
    num_tokens = engine.counts.num_tokens
    connection = await ask(server, stream=True, stop=["#" * 1999 + "!"])
    await until(lambda: engine.counts.num_tokens >= num_tokens + 5)
    await drop(connection)
    await until(lambda: engine.counts.num_live == 0, limit_s=1.0)


async def test_an_answer_that_was_not_delivered_cannot_be_put_on_a_ballot(serve):
    server = await serve(endless())
    num_tokens = server.engine.counts.num_tokens
    connection = await ask(server, n=2, stream=True)
    await until(lambda: server.engine.counts.num_tokens >= num_tokens + 6)
    await drop(connection)
    await until(lambda: len(events_of(server)) == 1)
    choices = [choice.choice_id for choice in events_of(server)[0].data.choices]
    body = json.dumps({"choices": choices}).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    head = "POST /v1/feedback/ballots HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    writer.write(head.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
    answer = await reader.read()
    assert b"400 Bad Request" in answer
    assert b"not delivered whole" in answer
    await drop((reader, writer))


async def test_a_client_that_leaves_while_it_sends_is_no_failure(serve, capfd):
    server = await serve(endless())
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999\r\n\r\n{"
    )
    await writer.drain()
    await asyncio.sleep(0.05)
    await drop((None, writer))
    metrics = server.service.app.state.service.metrics.registry
    labels = {"route": "/v1/completions", "status": "aborted"}
    await until(lambda: metrics.get_sample_value("instructloop_requests_total", labels) == 1)
    captured = capfd.readouterr()
    assert "rror" not in captured.out + captured.err


async def test_two_hundred_disconnects_leave_nothing_behind(serve):
    server = await serve(endless(delay_s=0.001))
    service = server.service.app.state.service
    await drop(await ask(server))
    await until(lambda: server.engine.counts.num_live == 0)
    num_tasks = len(asyncio.all_tasks())
    for number in range(200):
        connection = await ask(server, stream=number % 2 == 0, n=1 + number % 3)
        if number % 4:
            await asyncio.sleep(0.003)
        await drop(connection)
    await until(lambda: server.engine.counts.num_live == 0)
    await until(lambda: len(asyncio.all_tasks()) <= num_tasks + 1)
    assert len(service.in_flight) == 0
    assert len(service.recent._choices) <= 3 * 201
