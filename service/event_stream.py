"""Server-sent events that stop with their client; knows no payload."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Any

from pydantic_core import to_json
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.disconnects import ClientGone, unless_gone

DONE = b"data: [DONE]\n\n"


def encode_event(payload: Mapping[str, Any]) -> bytes:
    """Return one event."""
    return b"data: " + to_json(payload) + b"\n\n"


class EventStream(Response):
    """Sends what events yields; closes it as soon as the client is gone.

    The status leaves with the first event, so what fails before it is an error response.
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes, None], on_end: Callable[[], None]) -> None:
        """Take the events, and what to do at the end even if events was never begun."""
        self._events = events
        self._on_end = on_end
        self.status_code = 200
        self.background = None
        # Proxies must neither cache nor collect the stream.
        self.init_headers({"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await unless_gone(receive, self._send_all(send))
        except ClientGone:
            return
        finally:
            self._on_end()

    async def _send_all(self, send: Send) -> None:
        async with aclosing(self._events) as events:
            has_started = False
            async for event in events:
                if not has_started:
                    headers = self.raw_headers
                    await send({"type": "http.response.start", "status": 200, "headers": headers})
                    has_started = True
                await send({"type": "http.response.body", "body": event, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
