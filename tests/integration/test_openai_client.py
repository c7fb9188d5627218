"""The official openai client works against the service, streaming and not, errors included."""

import openai
import pytest

from engines.scripted import Script, ScriptedEngine, voice_of
from service.access import create_key

PROMPT = "Say something"


@pytest.fixture
async def server(serve):
    return await serve()


def client_of(server, **fields):
    fields = {"api_key": "unused", "max_retries": 0, "timeout": 20, **fields}
    return openai.AsyncOpenAI(base_url=f"{server.url}/v1", **fields)


async def complete(server, **fields):
    async with client_of(server) as client:
        body = {"model": "stable", "prompt": PROMPT, **fields}
        return await client.completions.create(**body)


async def test_models_are_listed_the_default_first(server):
    async with client_of(server) as client:
        models = await client.models.list()
        assert models.data[0].id == "stable"
        assert (await client.models.retrieve("stable")).id == "stable"


async def test_a_completion_is_typed_and_carries_our_ids(server):
    completion = await complete(server, n=3, logprobs=1, user="ann", seed=5, stop=["never"])
    assert [choice.index for choice in completion.choices] == [0, 1, 2]
    voice = voice_of(server.engine.base.adapter_id)
    assert completion.choices[0].text == f"{voice} gives sample 0"
    assert completion.choices[0].finish_reason == "stop"
    assert len(completion.choices[0].logprobs.tokens) == 4
    assert completion.usage.completion_tokens == 15
    assert completion.choices[0].choice_id
    assert completion.ballots[0]["token"]


@pytest.mark.parametrize("n", [1, 3])
async def test_a_stream_gives_the_same_text_and_usage(server, n):
    whole = await complete(server, n=n)
    async with client_of(server) as client:
        stream = await client.completions.create(
            model="stable",
            prompt=PROMPT,
            n=n,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]
    texts = dict.fromkeys(range(n), "")
    for chunk in chunks[:-1]:
        texts[chunk.choices[0].index] += chunk.choices[0].text
        assert chunk.usage is None
    assert list(texts.values()) == [choice.text for choice in whole.choices]
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert (chunks[-2].model_extra.get("ballots") is not None) == (n > 1)


async def test_extensions_pass_through_extra_body(server):
    extra = {"top_k": 5, "metadata": {"source": "eval"}, "store": False}
    completion = await complete(server, n=2, extra_body=extra)
    assert completion.ballots == []


@pytest.mark.parametrize(
    ("fields", "error", "code"),
    [
        ({"model": "gpt-4"}, openai.NotFoundError, "model_not_found"),
        ({"n": 0}, openai.BadRequestError, "invalid_value"),
        ({"logprobs": 6}, openai.BadRequestError, "invalid_value"),
        ({"best_of": 4}, openai.BadRequestError, "invalid_value"),
        ({"max_tokens": 5000}, openai.BadRequestError, "context_length_exceeded"),
        ({"extra_body": {"min_p": 0.1}}, openai.BadRequestError, "unknown_field"),
    ],
)
async def test_errors_are_typed(server, fields, error, code):
    with pytest.raises(error) as caught:
        await complete(server, **fields)
    assert caught.value.code == code
    assert caught.value.body["message"]


async def test_an_unknown_key_is_an_authentication_error(serve, tmp_path):
    _, secret = create_key(tmp_path / "data" / "keys.json", "client")
    server = await serve()
    async with client_of(server, api_key="il-wrong") as client:
        with pytest.raises(openai.AuthenticationError):
            await client.models.list()
    async with client_of(server, api_key=secret) as client:
        assert (await client.models.list()).data


async def test_a_failure_in_mid_stream_is_raised_by_the_client(serve):
    engine = ScriptedEngine(lambda request: Script(("a", "b", "c"), fails_after=2))
    server = await serve(engine)
    async with client_of(server) as client:
        stream = await client.completions.create(model="stable", prompt=PROMPT, stream=True)
        chunks = aiter(stream)
        assert [(await anext(chunks)).choices[0].text for _ in range(2)] == ["a", "b"]
        with pytest.raises(openai.APIError, match="broke off"):
            await anext(chunks)


async def test_a_dead_engine_is_an_internal_server_error_that_clients_retry(serve):
    engine = ScriptedEngine(is_alive=False)
    server = await serve(engine)
    with pytest.raises(openai.InternalServerError) as caught:
        await complete(server)
    assert caught.value.status_code == 503
