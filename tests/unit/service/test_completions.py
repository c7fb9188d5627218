"""Completions have OpenAI's shape, are logged once, and carry a ballot when there is a choice."""

import json
from dataclasses import replace

import pytest

from engines.scripted import Script, ScriptedEngine, voice_of
from engines.seam import EngineBusy, GenerateRequest, UnknownAdapter
from service.settings import ServiceSettings


def says(*pieces, **fields):
    return lambda request: Script(pieces, **fields)


def chunks_of(response):
    lines = [line for line in response.text.split("\n\n") if line]
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


def streamed_text(chunks, index=0):
    return "".join(
        choice["text"]
        for chunk in chunks
        for choice in chunk["choices"]
        if choice["index"] == index
    )


async def test_an_answer_has_openais_shape_and_names_its_adapter(running, tiny_base):
    body = (await running.complete(n=2)).json()
    assert body["object"] == "text_completion"
    assert body["model"] == "stable"
    assert body["usage"] == {"prompt_tokens": 13, "completion_tokens": 10, "total_tokens": 23}
    for index, choice in enumerate(body["choices"]):
        assert choice["text"] == f"{voice_of(tiny_base.adapter_id)} gives sample {index}"
        assert (choice["index"], choice["finish_reason"]) == (index, "stop")
        assert choice["adapter_id"] == tiny_base.adapter_id
        assert choice["logprobs"] is None
    assert len({choice["choice_id"] for choice in body["choices"]}) == 2


async def test_two_choices_come_with_a_ballot_over_exactly_them(running):
    body = (await running.complete(n=4)).json()
    (ballot,) = body["ballots"]
    shown = {choice["choice_id"]: choice["index"] for choice in ballot["choices"]}
    assert shown == {choice["choice_id"]: choice["index"] for choice in body["choices"]}
    assert len(ballot["token"]) <= 2048
    assert "base-" not in json.dumps(ballot)


async def test_one_choice_has_nothing_to_rank(running):
    assert (await running.complete(n=1)).json()["ballots"] == []


async def test_the_order_to_show_favours_no_index(running):
    firsts = {(await running.ballot(n=3))["choices"][0]["index"] for _ in range(40)}
    assert firsts == {0, 1, 2}


async def test_a_ballot_asks_for_nine_choices_at_most(running):
    body = (await running.complete(n=16)).json()
    assert len(body["choices"]) == 16
    assert len(body["ballots"][0]["choices"]) == 9


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("logprobs", [None, 2])
async def test_a_stream_says_the_same_as_an_answer_in_one_piece(start, n, logprobs):
    running = await start(says("Grüße ", b"\xf0\x9f", b"\x98\x80", " a", "bc", "dEND", "x"))
    fields = {"n": n, "stop": ["END", "never"], "logprobs": logprobs, "seed": 1}
    whole = (await running.complete(**fields)).json()
    response = await running.complete(**fields, stream=True, stream_options={"include_usage": True})
    assert response.headers["content-type"].startswith("text/event-stream")
    *chunks, last = chunks_of(response)
    assert last["choices"] == []
    assert last["usage"] == whole["usage"]
    assert all(chunk["usage"] is None for chunk in chunks)
    for choice in whole["choices"]:
        assert choice["text"] == "Grüße 😀 abcd" == streamed_text(chunks, choice["index"])
        of_choice = [
            part
            for chunk in chunks
            for part in chunk["choices"]
            if part["index"] == choice["index"]
        ]
        assert [part["finish_reason"] for part in of_choice[:-1]] == [None] * (len(of_choice) - 1)
        assert of_choice[-1]["finish_reason"] == choice["finish_reason"] == "stop"
        for name in choice["logprobs"] or {}:
            streamed = [item for part in of_choice for item in part["logprobs"][name]]
            assert streamed == choice["logprobs"][name]


async def test_the_ballot_rides_on_the_last_content_chunk(running):
    response = await running.complete(n=3, stream=True, stream_options={"include_usage": True})
    *chunks, last, usage = chunks_of(response)
    assert not any("ballots" in chunk for chunk in (*chunks, usage))
    assert last["choices"][0]["finish_reason"] is not None
    assert len(last["ballots"][0]["choices"]) == 3


