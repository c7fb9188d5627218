"""The embedded engine keeps adapters apart, stops when told to, and says when it is broken."""

import asyncio
import resource
import shutil
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path

import pytest
import torch
from tiny_llama import add_random_adapter, save_tiny_llama, tiny_model

from engines.embedded import EmbeddedEngine
from engines.seam import EngineBusy, GenerateRequest, SamplingParameters, TokenDelta
from feedback.adapter_files import AdapterFiles, AdapterManifest, AdapterRefused
from feedback.registry import Registry
from policy.adapter_weights import write_adapter
from policy.heads import ScalarHead
from policy.language_model import LoraSettings
from policy.pretrained import LoadedBase, load_language_model

Publish = Callable[..., AdapterFiles]
GREEDY = SamplingParameters(temperature=0.0, max_tokens=20, ignore_eos=True)
LONG = SamplingParameters(temperature=0.0, max_tokens=150, ignore_eos=True)


@pytest.fixture(scope="module")
def tiny_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture
def base(tiny_directory: Path) -> LoadedBase:
    return load_language_model(
        str(tiny_directory), "float32", cache=tiny_directory.parent / "cache"
    )


@pytest.fixture
def publish(base: LoadedBase, tmp_path: Path) -> Publish:
    registry = Registry.open(tmp_path / "registry")
    manifest = AdapterManifest(
        base_id=base.description.base_id,
        weights_hash=base.description.weights_hash,
        tokenizer_hash=base.description.tokenizer_hash,
    )

    def publish(seed: int, kind: str = "sft", rank: int = 4) -> AdapterFiles:
        model = tiny_model()
        add_random_adapter(model, "a", seed, LoraSettings(rank=rank))
        head = ScalarHead(32) if kind == "rm" else None

        def build(directory: Path) -> None:
            write_adapter(model, "a", directory, base.description.base_id, head)

        return registry.adapter(registry.publish(kind, build, manifest))  # type: ignore[arg-type]

    return publish


@pytest.fixture
async def engine(base: LoadedBase) -> AsyncIterator[EmbeddedEngine]:
    engine = EmbeddedEngine(base, max_adapters=2, max_rank=8, max_batch=4, max_waiting=8)
    yield engine
    await engine.close()


def ask(
    engine: EmbeddedEngine,
    files: AdapterFiles | None = None,
    sampling: SamplingParameters = GREEDY,
    prompt: str = "abc",
) -> GenerateRequest:
    adapter_id = files.adapter_id if files else engine.capabilities.base.adapter_id
    return GenerateRequest("test", tuple(engine.tokenize(prompt)), adapter_id, sampling)


async def ids_of(engine: EmbeddedEngine, request: GenerateRequest) -> list[int]:
    return [i async for delta in engine.generate(request) for i in delta.token_ids]


async def becomes_idle(engine: EmbeddedEngine) -> bool:
    for _ in range(500):
        health = await engine.health()
        if health.num_running == health.num_waiting == 0:
            return True
        await asyncio.sleep(0.01)
    return False


async def test_an_adapter_answers_from_memory_after_its_directory_is_gone(
    engine: EmbeddedEngine, publish: Publish
) -> None:
    files = publish(1)  # CASES B2
    await engine.ensure(files)
    expected = await ids_of(engine, ask(engine, files))
    shutil.rmtree(files.path)
    for _ in range(5):
        assert await ids_of(engine, ask(engine, files)) == expected


async def test_running_choices_keep_their_version_while_others_come_and_go(
    engine: EmbeddedEngine, publish: Publish
) -> None:
    pinned, *others = (publish(seed) for seed in range(1, 6))  # CASES B3
    await engine.ensure(pinned)
    prompts = [f"prompt {i}" for i in range(4)]
    expected = [await ids_of(engine, ask(engine, pinned, LONG, prompt)) for prompt in prompts]
    running = [
        asyncio.create_task(ids_of(engine, ask(engine, pinned, LONG, prompt))) for prompt in prompts
    ]
    for files in others:
        await engine.ensure(files)
        assert await ids_of(engine, ask(engine, files))
        await engine.release(files.adapter_id)
    assert await asyncio.gather(*running) == expected


