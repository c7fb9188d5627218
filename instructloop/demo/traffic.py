"""Background traffic: clients that keep asking, half of them streaming, while versions change.

It is marked `eval`, so that nothing it asks or hears ever trains. It knows no training.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from instructloop.demo.prompts import DemoPrompt, prompt_text

VISITOR = "visitor"
_ROUTE = "/v1/completions"


class AnswerFailed(Exception):
    """A visitor got no whole answer, or one of two versions; the message says which."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How busy the visitors are; each asks, hears the answer out, pauses and asks again."""

    num_clients: int
    pause_s: float
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Heard:
    """One whole answer: who gave it, and when its first token came (monotonic seconds)."""

    adapter_id: str
    first_token_at: float
    is_streamed: bool


@dataclass(slots=True)
class Visits:
    """What the visitors have met so far."""

    num_requests: int = 0
    failures: list[str] = field(default_factory=list)
    heard: list[Heard] = field(default_factory=list)

    @property
    def num_streamed(self) -> int:
        """Whole answers that came as a stream."""
        return sum(answer.is_streamed for answer in self.heard)

    def first_token_of(self, adapter_id: str) -> float | None:
        """Return when the first answer by an adapter began, None if there is none yet."""
        times = [answer.first_token_at for answer in self.heard if answer.adapter_id == adapter_id]
        return min(times, default=None)


class BackgroundTraffic:
    """Asks one model again and again; every request counts, and none is repeated."""

    def __init__(
        self, client: httpx.AsyncClient, prompts: Sequence[DemoPrompt], *, model: str, seed: int
    ) -> None:
        self._client = client
        self._prompts = prompts
        self._model = model
        self._seed = seed
        self.visits = Visits()

    @contextlib.asynccontextmanager
    async def running(self, pace: Pace) -> AsyncIterator[None]:
        """Keep clients asking for the length of the block; open answers are heard to their end."""
        is_over = asyncio.Event()
        visits = [self._visit(number, pace, is_over) for number in range(pace.num_clients)]
        clients = [asyncio.create_task(visit) for visit in visits]
        try:
            yield
        except BaseException:
            for client in clients:
                client.cancel()
            raise
        finally:
            is_over.set()
            await asyncio.gather(*clients, return_exceptions=True)
        for client in clients:
            client.result()

    async def _visit(self, number: int, pace: Pace, is_over: asyncio.Event) -> None:
        # A generator of its own per client and block: what is asked does not depend on timing.
        rng = random.Random(f"{self._seed}/{number}/{self.visits.num_requests}")
        is_streamed = number % 2 == 0
        while not is_over.is_set():
            body = {
                "model": self._model,
                "prompt": prompt_text(rng.choice(self._prompts)),
                "max_tokens": pace.max_tokens,
                "seed": rng.getrandbits(31),
                "user": VISITOR,
                "metadata": {"source": "eval"},
            }
            await self._ask(body, is_streamed)
            is_streamed = not is_streamed
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(is_over.wait(), pace.pause_s)

    async def _ask(self, body: dict[str, Any], is_streamed: bool) -> None:
        self.visits.num_requests += 1
        ask = _ask_streaming if is_streamed else _ask_whole
        try:
            self.visits.heard.append(await ask(self._client, body))
        except (AnswerFailed, httpx.HTTPError) as error:
            self.visits.failures.append(f"{type(error).__name__}: {error}")


async def _ask_whole(client: httpx.AsyncClient, body: dict[str, Any]) -> Heard:
    response = await client.post(_ROUTE, json=body)
    _require_success(response)
    (choice,) = response.json()["choices"]
    return Heard(choice["adapter_id"], time.monotonic(), is_streamed=False)


async def _ask_streaming(client: httpx.AsyncClient, body: dict[str, Any]) -> Heard:
    first_token_at = 0.0
    lines: list[str] = []
    async with client.stream("POST", _ROUTE, json={**body, "stream": True}) as response:
        if not response.is_success:
            await response.aread()
        _require_success(response)
        async for line in response.aiter_lines():
            if not line.startswith("data: "):
                continue
            first_token_at = first_token_at or time.monotonic()
            lines.append(line.removeprefix("data: "))
    if not lines or lines[-1] != "[DONE]":
        raise AnswerFailed(f"the stream broke off: {lines[-1] if lines else 'nothing came'}")
    choices = [choice for line in lines[:-1] for choice in json.loads(line)["choices"]]
    adapters = {choice["adapter_id"] for choice in choices}
    if len(adapters) != 1:
        raise AnswerFailed(f"one answer came from several versions: {sorted(adapters)}")
    if choices[-1]["finish_reason"] is None:
        raise AnswerFailed("the stream ended without a finish_reason")
    return Heard(adapters.pop(), first_token_at, is_streamed=True)


def _require_success(response: httpx.Response) -> None:
    if not response.is_success:
        raise AnswerFailed(f"{response.status_code} {response.text[:300]}")