async def test_without_the_option_there_is_no_usage_chunk(running):
    chunks = chunks_of(await running.complete(stream=True))
    assert not any("usage" in chunk for chunk in chunks)
    assert all(chunk["choices"] for chunk in chunks)


async def test_no_part_of_a_stop_string_is_streamed(start):
    """CASES A1."""
    running = await start(says("The quick br", "own", " fox", " jumps"))
    response = await running.complete(stop=["own fox"], stream=True)
    chunks = chunks_of(response)
    assert streamed_text(chunks) == "The quick br"
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


async def test_a_stop_string_that_never_matches_delays_nothing(start):
    """CASES A3."""
    running = await start(says("Hello", " there", " #", "#"))
    chunks = chunks_of(await running.complete(stop=["#" * 40], stream=True))
    assert [chunk["choices"][0]["text"] for chunk in chunks] == ["Hello", " there", " ", "##"]


@pytest.mark.parametrize("wanted", [0, 1, 5])
async def test_log_probabilities_come_with_as_many_alternatives_as_asked(running, wanted):
    """CASES A10: 0 is not off."""
    logprobs = (await running.complete(logprobs=wanted)).json()["choices"][0]["logprobs"]
    assert len(logprobs["tokens"]) == len(logprobs["token_logprobs"]) == 4
    if wanted:
        assert {len(alternatives) for alternatives in logprobs["top_logprobs"]} == {wanted}


async def test_offsets_are_characters_into_the_answer(start):
    """CASES A9."""
    running = await start(says("a", b"\xf0\x9f", b"\x98\x80", " béta", " stop", "ped"))
    choice = (await running.complete(logprobs=1, stop=["pp"])).json()["choices"][0]
    offsets, tokens = choice["logprobs"]["text_offset"], choice["logprobs"]["tokens"]
    assert choice["text"] == "a😀 béta sto"
    for token, start_at, end in zip(tokens, offsets, [*offsets[1:], None], strict=True):
        assert choice["text"][start_at:end] == token


async def test_length_is_a_finish_reason(running):
    choice = (await running.complete(max_tokens=2)).json()["choices"][0]
    assert choice["finish_reason"] == "length"


async def test_what_was_sampled_is_logged_whole(start, tiny_base):
    running = await start(says("Good", " day", "."))
    body = (await running.complete(n=2, temperature=1.0, user="ann-the-user", prompt="Hi")).json()
    (event,) = running.events("completion.served")
    served = event.data
    assert served.response_id == body["id"]
    assert served.prompt.text == "Hi"
    assert served.prompt.token_ids == tuple(b"Hi")
    assert served.source == "api"
    assert "ann-the-user" not in event.model_dump_json()
    for choice, sent in zip(served.choices, body["choices"], strict=True):
        assert (choice.choice_id, choice.text) == (sent["choice_id"], sent["text"])
        assert choice.adapter_id == tiny_base.adapter_id
        assert len(choice.token_ids) == len(choice.token_logprobs) == 4
        assert choice.num_visible_tokens == 3
        assert (choice.stop_reason, choice.delivery) == ("eos", "complete")
        assert choice.is_on_policy


@pytest.mark.parametrize("fields", [{"top_p": 0.9}, {"top_k": 5}, {"temperature": 0.0}])
async def test_truncated_sampling_is_not_on_policy(running, fields):
    await running.complete(n=2, **fields)
    (event,) = running.events("completion.served")
    assert not any(choice.is_on_policy for choice in event.data.choices)


async def test_without_consent_only_usage_is_logged_and_there_is_no_ballot(running):
    body = (await running.complete(n=3, store=False, prompt="secret")).json()
    assert body["ballots"] == []
    await running.until(lambda: len(running.events()) == 1)
    (event,) = running.events()
    assert (event.data.prompt, event.data.choices) == (None, ())
    assert event.data.usage.prompt_tokens == 6
    assert not event.data.consent.log
    assert b"secret" not in running.service.spool.read(0, 1)[0].payload


async def test_the_source_and_use_case_that_a_caller_names_are_logged(running):
    await running.complete(n=2, metadata={"source": "eval", "use_case": "chat"})
    (event,) = running.events("completion.served")
    assert (event.data.source, event.data.prompt.use_case) == ("eval", "chat")


