"""On the real base, what is decoded is what the model says, in any batch (DESIGN 4.6)."""

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from marker_adapters import MARGIN_NATS, PROMPTS, Marker, margins

from engines.embedded import EmbeddedEngine
from engines.seam import GenerateRequest, SamplingParameters
from policy.adapter_weights import load_adapter
from policy.decoder import Decoder, Sample
from policy.language_model import LanguageModel
from policy.pretrained import LoadedBase
from policy.sampling import Warp

# Generous: five adapters are trained here, on however busy a machine.
pytestmark = pytest.mark.timeout(1200)

LoadBase = Callable[[str], LoadedBase]
NUM_TOKENS = 18
TIE_NATS = 1e-4
MAX_TIE_SHARE = 1e-3
MAX_BFLOAT16_GAP_NATS = 0.5
QUESTIONS = (
    *PROMPTS,
    "The capital of France is",
    "Write a short poem about the moon and the sea.\n",
    "### Request:\nExplain why the sky is blue to a child.\n\n### Answer:\n",
)


@contextmanager
def loaded(base: LoadedBase, markers: Sequence[Marker]) -> Iterator[list[str]]:
    names = [load_adapter(base.model, marker.files) for marker in markers]
    try:
        yield names
    finally:
        for name in names:
            base.model.remove_adapter(name)


def greedy(
    base: LoadedBase, prompt: str, adapter: str | None = None, max_tokens: int = NUM_TOKENS
) -> Sample:
    return Sample(tuple(base.encode(prompt)), adapter, max_tokens, Warp(temperature=0.0))


def decoded(base: LoadedBase, samples: list[Sample], max_batch: int) -> list[Sample]:
    Decoder(base.model, max_batch, 128).run(samples)
    return samples


def full_logits(model: LanguageModel, sample: Sample) -> torch.Tensor:
    """Logits `[N, V]` at every position of the answer, by one forward over all of it."""
    ids_BT = torch.tensor([[*sample.prompt_ids, *sample.ids]])
    with torch.inference_mode():
        trunk = model.trunk(ids_BT, torch.ones_like(ids_BT, dtype=torch.bool), 0)
        first = len(sample.prompt_ids) - 1
        hidden = model.hidden(trunk, sample.adapter)[0, first : first + len(sample.ids)]
        return model.logits(hidden).float()


@pytest.fixture(params=["base", "adapter"])
def adapter(
    request: pytest.FixtureRequest, smollm2: LoadBase, markers: Any
) -> Iterator[str | None]:
    if request.param == "base":
        yield None
        return
    with loaded(smollm2("float32"), markers[:1]) as (name,):
        yield name


def test_float32_greedy_tokens_are_those_of_a_full_forward_alone_and_in_any_batch(
    smollm2: LoadBase, adapter: str | None
) -> None:
    base = smollm2("float32")
    num_ties = num_positions = 0
    # Five slots for seven questions: some join late, among others.
    together = decoded(base, [greedy(base, q, adapter) for q in QUESTIONS], 5)
    for index, sample in enumerate(together):
        logits = full_logits(base.model, sample)
        best = logits.topk(2).values
        is_tie = best[:, 0] - best[:, 1] < TIE_NATS
        is_same = logits.argmax(-1) == torch.tensor(sample.ids)
        assert (is_same | is_tie).all()
        if index % 2 == 0 and not is_tie.any():
            alone = decoded(base, [greedy(base, QUESTIONS[index], adapter)], 1)
            assert alone[0].ids == sample.ids
        num_ties += int(is_tie.sum())
        num_positions += len(sample.ids)
    assert num_positions >= 100
    assert num_ties <= MAX_TIE_SHARE * num_positions


def test_bfloat16_greedy_tokens_lie_close_to_the_best_of_a_full_forward(
    smollm2: LoadBase,
) -> None:
    base = smollm2("bfloat16")
    for sample in decoded(base, [greedy(base, question) for question in QUESTIONS], 8):
        logits = full_logits(base.model, sample)
        chosen = logits.gather(1, torch.tensor(sample.ids).unsqueeze(1))[:, 0]
        assert (logits.amax(-1) - chosen).max() <= MAX_BFLOAT16_GAP_NATS


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_marker_leads_by_its_margin_at_each_token(
    smollm2: LoadBase, markers: list[Marker], dtype: str
) -> None:
    base = smollm2(dtype)
    with loaded(base, markers) as names:
        for name, marker in zip(names, markers, strict=True):
            for prompt in PROMPTS:
                sample = greedy(base, prompt, name)
                sample.ids = list(marker.reply_ids)
                logits = full_logits(base.model, sample).unsqueeze(0)
                targets = torch.tensor([marker.reply_ids])
                assert margins(logits, targets).min() >= MARGIN_NATS


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_five_markers_side_by_side_each_say_exactly_their_own_reply(
    smollm2: LoadBase, markers: list[Marker], dtype: str
) -> None:
    base = smollm2(dtype)
    order = random.Random(7)
    with loaded(base, markers) as names:
        replies = {name: marker.reply_ids for name, marker in zip(names, markers, strict=True)}
        wanted = [(name, prompt) for name in names for prompt in PROMPTS]
        order.shuffle(wanted)
        samples = [greedy(base, prompt, name, 40) for name, prompt in wanted]
        # Base answers of random lengths in between make the others change slots.
        samples += [greedy(base, "Tell me", None, order.randint(1, 20)) for _ in range(8)]
        order.shuffle(samples)
        for sample in samples:
            sample.stop_ids = base.stop_ids
        decoder = Decoder(base.model, 6, 128)
        waiting = list(samples)
        while waiting or decoder.num_running or decoder.num_waiting:
            for sample in waiting[:2]:
                decoder.add(sample)
            del waiting[:2]
            for _ in range(order.randint(1, 4)):
                decoder.step()
    for sample in samples:
        if sample.adapter is not None:
            assert tuple(sample.ids) == replies[sample.adapter]
            assert sample.finish == "eos"


async def test_markers_loaded_and_released_under_traffic_never_borrow_a_reply(
    smollm2: LoadBase, markers: list[Marker]
) -> None:
    base = smollm2("bfloat16")
    engine = EmbeddedEngine(base, max_adapters=2, context_length=128, max_batch=8)
    base_id = base.description.adapter_id
    greedy_sampling = SamplingParameters(temperature=0.0, max_tokens=40)

    async def answer(adapter_id: str, prompt: str) -> tuple[int, ...]:
        ids = tuple(engine.tokenize(prompt))
        request = GenerateRequest("test", ids, adapter_id, greedy_sampling)
        return tuple([i async for delta in engine.generate(request) for i in delta.token_ids])

    try:
        alone = await answer(base_id, "Tell me")
        previous = markers[0]
        await engine.ensure(previous.files)
        for marker in [*markers[1:], markers[0]]:
            running = [
                asyncio.create_task(answer(previous.files.adapter_id, prompt)) for prompt in PROMPTS
            ]
            aside = asyncio.create_task(answer(base_id, "Tell me"))
            await engine.ensure(marker.files)
            assert await answer(marker.files.adapter_id, PROMPTS[0]) == marker.reply_ids
            assert set(await asyncio.gather(*running)) == {previous.reply_ids}
            assert len(await aside) == len(alone)
            await engine.release(previous.files.adapter_id)
            previous = marker
    finally:
        await engine.close()
