"""A swap neither fails nor mixes requests; what cannot be served is refused by its reason."""

import asyncio
import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest

from engines.scripted import Script, ScriptedEngine, speak_in_its_voice, voice_of
from feedback.adapter_files import AdapterRefused
from service.settings import ServiceSettings

Q_PROJ = "base_model.model.model.layers.0.self_attn.q_proj"
B_KEY, A_KEY = f"{Q_PROJ}.lora_B.weight", f"{Q_PROJ}.lora_A.weight"


def force(registry, adapter_id, channel="stable"):
    """Write a channel entry without the promotion's own validation, as an older writer might."""
    directory = registry.data_dir / "channels" / channel
    directory.mkdir(exist_ok=True)
    sequence = 1 + max((int(path.stem) for path in directory.iterdir()), default=-1)
    entry = {"adapter_id": adapter_id, "by": "x", "reason": "", "at": "2026-11-30T00:00:00Z"}
    (directory / f"{sequence}.json").write_text(json.dumps(entry))


def damage(registry, adapter_id, edit):
    """Change a published adapter behind the registry's back."""
    edit(registry.data_dir / "adapters" / adapter_id)
    return adapter_id


def truncated(directory):
    path = directory / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-40])


def flipped(directory):
    path = directory / "adapter_model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def unconfigured(directory):
    (directory / "adapter_config.json").unlink()


def pickled(directory):
    (directory / "adapter_model.safetensors").write_bytes(b"\x80\x04" + b"." * 200)


def removed(directory):
    shutil.rmtree(directory)


BAD = {
    "truncated_weights": lambda r, make: damage(r, make(), truncated),
    "hash_mismatch": lambda r, make: damage(r, make(), flipped),
    "missing_config": lambda r, make: damage(r, make(), unconfigured),
    "not_safetensors": lambda r, make: damage(r, make(), pickled),
    "unknown_adapter": lambda r, make: damage(r, make(), removed),
    "rank_too_large": lambda r, make: make(rank=80),
    "base_mismatch": lambda r, make: make(manifest={"weights_hash": "f" * 64}),
    "tokenizer_mismatch": lambda r, make: make(manifest={"tokenizer_hash": "f" * 64}),
    "unknown_module": lambda r, make: make(config={"target_modules": ["z_proj"]}),
    "unmatched_keys": lambda r, make: make(tensors={A_KEY: None}),
    "unsupported_part": lambda r, make: make(config={"modules_to_save": ["lm_head"]}),
    "unsupported_dtype": lambda r, make: make(tensors={B_KEY: np.zeros((8, 4), np.int8)}),
    "non_finite": lambda r, make: make(tensors={B_KEY: np.full((8, 4), np.nan, np.float32)}),
    "not_servable": lambda r, make: make(kind="rm"),
}


@pytest.mark.parametrize("reason", sorted(BAD))
async def test_a_bad_version_is_refused_by_its_reason_and_the_incumbent_serves(
    running, make_adapter, reason
):
    incumbent = make_adapter(seed=7)
    running.registry.promote("stable", incumbent, "test", "for the test")
    await running.serves(incumbent)
    bad = BAD[reason](running.registry, make_adapter)
    force(running.registry, bad)
    await running.until(lambda: running.metric("swap_refusals_total", reason=reason) == 1)
    ready = await running.client.get("/readyz")
    assert ready.status_code == 200
    state = ready.json()["channels"]["stable"]
    assert state["refused"].startswith(f"{reason}: ")
    assert (state["serves"], state["asks_for"]) == (incumbent, bad)
    body = (await running.complete()).json()
    assert body["choices"][0]["adapter_id"] == incumbent
    assert voice_of(incumbent) in body["choices"][0]["text"]
    assert running.engine.adapter_ids == {running.engine.base.adapter_id, incumbent}


def scripts(**fields):
    """Return a script by which every adapter but the base misbehaves in one way."""

    def script_of(request):
        script = speak_in_its_voice(request)
        return script if request.adapter_id.startswith("base-") else replace(script, **fields)

    return script_of


def like_the_base(request):
    return Script(("the same", " for everybody"))


@pytest.mark.parametrize(
    ("reason", "script_of"),
    [
        ("no_effect", like_the_base),
        ("non_finite", scripts(logprob=math.nan)),
        ("canary_failed", scripts(fails_after=1)),
    ],
)
async def test_a_version_that_fails_on_the_canary_prompts_is_refused(
    start, make_adapter, reason, script_of
):
    running = await start(script_of)
    running.registry.promote("stable", make_adapter(), "test", "for the test")
    await running.until(lambda: running.metric("swap_refusals_total", reason=reason) > 0)
    assert (await running.client.get("/readyz")).status_code == 200
    await running.until(lambda: running.engine.adapter_ids == {running.engine.base.adapter_id})
    assert (await running.complete()).json()["choices"][0]["adapter_id"].startswith("base-")


