"""The demo's steps against the real service over a scripted engine: swaps, votes, measurement."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from engines.scripted import Script, ScriptedEngine, speak_in_its_voice
from engines.seam import GenerateRequest
from feedback.adapter_files import AdapterRefused
from feedback.base_description import BaseDescription
from feedback.snapshots import SIMULATED_MARKER
from instructloop.demo.api import DemoApi, RequestFailed, open_client
from instructloop.demo.arms import POOL, fetch_arms, first_asks
from instructloop.demo.narration import Narrator
from instructloop.demo.processes import processes
from instructloop.demo.prompts import held_out, load_prompts
from instructloop.demo.scene import DemoFailed, Scene
from instructloop.demo.sizes import Sizes
from instructloop.demo.steps import collect_votes, promote
from instructloop.demo.swap import swap
from instructloop.demo.traffic import BackgroundTraffic
from instructloop.demo.trainer_process import Accuracy, Refreshed, TrainerCommand
from instructloop.settings import DemoSettings

SIZES = Sizes(
    "quick", num_training_prompts=14, num_held_out_prompts=4, num_samples=2, num_replayed=9
)


def speak_slowly(request: GenerateRequest) -> Script:
    return Script(speak_in_its_voice(request).pieces, delay_s=0.02)


@pytest.fixture
def tiny_base(tiny_base: BaseDescription) -> BaseDescription:
    """The scripted engine's tokens are bytes: the demo's prompts need a longer context."""
    return tiny_base.model_copy(update={"context_length": 4096, "vocab_size": 65_536})


@pytest.fixture
def make_scene(
    serve: Callable[..., Any], tmp_path: Path, tiny_base: BaseDescription
) -> Callable[..., Any]:
    """Return a context that serves a scripted engine and gives the scene around it."""

    @asynccontextmanager
    async def make(
        refusals: dict[str, AdapterRefused] | None = None,
    ) -> AsyncIterator[tuple[Scene, Any]]:
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / SIMULATED_MARKER).touch()
        engine = ScriptedEngine(
            speak_slowly, base=tiny_base, refusals={} if refusals is None else refusals
        )
        server = await serve(engine)
        async with (
            processes(tmp_path / "logs") as running,
            open_client(server.url) as client,
        ):
            prompts = held_out(load_prompts())[:8]
            yield (
                Scene(
                    settings=DemoSettings(),
                    sizes=SIZES,
                    narrator=Narrator(Console(quiet=True), num_steps=8),
                    data_dir=tmp_path / "data",
                    processes=running,
                    url=server.url,
                    api=DemoApi(client),
                    traffic=BackgroundTraffic(client, prompts, model="stable", seed=11),
                    trainer=TrainerCommand(running, tmp_path / "data", "none", "quick", 11),
                ),
                server,
            )

    return make


async def test_a_swap_under_traffic_fails_no_request_and_is_heard(make_scene, make_adapter):
    async with make_scene() as (scene, server):
        adapter = make_adapter(registry=server.service.registry)
        swapped = await swap(scene, adapter, "test")
        visits = scene.traffic.visits
        heard = [answer.adapter_id for answer in visits.heard]
    assert 0 < swapped.seconds < 10
    assert (swapped.num_failed, visits.failures) == (0, [])
    assert swapped.num_requests == visits.num_requests == len(heard)
    assert set(heard) == {server.engine.base.adapter_id, adapter}
    assert 0 < visits.num_streamed < len(heard)


async def test_an_adapter_that_the_engine_refuses_ends_the_demo_with_its_reason(
    make_scene, make_adapter
):
    refusals: dict[str, AdapterRefused] = {}
    async with make_scene(refusals) as (scene, server):
        adapter = make_adapter(registry=server.service.registry)
        refusals[adapter] = AdapterRefused("non_finite", "it holds NaN")
        with pytest.raises(DemoFailed, match="non_finite: it holds NaN"):
            await swap(scene, adapter, "test")
        assert scene.traffic.visits.failures == []


async def test_the_candidate_channel_asks_for_the_gates_verdict(make_scene, make_adapter):
    async with make_scene() as (scene, server):
        registry = server.service.registry
        adapter = make_adapter(kind="ppo", registry=registry)
        refreshed = refreshed_of(adapter, passed=True)
        with pytest.raises(RequestFailed, match="no_verdict"):
            await promote(scene, refreshed)
        registry.write_verdict(adapter, "offline", {"passed": True})
        swapped = await promote(scene, refreshed)
        assert swapped is not None
        assert registry.current("candidate").adapter_id == adapter
        assert registry.current("stable").adapter_id == adapter
        assert await promote(scene, refreshed_of(adapter, passed=False)) is None


def refreshed_of(adapter: str, *, passed: bool) -> Refreshed:
    accuracy = Accuracy(0.7, 0.6, 0.8)
    return Refreshed("snapshot-1", {"ppo": adapter}, passed, (), Path(), accuracy, 1.0)


async def test_every_vote_of_the_labelers_process_is_accounted_for(make_scene):
    async with make_scene() as (scene, _):
        votes = await collect_votes(scene)
    assert votes.counts.failures == 0
    assert votes.account.sent >= SIZES.num_training_prompts
    assert votes.account.in_dataset == votes.account.sent
    assert votes.account.lost == 0


async def test_arms_are_answers_of_the_adapters_named_with_their_choice_ids(
    make_scene, make_adapter
):
    async with make_scene() as (scene, server):
        base = server.engine.base.adapter_id
        adapter = make_adapter(registry=server.service.registry)
        asks = first_asks(base, adapter, None, num_samples=2, seed=11)
        arms = await fetch_arms(scene.api, asks, scene.held_out_prompts)
    assert {arm: len(next(iter(answers.values()))) for arm, answers in arms.items()} == {
        "base T=1": 1,
        "sft T=0": 1,
        "sft T=0.7": 1,
        "sft T=1": 2,
        POOL: 4,
    }
    ids = [answer.choice_id for arm in arms.values() for given in arm.values() for answer in given]
    assert len(ids) == len(set(ids)) == 9 * SIZES.num_held_out_prompts
