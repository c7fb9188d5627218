"""The FastAPI application over its dependencies; knows how none of them was made."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI

from service import admin, ballot_routes, completions, feedback_routes, health, models, rankings
from service.assembly import Assembly
from service.dependencies import Dependencies
from service.edge import Edge
from service.errors import install_error_handlers

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
    app.add_middleware(Edge, metrics=service.metrics)
    return app
