"""The outermost layer: counts requests and lets no unforeseen failure out with its words.

Plain ASGI, so it hides no disconnect. Knows no route.
"""

from __future__ import annotations

import traceback

import structlog
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import describe
from service.metrics import Metrics

log = structlog.get_logger(__name__)


class Edge:
    """Wraps the application.

    A server logs the traceback of an exception that reaches it, with the exception's text, which
    could quote a prompt. So nothing reaches it: we log where and of what kind it was.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        status = "aborted"

        async def noting_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        try:
            await self._app(scope, receive, noting_send)
        except ClientDisconnect:
            pass  # it left while it was sending its request
        except Exception as error:  # noqa: BLE001 -- see above
            _note(scope, error)
            if status == "aborted":
                await _failed(error)(scope, receive, noting_send)
        finally:
            route = getattr(scope.get("route"), "path", "unknown")
            self._metrics.requests.labels(route, status).inc()


def _failed(error: Exception) -> Response:
    status, content = describe(error)
    return JSONResponse(content, status)


def _note(scope: Scope, error: Exception) -> None:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    log.error(
        "unforeseen_error",
        route=scope["path"],
        kind=type(error).__name__,
        at=f"{frame.filename}:{frame.lineno}",
    )