async def test_a_released_adapter_lives_until_its_last_choice_has_ended(
    engine: EmbeddedEngine, base: LoadedBase, publish: Publish
) -> None:
    files = publish(1)
    await engine.ensure(files)
    expected = await ids_of(engine, ask(engine, files, LONG))
    running = asyncio.create_task(ids_of(engine, ask(engine, files, LONG)))
    while not (await engine.health()).num_running:
        await asyncio.sleep(0)
    await engine.release(files.adapter_id)
    assert await running == expected
    await asyncio.sleep(0.05)
    await ids_of(engine, ask(engine))
    assert base.model.adapters == ()


async def test_loading_and_releasing_two_hundred_times_leaves_memory_flat(
    engine: EmbeddedEngine, base: LoadedBase, publish: Publish
) -> None:
    versions = [publish(seed, rank=8) for seed in (1, 2)]  # CASES B4

    async def cycle() -> None:
        for files in versions:
            await engine.ensure(files)
            await ids_of(engine, ask(engine, files, SamplingParameters(max_tokens=2)))
            await engine.release(files.adapter_id)

    for _ in range(20):
        await cycle()
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(80):
        await cycle()
    after_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    await ids_of(engine, ask(engine))
    assert base.model.adapters == ()
    assert after_kib <= before_kib * 1.01


async def test_loading_from_several_tasks_at_once_leaves_torch_as_it_was(
    engine: EmbeddedEngine, publish: Publish
) -> None:
    one, other = publish(1), publish(2)  # CASES B11
    await asyncio.gather(*(engine.ensure(files) for files in (one, other, one, other)))
    assert torch.nn.Linear(2, 2).weight.device.type == "cpu"
    answers = [await ids_of(engine, ask(engine, files)) for files in (one, other)]
    assert answers[0] != answers[1]


async def test_one_more_adapter_than_fits_is_refused_until_one_is_released(
    engine: EmbeddedEngine, publish: Publish
) -> None:
    first, second, third = (publish(seed) for seed in (1, 2, 3))
    await engine.ensure(first)
    await engine.ensure(second)
    with pytest.raises(RuntimeError, match="release one first"):
        await engine.ensure(third)
    await engine.release(first.adapter_id)
    await engine.ensure(third)
    # CASES B14: what takes the place of another answers as itself.
    alone = EmbeddedEngine(load_again(engine), max_batch=1)
    await alone.ensure(third)
    assert await ids_of(engine, ask(engine, third)) == await ids_of(alone, ask(alone, third))
    await alone.close()


def load_again(engine: EmbeddedEngine) -> LoadedBase:
    base = engine._base
    return LoadedBase(tiny_model(), base.description, base.eos_id, base.stop_ids)


@pytest.mark.parametrize(
    ("kind", "rank", "reason_code"), [("sft", 9, "rank_too_large"), ("rm", 4, "not_servable")]
)
async def test_an_adapter_that_cannot_be_served_is_refused_and_the_others_go_on(
    engine: EmbeddedEngine, publish: Publish, kind: str, rank: int, reason_code: str
) -> None:
    good, bad = publish(1), publish(2, kind, rank)
    await engine.ensure(good)
    expected = await ids_of(engine, ask(engine, good))
    with pytest.raises(AdapterRefused) as refused:
        await engine.ensure(bad)
    assert refused.value.reason_code == reason_code
    assert await ids_of(engine, ask(engine, good)) == expected


async def test_a_choice_that_nobody_reads_any_more_stops_within_one_token(
    engine: EmbeddedEngine, base: LoadedBase
) -> None:
    steps = CountingDecoder.install(engine)
    async with aclosing(engine.generate(ask(engine, sampling=LONG))) as deltas:
        async for _ in deltas:
            num_steps_when_left = steps.count
            break
    assert await becomes_idle(engine)
    # One step may be under way when the client leaves, one may start before the word arrives.
    assert steps.count <= num_steps_when_left + 3


class CountingDecoder:
    """Stands before the decoder and counts its working steps."""

    def __init__(self, decoder) -> None:  # type: ignore[no-untyped-def]
        self._decoder, self.count, self.fails_at = decoder, 0, -1

    @classmethod
    def install(cls, engine: EmbeddedEngine) -> "CountingDecoder":
        counting = cls(engine._thread._decoder)
        engine._thread._decoder = counting  # type: ignore[assignment]
        return counting

    def step(self):  # type: ignore[no-untyped-def]
        if self.count == self.fails_at:
            raise MemoryError("no memory left")
        advanced = self._decoder.step()
        self.count += bool(advanced)
        return advanced

    def __getattr__(self, name: str):  # type: ignore[no-untyped-def]
        return getattr(self._decoder, name)


