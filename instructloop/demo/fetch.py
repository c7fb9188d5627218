"""Fetch answers over HTTP from a named model for the measurement; knows no judge and no score."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

from instructloop.demo.api import DemoApi, Reply, Sampling
from instructloop.demo.concurrency import map_bounded
from instructloop.demo.personas import Answer
from instructloop.demo.prompts import DemoPrompt

EVALUATOR = "evaluator"

Answers = dict[str, tuple[Answer, ...]]
"""Answers by prompt id: what one arm of the measurement said."""


async def fetch_answers(
    api: DemoApi,
    model: str,
    prompts: Sequence[DemoPrompt],
    sampling: Sampling,
    *,
    max_in_flight: int = 8,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Answers:
    """Ask `model` (a channel, an adapter_id or the base's name) for answers to every prompt.

    The traffic is marked `eval`, so it never trains. Each prompt has a seed of its
    own, drawn from `sampling.seed`; the same sampling gives the same answers.

    Raises:
        RequestFailed: a request failed; a measurement with holes would not be one.
        ValueError: a choice came from another adapter than the one that `model` names.
    """
    done = 0

    async def fetch(prompt: DemoPrompt) -> Reply:
        nonlocal done
        seed = random.Random(f"{sampling.seed}/{prompt.id}").getrandbits(31)
        reply = await api.complete(
            model, prompt, replace(sampling, seed=seed), source="eval", user=EVALUATOR
        )
        done += 1
        on_progress(done, len(prompts))
        return reply

    replies = await map_bounded(fetch, prompts, max_in_flight)
    adapters = {reply.adapter_id for reply in replies}
    if len(adapters) > 1:
        raise ValueError(f"model {model} changed between requests: {sorted(map(str, adapters))}")
    return {prompt.id: reply.answers for prompt, reply in zip(prompts, replies, strict=True)}