async def test_a_context_overflow_says_both_numbers(running):
    response = await running.complete(prompt="x" * 100, max_tokens=60)
    error = response.json()["error"]
    assert response.status_code == 400
    assert (error["param"], error["code"]) == ("prompt", "context_length_exceeded")
    for number in ("100", "60", "128"):
        assert number in error["message"]


async def test_an_engine_that_breaks_in_mid_answer_gives_an_error_and_an_aborted_log(start):
    running = await start(says("one", " two", " three", fails_after=2))
    response = await running.complete(n=2)
    assert response.status_code == 500
    assert response.json()["error"]["code"] == "engine_error"
    await running.until(lambda: len(running.events()) == 1)
    (event,) = running.events("completion.served")
    assert {choice.delivery for choice in event.data.choices} == {"aborted"}
    assert event.data.choices[0].text.startswith("one")
    assert running.engine.counts.num_live == 0


async def test_a_failure_in_mid_stream_is_an_error_event(start):
    """CASES A16: not a bare disconnect, and no [DONE] that would claim a whole answer."""
    running = await start(says("one", " two", " three", fails_after=2))
    response = await running.complete(stream=True)
    assert response.status_code == 200
    *chunks, last = [line for line in response.text.split("\n\n") if line]
    assert len(chunks) == 2
    error = json.loads(last.removeprefix("data: "))["error"]
    assert (error["type"], error["code"]) == ("server_error", "engine_error")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        (RuntimeError("the prompt was: secret"), 500, "engine_error"),
        (EngineBusy(7), 503, "engine_busy"),
        (UnknownAdapter("ppo-1"), 503, "adapter_not_loaded"),
    ],
)
async def test_what_fails_before_the_first_token_is_an_error_response(
    start, stream, failure, status, code
):
    def fail(request: GenerateRequest) -> Script:
        raise failure

    running = await start(fail)
    response = await running.complete(stream=stream)
    assert response.status_code == status
    assert response.json()["error"]["code"] == code
    assert ("retry-after" in response.headers) == (status == 503)
    assert "secret" not in response.text
    assert len(running.service.app.state.service.in_flight) == 0


async def test_an_unforeseen_failure_in_mid_stream_is_an_event_without_its_words(start):
    class Fragile(ScriptedEngine):
        async def generate(self, request):
            async for delta in super().generate(request):
                yield delta
                raise RuntimeError("the prompt was: secret")

    running = await start(engine_type=Fragile)
    response = await running.complete(stream=True)
    assert response.status_code == 200
    error = json.loads(response.text.split("\n\n")[-2].removeprefix("data: "))["error"]
    assert error["code"] == "engine_error"
    assert "secret" not in response.text


async def test_a_dead_engine_is_503_with_a_time_to_come_back(running):
    running.engine.is_alive = False
    response = await running.complete()
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) > 0
    assert response.json()["error"]["code"] == "engine_down"


async def test_every_lease_is_given_back(start, make_adapter):
    running = await start(settings=replace(ServiceSettings(), poll_interval_s=0.01))
    adapter_id = make_adapter()
    running.registry.promote("stable", adapter_id, "test", "for the test")
    await running.serves(adapter_id)
    versions = running.service.app.state.service.versions
    for fields in ({}, {"stream": True}, {"n": 3}, {"n": 99}, {"max_tokens": 1000}):
        await running.complete(**fields)
        assert versions.state.versions[adapter_id].num_choices == 0
    assert len(running.service.app.state.service.in_flight) == 0


async def test_prompts_and_answers_are_in_no_application_log(start, capsys, caplog):
    running = await start(says("a-secret-answer", fails_after=1))
    for fields in ({}, {"stream": True}, {"n": "a-secret-number"}, {"prompt": ["a-secret-list"]}):
        await running.complete(**{"prompt": "a-secret-prompt", **fields})
    captured = capsys.readouterr()
    logged = captured.out + captured.err + caplog.text
    assert "secret" not in logged


def test_the_scripted_engine_is_what_the_seam_says():
    engine = ScriptedEngine()
    assert engine.capabilities.base.adapter_id in engine.adapter_ids
