"""A whole service over a scripted engine and a real data directory, with an in-process client."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from engines.scripted import Script, ScriptedEngine
from feedback.base_description import BaseDescription
from feedback.events.codec import decode
from feedback.events.envelope import Event
from feedback.registry import Registry
from service.scripted import ScriptedService, scripted_service
from service.settings import ServiceSettings

FAST = ServiceSettings(poll_interval_s=0.01, retry_interval_s=0.05, load_timeout_s=2.0)


@dataclass
class Running:
    """A started service and a client of it."""

    service: ScriptedService
    client: httpx.AsyncClient
    engine: ScriptedEngine
    registry: Registry
    data_dir: Path = field(default=Path())

    async def complete(self, **fields: Any) -> httpx.Response:
        body = {"model": "stable", "prompt": "Say something", **fields}
        return await self.client.post("/v1/completions", json=body)

    async def ballot(self, n: int = 3, **fields: Any) -> dict[str, Any]:
        response = await self.complete(n=n, **fields)
        assert response.status_code == 200, response.text
        (ballot,) = response.json()["ballots"]
        return ballot

    async def vote(self, ballot: dict[str, Any], **fields: Any) -> httpx.Response:
        ranking = [[choice["choice_id"]] for choice in ballot["choices"]]
        body = {"ballot": ballot["token"], "ranking": ranking, **fields}
        return await self.client.post("/v1/feedback/rankings", json=body)

    def events(self, event_type: str = "") -> list[Event]:
        """Return what is in the spool, all of it or one type."""
        events = [decode(record.payload) for record in self.service.spool.read(0, 10_000)]
        return [event for event in events if event_type in ("", event.type)]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something holds, at most 5 s."""
        async with asyncio.timeout(5):
            while not condition():
                await asyncio.sleep(0.005)

    async def serves(self, adapter_id: str, channel: str = "stable") -> None:
        """Wait until a channel routes to an adapter."""
        state = self.service.app.state.service.versions
        await self.until(lambda: state.state.routes.get(channel) == adapter_id)

    def metric(self, name: str, **labels: str) -> float:
        """Return a metric's value, 0 if it was never touched."""
        metrics = self.service.app.state.service.metrics.registry
        return metrics.get_sample_value(f"instructloop_{name}", labels) or 0.0


Start = Callable[..., Any]


@asynccontextmanager
async def started(service: ScriptedService) -> AsyncIterator[Running]:
    app = service.app
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client,
    ):
        running = Running(service, client, service.engine, service.registry)
        await running.until(lambda: bool(app.state.service.versions.state.routes))
        yield running
    await service.close()


@pytest.fixture
async def start(
    registry: Registry, tiny_base: BaseDescription
) -> AsyncIterator[Callable[..., Any]]:
    """Return a function that starts a service on the registry's data directory."""
    async with AsyncExitStack() as stack:

        async def start_one(
            script_of: Callable[..., Script] | None = None,
            settings: ServiceSettings = FAST,
            engine_type: type[ScriptedEngine] = ScriptedEngine,
            service_fields: Mapping[str, Any] | None = None,
            **engine_fields: Any,
        ) -> Running:
            scripted = {} if script_of is None else {"script_of": script_of}
            engine = engine_type(base=tiny_base, **scripted, **engine_fields)
            service = scripted_service(
                registry.data_dir, engine, settings, **(service_fields or {})
            )
            running = await stack.enter_async_context(started(service))
            running.data_dir = registry.data_dir
            return running

        yield start_one


@pytest.fixture
async def running(start: Start) -> Running:
    """A service as it starts by default."""
    return await start()
