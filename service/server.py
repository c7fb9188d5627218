"""Run the application under uvicorn with a bounded, graceful end; knows no route.

On SIGTERM and SIGINT: no new connections; open answers go on for the grace period, then end with
an error event; what was accepted is durable when the caller closes the spool.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import signal
import socket
from collections.abc import Callable, Iterator
from types import FrameType

import uvicorn
from fastapi import FastAPI

from service.assembly import Assembly

# Between the end of the last answer and uvicorn's own limit, for error events to leave.
FAREWELL_S = 2.0
KEEP_ALIVE_S = 30


class Server(uvicorn.Server):
    """Uvicorn that ends open answers with an error event and returns to its caller on a signal."""

    def __init__(
        self, config: uvicorn.Config, service: Assembly, on_started: Callable[[int], None]
    ) -> None:
        super().__init__(config)
        self._service = service
        self._on_started = on_started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_started(self.servers[0].sockets[0].getsockname()[1])

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        ending = asyncio.create_task(self._end_answers())
        try:
            await super().shutdown(sockets)
        finally:
            ending.cancel()

    async def _end_answers(self) -> None:
        await asyncio.sleep(self._service.settings.shutdown_grace_s)
        self._service.in_flight.abort_all("the service is shutting down", "shutting_down")

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals without raising them again: uvicorn's would kill us before clean-up."""
        signals = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self._on_signal) for number in signals}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.handle_exit(number, frame)


def server_config(app: FastAPI, host: str, port: int) -> uvicorn.Config:
    """Return uvicorn's configuration; its logs are off, since they would show addresses."""
    grace_s = service_of(app).settings.shutdown_grace_s
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=math.ceil(grace_s + FAREWELL_S),
    )


def service_of(app: FastAPI) -> Assembly:
    """Return the service behind an application made by create_app."""
    service = app.state.service
    assert isinstance(service, Assembly)
    return service


def open_listener(host: str, port: int) -> socket.socket:
    """Take the address at once, before anything slow; port 0 takes a free one.

    Who connects before the service runs waits for it.

    Raises:
        ValueError: the address cannot be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host.strip("[]"), port), family=family)
    except OSError as error:
        raise ValueError(
            f"cannot listen on {host} port {port}: {error.strerror or error}; "
            "choose another with --port (0 takes a free one) or --host"
        ) from error


async def run_server(
    app: FastAPI, listener: socket.socket, on_started: Callable[[int], None] = lambda _: None
) -> None:
    """Serve until SIGTERM or SIGINT and close the listener; on_started gets its port."""
    host, port = listener.getsockname()[:2]
    server = Server(server_config(app, host, port), service_of(app), on_started)
    await server.serve(sockets=[listener])
