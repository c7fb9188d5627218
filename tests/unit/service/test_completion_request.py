"""What a completion request may hold, and that everything else is refused by the field's name."""

import json

import pytest

MEGABYTE = 1024 * 1024


async def refused(running, status=400, **fields):
    response = await running.complete(**fields)
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


@pytest.mark.parametrize(
    ("param", "value"),
    [
        ("n", 0),
        ("n", "2"),
        ("n", True),
        ("n", 1.5),
        ("n", 17),
        ("max_tokens", 0),
        ("max_tokens", -1),
        ("temperature", -0.1),
        ("temperature", 2.1),
        ("temperature", "hot"),
        ("top_p", 0),
        ("top_p", 1.1),
        ("top_k", -2),
        ("logprobs", 6),
        ("logprobs", -1),
        ("stop", ["a", "b", "c", "d", "e"]),
        ("stop", [""]),
        ("stop", ""),
        ("seed", 2**63),
        ("seed", 0.5),
        ("user", 5),
        ("prompt", ""),
        ("prompt", 7),
        ("prompt", ["a", "b"]),
        ("prompt", [1, 2]),
        ("stream", "yes"),
        ("echo", True),
        ("suffix", "end"),
        ("best_of", 3),
        ("frequency_penalty", 0.5),
        ("presence_penalty", -0.5),
        ("logit_bias", {"5": 1.0}),
        ("store", "no"),
    ],
)
async def test_a_wrong_value_is_400_and_names_its_field(running, param, value):
    error = await refused(running, **{param: value})
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param
    assert param in error["message"]


async def test_best_of_below_n_is_refused_and_equal_to_n_is_fine(running):
    """CASES A13."""
    assert (await refused(running, n=3, best_of=2))["param"] == "best_of"
    assert (await refused(running, best_of=2, stream=True))["param"] == "best_of"
    assert (await running.complete(n=2, best_of=2)).status_code == 200


async def test_an_item_of_a_list_is_named_by_its_place(running):
    assert (await refused(running, stop=["a", 5]))["param"] == "stop.1"


@pytest.mark.parametrize("options", [{}, {"include_usage": True}])
async def test_stream_options_are_only_for_streams(running, options):
    """CASES A7."""
    assert (await refused(running, stream_options=options))["param"] == "stream_options"
    assert (await running.complete(stream_options=None)).status_code == 200
    response = await running.complete(stream=True, stream_options=options)
    assert response.status_code == 200


async def test_an_unknown_field_is_refused_by_name(running):
    error = await refused(running, temprature=0.1)
    assert (error["param"], error["code"]) == ("temprature", "unknown_field")


@pytest.mark.parametrize("source", ["canary", "training", ""])
async def test_only_honest_sources_can_be_claimed(running, source):
    assert (await refused(running, metadata={"source": source}))["param"] == "metadata.source"


async def test_null_means_left_out(running):
    names = ("n", "max_tokens", "temperature", "top_p", "stop", "seed", "logprobs", "user", "echo")
    names += ("suffix", "best_of", "logit_bias", "frequency_penalty", "metadata", "store")
    assert (await running.complete(**dict.fromkeys(names))).status_code == 200


async def test_what_changes_nothing_is_accepted(running):
    neutral = {"echo": False, "suffix": "", "logit_bias": {}, "frequency_penalty": 0, "best_of": 1}
    assert (await running.complete(**neutral)).status_code == 200


@pytest.mark.parametrize("name", ["model", "prompt"])
async def test_what_is_required_is_named(running, name):
    body = {"model": "stable", "prompt": "x"}
    del body[name]
    response = await running.client.post("/v1/completions", json=body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == name


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[1]", b"null", b'"x"', b"\xff\xfe", b'{"prompt": "\\ud800"}', b"[" * 100_000],
)
async def test_a_body_that_is_no_json_object_is_400(running, body):
    response = await running.client.post("/v1/completions", content=body)
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"


async def test_not_a_number_is_no_temperature(running):
    body = b'{"model": "stable", "prompt": "x", "temperature": NaN}'
    response = await running.client.post("/v1/completions", content=body)
    assert response.json()["error"]["param"] == "temperature"


async def test_a_body_over_the_limit_is_413_whether_or_not_its_size_is_announced(running):
    async def parts():
        for _ in range(10):
            yield b" " * MEGABYTE

    for content in (b" " * 10 * MEGABYTE, parts()):
        response = await running.client.post("/v1/completions", content=content)
        assert response.status_code == 413
        assert response.json()["error"]["code"] == "body_too_large"


async def test_a_refusal_quotes_no_value(running):
    for fields in ({"n": "secret"}, {"stop": {"secret": 1}}, {"metadata": {"source": "secret"}}):
        assert "secret" not in json.dumps(await refused(running, **fields))
    broken = b'{"model": "stable", "prompt": "secret' + b"\x01"
    response = await running.client.post("/v1/completions", content=broken)
    assert "secret" not in response.text


async def test_nothing_is_sampled_or_logged_for_a_refused_request(running):
    num_tokens = running.engine.counts.num_tokens
    for fields in ({"n": 0}, {"model": "nobody"}, {"prompt": "x" * 500}):
        await running.complete(**fields)
    assert running.engine.counts.num_tokens == num_tokens
    assert running.events() == []
