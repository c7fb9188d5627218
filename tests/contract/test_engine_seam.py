"""What every engine owes the service; one suite for the fake and the real ones.

To hold another engine to it, add a line to ENGINES: an async context manager that takes the
`request` fixture of pytest and yields an EngineCase.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from engines.scripted import Script, ScriptedEngine, voice_of
from engines.seam import (
    ContextOverflow,
    Engine,
    GenerateRequest,
    SamplingParameters,
    TokenDelta,
    UnknownAdapter,
)
from feedback.adapter_files import AdapterFiles
from feedback.registry import Registry

GREEDY = SamplingParameters(temperature=0.0, max_tokens=12, ignore_eos=True)


@dataclass(frozen=True)
class EngineCase:
    """An engine that holds only its base, and two adapters it can load which answer differently."""

    engine: Engine
    adapters: tuple[AdapterFiles, AdapterFiles]


@asynccontextmanager
async def scripted_engine(request: pytest.FixtureRequest) -> AsyncIterator[EngineCase]:
    make_adapter = request.getfixturevalue("make_adapter")
    registry = request.getfixturevalue("registry")
    adapters = tuple(registry.adapter(make_adapter(seed=seed)) for seed in (1, 2))

    def script_of(request: GenerateRequest) -> Script:
        sample = str(request.sample_index) if request.sampling.temperature else "greedy"
        said = (" über", " a", " 😀".encode()[:3], " 😀".encode()[3:], f" {sample}", " end")
        return Script((voice_of(request.adapter_id), *said), delay_s=0.001)

    # A scripted token is a byte or a whole piece.
    base = request.getfixturevalue("tiny_base").model_copy(update={"vocab_size": 65_536})
    engine = ScriptedEngine(script_of, base=base, max_adapters=2)
    yield EngineCase(engine, adapters)
    await engine.close()


@pytest.fixture(scope="session")
def two_adapters(
    smollm2: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory
) -> tuple[AdapterFiles, AdapterFiles]:
    """Two published adapters of the real base, with random weights."""
    from marker_adapters import publish
    from tiny_llama import add_random_adapter

    from policy.language_model import LoraSettings

    base, registry = smollm2("float32"), Registry.open(tmp_path_factory.mktemp("adapters"))
    shape = LoraSettings(rank=8, first_layer=20)
    for seed, name in enumerate(("one", "two")):
        add_random_adapter(base.model, name, seed, shape, scale=0.05)
    one, two = (publish(base, registry, name) for name in ("one", "two"))
    for name in ("one", "two"):
        base.model.remove_adapter(name)
    return one, two


@asynccontextmanager
async def embedded_engine(request: pytest.FixtureRequest) -> AsyncIterator[EngineCase]:
    from engines.embedded import EmbeddedEngine

    base = request.getfixturevalue("smollm2")("float32")
    engine = EmbeddedEngine(base, max_adapters=2, context_length=256, max_batch=12)
    yield EngineCase(engine, request.getfixturevalue("two_adapters"))
    await engine.close()


ENGINES: dict[str, Callable[[pytest.FixtureRequest], AbstractAsyncContextManager[EngineCase]]] = {
    "embedded": embedded_engine,
    "scripted": scripted_engine,
}


@pytest.fixture(params=sorted(ENGINES))
async def case(request: pytest.FixtureRequest) -> AsyncIterator[EngineCase]:
    async with ENGINES[request.param](request) as case:
        yield case


@pytest.fixture
def engine(case: EngineCase) -> Engine:
    return case.engine


def ask(
    engine: Engine,
    sampling: SamplingParameters = GREEDY,
    adapter_id: str | None = None,
    sample_index: int = 0,
    prompt: str = "Tell me a story",
) -> GenerateRequest:
    return GenerateRequest(
        request_id="test",
        prompt_token_ids=tuple(engine.tokenize(prompt)),
        adapter_id=adapter_id or engine.capabilities.base.adapter_id,
        sampling=sampling,
        sample_index=sample_index,
    )


async def collect(engine: Engine, request: GenerateRequest) -> list[TokenDelta]:
    return [delta async for delta in engine.generate(request)]


def text_of(deltas: list[TokenDelta]) -> str:
    return "".join(delta.text for delta in deltas)


def ids_of(deltas: list[TokenDelta]) -> list[int]:
    return [token_id for delta in deltas for token_id in delta.token_ids]


async def becomes_idle(engine: Engine) -> bool:
    for _ in range(200):
        health = await engine.health()
        if health.num_running == health.num_waiting == 0:
            return True
        await asyncio.sleep(0.01)
    return False


async def test_a_choice_ends_with_one_finish_and_counts_every_token(engine: Engine) -> None:
    deltas = await collect(engine, ask(engine))
    assert [delta.finish is not None for delta in deltas] == [False] * (len(deltas) - 1) + [True]
    assert deltas[-1].finish.reason == "length"
    assert len(ids_of(deltas)) == GREEDY.max_tokens
    for delta in deltas:
        assert len(delta.token_ids) == len(delta.token_texts) == len(delta.logprobs)
        assert len(delta.token_ids) == len(delta.processed_logprobs)
        assert all(logprob <= 0 for logprob in delta.logprobs)


async def test_token_texts_concatenate_to_the_answer(engine: Engine) -> None:
    deltas = await collect(engine, ask(engine))
    texts = [text for delta in deltas for text in delta.token_texts]
    assert "".join(texts) == text_of(deltas)
    assert text_of(deltas)


async def test_without_ignore_eos_a_choice_ends_by_eos_or_by_its_length(engine: Engine) -> None:
    sampling = SamplingParameters(temperature=1.0, seed=3, max_tokens=40)
    deltas = await collect(engine, ask(engine, sampling))
    reason, num_tokens = deltas[-1].finish.reason, len(ids_of(deltas))
    assert (reason == "length" and num_tokens == 40) or (reason == "eos" and num_tokens <= 40)


async def test_one_token_can_be_asked_for(engine: Engine) -> None:
    sampling = SamplingParameters(temperature=0.0, max_tokens=1, ignore_eos=True)
    deltas = await collect(engine, ask(engine, sampling))
    assert len(ids_of(deltas)) == 1
    assert deltas[-1].finish.reason == "length"


async def test_a_stop_string_ends_the_text_before_it(engine: Engine) -> None:
    whole = text_of(await collect(engine, ask(engine)))
    for start, end in ((1, 3), (2, 3), (len(whole) // 2, len(whole) // 2 + 5)):
        stop = whole[start:end]
        sampling = SamplingParameters(
            temperature=0.0, max_tokens=12, ignore_eos=True, stop=("never", stop)
        )
        deltas = await collect(engine, ask(engine, sampling))
        assert text_of(deltas) == whole[: whole.index(stop)]
        assert deltas[-1].finish.reason == "stop_string"


async def test_a_stop_string_that_never_comes_costs_no_text(engine: Engine) -> None:
    whole = text_of(await collect(engine, ask(engine)))
    stop = (whole[-3:] + "\u2603",)
    sampling = SamplingParameters(temperature=0.0, max_tokens=12, ignore_eos=True, stop=stop)
    deltas = await collect(engine, ask(engine, sampling))
    assert text_of(deltas) == whole
    assert deltas[-1].finish.reason == "length"


async def test_the_same_seed_and_sample_give_the_same_choice(engine: Engine) -> None:
    sampling = SamplingParameters(temperature=1.0, seed=11, max_tokens=8, ignore_eos=True)
    first, second, other = await asyncio.gather(
        collect(engine, ask(engine, sampling)),
        collect(engine, ask(engine, sampling)),
        collect(engine, ask(engine, sampling, sample_index=1)),
    )
    assert ids_of(first) == ids_of(second)
    assert ids_of(first) != ids_of(other)


@pytest.mark.parametrize("wanted", [None, 0, 1, 5])
async def test_as_many_alternatives_come_as_were_asked_for(
    engine: Engine, wanted: int | None
) -> None:
    sampling = SamplingParameters(
        temperature=0.0, max_tokens=4, ignore_eos=True, num_logprobs=wanted
    )
    deltas = await collect(engine, ask(engine, sampling))
    for delta in deltas:
        if not wanted:
            assert all(alternatives == () for alternatives in delta.top_logprobs)
            continue
        assert len(delta.top_logprobs) == len(delta.token_ids)
        for token_id, logprob, alternatives in zip(
            delta.token_ids, delta.logprobs, delta.top_logprobs, strict=True
        ):
            assert len(alternatives) == wanted
            assert alternatives[0].token_id == token_id
            assert alternatives[0].logprob == pytest.approx(logprob)
            values = [alternative.logprob for alternative in alternatives]
            assert values == sorted(values, reverse=True)


async def test_choices_of_different_adapters_side_by_side_say_what_each_says_alone(
    case: EngineCase,
) -> None:
    engine = case.engine
    names = [engine.capabilities.base.adapter_id, *(files.adapter_id for files in case.adapters)]
    for files in case.adapters:
        await engine.ensure(files)
    alone = {name: ids_of(await collect(engine, ask(engine, adapter_id=name))) for name in names}
    assert len(set(map(tuple, alone.values()))) == len(names)
    mixed = [name for _ in range(3) for name in names]
    together = await asyncio.gather(
        *(collect(engine, ask(engine, adapter_id=name)) for name in mixed)
    )
    assert [ids_of(deltas) for deltas in together] == [alone[name] for name in mixed]


async def test_loading_an_adapter_does_not_disturb_a_running_choice(case: EngineCase) -> None:
    engine, (first, second) = case.engine, case.adapters
    await engine.ensure(first)
    expected = ids_of(await collect(engine, ask(engine, adapter_id=first.adapter_id)))
    running = asyncio.create_task(collect(engine, ask(engine, adapter_id=first.adapter_id)))
    await engine.ensure(second)
    await engine.release(second.adapter_id)
    assert ids_of(await running) == expected


async def test_an_adapter_that_is_not_loaded_is_an_error_never_the_base(case: EngineCase) -> None:
    engine, (files, _) = case.engine, case.adapters
    with pytest.raises(UnknownAdapter):
        await collect(engine, ask(engine, adapter_id=files.adapter_id))
    await engine.ensure(files)
    await engine.ensure(files)
    assert await collect(engine, ask(engine, adapter_id=files.adapter_id))
    await engine.release(files.adapter_id)
    await engine.release(files.adapter_id)
    with pytest.raises(UnknownAdapter):
        await collect(engine, ask(engine, adapter_id=files.adapter_id))


async def test_a_released_adapter_can_be_loaded_again_and_answers_the_same(
    case: EngineCase,
) -> None:
    engine, (files, other) = case.engine, case.adapters
    answers = []
    for _ in range(3):
        await engine.ensure(files)
        answers.append(ids_of(await collect(engine, ask(engine, adapter_id=files.adapter_id))))
        await engine.release(files.adapter_id)
        await engine.ensure(other)
        await engine.release(other.adapter_id)
    assert answers[0] == answers[1] == answers[2]


async def test_the_base_is_never_released(engine: Engine) -> None:
    await engine.release(engine.capabilities.base.adapter_id)
    assert await collect(engine, ask(engine))


async def test_closing_the_iterator_aborts_the_choice(engine: Engine) -> None:
    sampling = SamplingParameters(temperature=0.0, max_tokens=100, ignore_eos=True)
    async with aclosing(engine.generate(ask(engine, sampling, prompt="Hi"))) as deltas:
        async for _ in deltas:
            break
    assert await becomes_idle(engine)


async def test_cancelling_the_consumer_aborts_the_choice(engine: Engine) -> None:
    sampling = SamplingParameters(temperature=0.0, max_tokens=100, ignore_eos=True)
    running = asyncio.create_task(collect(engine, ask(engine, sampling, prompt="Hi")))
    await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert await becomes_idle(engine)


async def test_many_aborted_choices_leave_nothing_behind(engine: Engine) -> None:
    sampling = SamplingParameters(temperature=0.0, max_tokens=50, ignore_eos=True)
    for _ in range(30):
        async with aclosing(engine.generate(ask(engine, sampling, prompt="Hi"))) as deltas:
            await anext(deltas)
    assert await becomes_idle(engine)
    assert len(ids_of(await collect(engine, ask(engine)))) == GREEDY.max_tokens


async def test_a_request_that_does_not_fit_says_both_numbers(engine: Engine) -> None:
    context_length = engine.capabilities.context_length
    sampling = SamplingParameters(max_tokens=context_length)
    with pytest.raises(ContextOverflow, match=rf"max_tokens is {context_length}"):
        await collect(engine, ask(engine, sampling))


async def test_a_prompt_without_tokens_is_refused(engine: Engine) -> None:
    base_id = engine.capabilities.base.adapter_id
    with pytest.raises(ValueError, match="prompt"):
        await collect(engine, GenerateRequest("test", (), base_id, GREEDY))


async def test_tokens_are_of_the_vocabulary(engine: Engine) -> None:
    token_ids = engine.tokenize("Ünïcödé 😀 text\n")
    assert token_ids
    assert all(0 <= token_id < engine.capabilities.base.vocab_size for token_id in token_ids)


async def test_health_is_told_while_choices_run(engine: Engine) -> None:
    running = asyncio.create_task(collect(engine, ask(engine)))
    await asyncio.sleep(0.005)
    health = await engine.health()
    assert health.is_alive
    assert health.heartbeat_age_s < 5
    await running
    assert await becomes_idle(engine)


async def test_a_closed_engine_is_not_alive_and_answers_with_an_error(engine: Engine) -> None:
    running = asyncio.create_task(collect(engine, ask(engine)))
    await asyncio.sleep(0.003)
    await engine.close()
    await engine.close()
    assert not (await engine.health()).is_alive
    (ended,) = await asyncio.gather(running, return_exceptions=True)
    assert isinstance(ended, Exception) or ended[-1].finish is not None
    (refused,) = await asyncio.gather(collect(engine, ask(engine)), return_exceptions=True)
    assert isinstance(refused, Exception) or refused[-1].finish.reason == "error"