async def test_a_stop_string_ends_the_decoding_too(engine: EmbeddedEngine) -> None:
    steps = CountingDecoder.install(engine)
    texts = [d.text async for d in engine.generate(ask(engine, sampling=LONG))]
    assert steps.count == 150
    stop = "".join(texts)[5:8]
    sampling = SamplingParameters(temperature=0.0, max_tokens=150, ignore_eos=True, stop=(stop,))
    deltas = [d async for d in engine.generate(ask(engine, sampling=sampling))]
    assert deltas[-1].finish is not None
    assert deltas[-1].finish.reason == "stop_string"
    assert await becomes_idle(engine)
    assert steps.count == 150 + len(deltas)


async def test_an_error_in_the_thread_ends_every_choice_and_the_engine_is_dead(
    engine: EmbeddedEngine,
) -> None:
    CountingDecoder.install(engine).fails_at = 3
    requests = [ask(engine, sampling=LONG, prompt=f"p{i}") for i in range(6)]
    answers = await asyncio.gather(*(collect(engine, request) for request in requests))
    for deltas in answers:
        assert deltas[-1].finish is not None
        assert deltas[-1].finish.reason == "error"
        assert "no memory left" in deltas[-1].finish.message
    health = await engine.health()
    assert (health.is_alive, health.num_running, health.num_waiting) == (False, 0, 0)
    (late,) = await collect(engine, ask(engine))
    assert late.finish is not None
    assert late.finish.reason == "error"


async def collect(engine: EmbeddedEngine, request: GenerateRequest) -> list[TokenDelta]:
    return [delta async for delta in engine.generate(request)]


async def test_more_choices_than_may_wait_are_refused_and_the_others_answered(
    engine: EmbeddedEngine,
) -> None:
    requests = [ask(engine, sampling=LONG, prompt=f"p{i}") for i in range(40)]
    results = await asyncio.gather(
        *(ids_of(engine, request) for request in requests), return_exceptions=True
    )
    refused = [result for result in results if isinstance(result, EngineBusy)]
    answered = [result for result in results if isinstance(result, list)]
    assert len(refused) + len(answered) == 40
    assert len(answered) >= 8
    assert refused
    assert all(len(ids) == 150 for ids in answered)


async def test_without_a_seed_every_request_samples_anew(engine: EmbeddedEngine) -> None:
    sampling = SamplingParameters(temperature=1.0, max_tokens=20, ignore_eos=True)
    answers = [await ids_of(engine, ask(engine, sampling=sampling)) for _ in range(3)]
    assert len(set(map(tuple, answers))) == 3


async def test_an_idle_engine_sleeps_and_still_shows_its_pulse(engine: EmbeddedEngine) -> None:
    await ids_of(engine, ask(engine))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    await asyncio.sleep(1.3)
    health = await engine.health()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_utime - before < 0.3
    assert health.is_alive
    assert health.heartbeat_age_s < 1.3


async def test_closing_ends_what_runs_and_the_thread_and_frees_the_adapters(
    base: LoadedBase, publish: Publish
) -> None:
    engine = EmbeddedEngine(base)
    await engine.ensure(publish(1))
    running = asyncio.create_task(collect(engine, ask(engine, sampling=LONG)))
    while not (await engine.health()).num_running:
        await asyncio.sleep(0)
    await engine.close()
    deltas = await running
    assert deltas[-1].finish is not None
    assert deltas[-1].finish.reason == "error"
    assert base.model.adapters == ()
    assert "instructloop-decoder" not in {thread.name for thread in threading.enumerate()}


async def test_a_step_wakes_the_event_loop_once_for_all_of_its_choices(
    engine: EmbeddedEngine,
) -> None:
    steps = CountingDecoder.install(engine)
    loop = asyncio.get_running_loop()
    requests = [ask(engine, sampling=GREEDY, prompt="same") for _ in range(4)]
    wake_ups = 0
    original = loop.call_soon_threadsafe

    def counted(*args, **kwargs):  # type: ignore[no-untyped-def]
        nonlocal wake_ups
        wake_ups += 1
        return original(*args, **kwargs)

    loop.call_soon_threadsafe = counted  # type: ignore[method-assign]
    try:
        await asyncio.gather(*(ids_of(engine, request) for request in requests))
    finally:
        loop.call_soon_threadsafe = original  # type: ignore[method-assign]
    assert wake_ups <= steps.count