async def test_a_version_that_the_engine_refuses_leaves_the_incumbent(start, make_adapter):
    adapter_id = make_adapter()
    refusal = AdapterRefused("unsupported_part", "this engine cannot load that")
    running = await start(refusals={adapter_id: refusal})
    running.registry.promote("stable", adapter_id, "test", "for the test")
    await running.until(
        lambda: running.metric("swap_refusals_total", reason="unsupported_part") == 1
    )
    await running.serves(running.engine.base.adapter_id)


async def test_a_failure_that_is_no_fault_of_the_adapter_is_tried_again(start, make_adapter):
    adapter_id = make_adapter()
    refusals = {adapter_id: OSError("the disk is away")}
    running = await start(refusals=refusals)
    running.registry.promote("stable", adapter_id, "test", "for the test")
    await running.until(lambda: running.metric("swap_refusals_total", reason="load_failed") > 0)
    refusals.clear()
    await running.serves(adapter_id)


async def test_a_service_that_starts_after_a_bad_promotion_serves_the_one_before(
    start, registry, make_adapter
):
    good, bad = make_adapter(seed=1), make_adapter(seed=2)
    registry.promote("stable", good, "test", "for the test")
    force(registry, damage(registry, bad, flipped))
    running = await start()
    await running.serves(good)
    ready = await running.client.get("/readyz")
    assert ready.status_code == 200
    assert ready.json()["channels"]["stable"]["refused"].startswith("hash_mismatch")


async def test_traffic_through_ten_swaps_neither_fails_nor_mixes(start, make_adapter):
    def slowly(request):
        return replace(speak_in_its_voice(request), delay_s=0.003)

    running = await start(slowly)
    adapters = [make_adapter(seed=seed) for seed in range(5)]
    responses, is_done = [], False

    async def ask(stream):
        while not is_done:
            responses.append(await running.complete(n=2, stream=stream))

    async with asyncio.TaskGroup() as group:
        for stream in (False, False, True):
            group.create_task(ask(stream))
        for adapter_id in adapters * 2:
            running.registry.promote("stable", adapter_id, "test", "for the test")
            await running.serves(adapter_id)
        is_done = True
    assert len(responses) > 20
    for response in responses:
        assert response.status_code == 200, response.text
    for event in running.events("completion.served"):
        assert len({choice.adapter_id for choice in event.data.choices}) == 1
        for choice in event.data.choices:
            assert choice.delivery == "complete"
            assert choice.text == f"{voice_of(choice.adapter_id)} gives sample {choice.index}"
    last = {running.engine.base.adapter_id, adapters[-1]}
    await running.until(lambda: running.engine.adapter_ids == last)


async def test_a_long_answer_keeps_its_version_while_it_is_superseded(start, make_adapter):
    def endless(request):
        return replace(speak_in_its_voice(request), is_endless=True, delay_s=0.005)

    running = await start(endless)
    first, second = make_adapter(seed=1), make_adapter(seed=2)
    running.registry.promote("stable", first, "test", "for the test")
    await running.serves(first)
    long = asyncio.create_task(running.complete(max_tokens=100))
    await running.until(lambda: running.engine.counts.num_live == 1)
    running.registry.promote("stable", second, "test", "for the test")
    await running.serves(second)
    assert first in running.engine.adapter_ids
    text = (await long).json()["choices"][0]["text"]
    assert voice_of(first) in text
    assert voice_of(second) not in text
    await running.until(lambda: first not in running.engine.adapter_ids)


class LoadCounter(ScriptedEngine):
    """Counts how many loads run at the same time."""

    num_loading = most_loading = 0

    async def ensure(self, files):
        self.num_loading += 1
        self.most_loading = max(self.most_loading, self.num_loading)
        await super().ensure(files)
        self.num_loading -= 1


async def test_loads_never_overlap(start, make_adapter):
    """CASES B11."""
    running = await start(engine_type=LoadCounter, load_delay_s=0.05)
    adapters = [make_adapter(seed=seed) for seed in range(4)]
    running.registry.write_verdict(adapters[1], "offline", {"passed": True})
    running.registry.promote("stable", adapters[0], "test", "for the test")
    running.registry.promote("candidate", adapters[1], "test", "")
    answers = await asyncio.gather(*(running.complete(model=name) for name in adapters[2:]))
    assert [answer.status_code for answer in answers] == [200, 200]
    await running.serves(adapters[0])
    await running.serves(adapters[1], "candidate")
    assert running.engine.most_loading == 1


async def test_many_swaps_leave_nothing_behind(start, make_adapter):
    """CASES B4."""
    running = await start(settings=replace(ServiceSettings(), poll_interval_s=0.001))
    adapters = [make_adapter(seed=seed) for seed in range(3)]
    for number in range(60):
        adapter_id = adapters[number % 3]
        running.registry.promote("stable", adapter_id, "test", "for the test")
        await running.serves(adapter_id)
    state = running.service.app.state.service.versions.state
    assert len(state.versions) <= 2
    await running.until(lambda: len(running.engine.adapter_ids) == 2)
    assert running.engine.counts.num_loads - running.engine.counts.num_releases == 1
