"""A scripted service on a real socket: in a process of its own, or in the test's event loop."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from engines.scripted import ScriptedEngine
from service.scripted import ScriptedService, scripted_service
from service.server import Server, server_config
from service.settings import ServiceSettings

SCRIPT = Path(__file__).with_name("scripted_server.py")


@dataclass(frozen=True)
class ServerProcess:
    """A server subprocess and where it listens."""

    process: subprocess.Popen[str]
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@pytest.fixture
def spawn_server() -> Iterator[Callable[..., ServerProcess]]:
    """Return a function that starts scripted_server.py; what still runs is killed at the end."""
    with ExitStack() as stack:

        def spawn(
            data_dir: Path,
            delay_s: float = 0.0,
            grace_s: float = 5.0,
            environment: dict[str, str] | None = None,
        ) -> ServerProcess:
            command = [sys.executable, str(SCRIPT), str(data_dir), str(delay_s), str(grace_s)]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
            stack.enter_context(process)
            stack.callback(process.kill)
            assert process.stdout is not None
            return ServerProcess(process, int(process.stdout.readline()))

        yield spawn


@dataclass(frozen=True)
class LocalServer:
    """A server in the test's own event loop, so that the test can look at its engine."""

    service: ScriptedService
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def engine(self) -> ScriptedEngine:
        return self.service.engine


@asynccontextmanager
async def listening(service: ScriptedService) -> AsyncIterator[LocalServer]:
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    server = Server(
        server_config(service.app, "127.0.0.1", 0),
        service.app.state.service,
        port.set_result,
    )
    # Not serve(): the test's process keeps its own signal handlers.
    running = asyncio.create_task(server._serve())
    try:
        yield LocalServer(service, await asyncio.wait_for(port, 10))
    finally:
        server.should_exit = True
        await running
        await service.close()


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    """Return a function that serves a script on a real socket."""
    async with AsyncExitStack() as stack:

        async def serve_one(engine: ScriptedEngine | None = None, **settings: Any) -> LocalServer:
            chosen = ServiceSettings(**{"poll_interval_s": 0.02, **settings})
            service = scripted_service(tmp_path / "data", engine, chosen)
            return await stack.enter_async_context(listening(service))

        yield serve_one
