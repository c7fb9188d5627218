"""The FastAPI application over its dependencies; knows how none of them was made."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import admin, ballot_routes, completions, feedback_routes, health, models, rankings
from service.assembly import Assembly
from service.dependencies import Dependencies
from service.errors import install_error_handlers
from service.metrics import Metrics

ROUTERS = (
    completions.router,
    models.router,
    rankings.router,
    feedback_routes.router,
    ballot_routes.router,
    admin.router,
    health.router,
)


def create_app(dependencies: Dependencies) -> FastAPI:
    """Return the service; its channels are watched while its lifespan runs.

    The caller owns the dependencies and closes them after the application has stopped.
    """
    service = Assembly(dependencies)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with service.running():
            yield

    app = FastAPI(title="instructloop", version=version("instructloop"), lifespan=lifespan)
    app.state.service = service
    for router in ROUTERS:
        app.include_router(router)
    install_error_handlers(app)
    app.add_middleware(CountRequests, metrics=service.metrics)
    return app


class CountRequests:
    """Counts requests by route and status; plain ASGI, so it hides no disconnect."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        status = "aborted"

        async def counting_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        try:
            await self._app(scope, receive, counting_send)
        finally:
            route = getattr(scope.get("route"), "path", "unknown")
            self._metrics.requests.labels(route, status).inc()
