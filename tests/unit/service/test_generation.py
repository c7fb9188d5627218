"""Choices run side by side; whatever ends them, the engine lets go before the leases do."""

import asyncio
import gc

import pytest

from engines.scripted import Script, ScriptedEngine
from engines.seam import GenerateRequest, SamplingParameters
from service.generation import ChoiceFailed, Generation


class CountedLease:
    def __init__(self, engine):
        self.engine = engine
        self.num_releases = 0
        self.num_live_at_release = None

    def release(self):
        if self.num_live_at_release is None:
            self.num_live_at_release = self.engine.counts.num_live
        self.num_releases += 1


def begin(engine, num_choices=3, max_tokens=50):
    requests = [
        GenerateRequest(
            "r", (1,), engine.base.adapter_id, SamplingParameters(max_tokens=max_tokens), index
        )
        for index in range(num_choices)
    ]
    leases = [CountedLease(engine) for _ in requests]
    return Generation(engine, requests, leases), leases


def endless(delay_s=0.001):
    return ScriptedEngine(lambda request: Script(("x",), is_endless=True, delay_s=delay_s))


async def test_every_choice_is_run_to_its_own_end():
    def script_of(request):
        return Script(("a",) * (request.sample_index + 1))

    generation, leases = begin(ScriptedEngine(script_of))
    async with generation:
        await generation.finish()
    assert [transcript.text for transcript in generation.transcripts] == ["a", "aa", "aaa"]
    assert generation.is_complete
    assert all(lease.num_releases for lease in leases)


async def test_leaving_early_stops_the_engine_before_the_leases_go():
    engine = endless()
    generation, leases = begin(engine, max_tokens=4000)
    async with generation:
        async for _ in generation.deltas():
            break
    assert engine.counts.num_live == 0
    num_tokens = engine.counts.num_tokens
    await asyncio.sleep(0.05)
    assert engine.counts.num_tokens == num_tokens
    assert all(lease.num_live_at_release < 3 for lease in leases)
    assert not generation.is_complete


async def test_one_broken_choice_breaks_the_response_and_stops_the_others():
    def script_of(request):
        return Script(("x",), is_endless=True, fails_after=2 if request.sample_index == 1 else None)

    engine = ScriptedEngine(script_of)
    generation, _ = begin(engine, max_tokens=4000)
    with pytest.raises(ChoiceFailed, match="script fails"):
        async with generation:
            await generation.finish()
    assert engine.counts.num_live == 0


async def test_an_abort_ends_it_with_its_message():
    generation, _ = begin(endless(), max_tokens=4000)
    async with generation:
        generation.abort("closing time", "shutting_down")
        with pytest.raises(ChoiceFailed, match="closing time") as caught:
            await generation.finish()
    assert caught.value.code == "shutting_down"


async def test_an_engine_that_says_nothing_is_a_failure():
    class Mute(ScriptedEngine):
        async def generate(self, request):
            return
            yield

    generation, _ = begin(Mute())
    with pytest.raises(ChoiceFailed, match="without saying why"):
        async with generation:
            await generation.finish()


async def test_a_generation_that_never_begins_gives_its_leases_back():
    generation, leases = begin(endless())
    generation.close()
    assert all(lease.num_releases == 1 for lease in leases)


async def test_two_hundred_aborted_responses_leave_no_task_behind():
    engine = endless(delay_s=0.0)
    for _ in range(200):
        generation, _ = begin(engine, max_tokens=4000)
        async with generation:
            async for _ in generation.deltas():
                break
    gc.collect()
    assert len(asyncio.all_tasks()) == 1
    assert engine.counts.num_live == 0
