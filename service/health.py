"""/livez, /readyz and /metrics."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from engines.seam import Health
from service.assembly import Assembly, assembly_of

router = APIRouter()


@router.get("/livez")
async def livez(request: Request) -> JSONResponse:
    """Say whether the process and the engine's loop still turn; 503 asks for a restart."""
    service = assembly_of(request)
    health = await service.engine.health()
    is_live = _is_turning(service, health)
    body = {
        "status": "ok" if is_live else "engine loop stands still",
        "heartbeat_age_s": round(health.heartbeat_age_s, 3),
    }
    return JSONResponse(body, 200 if is_live else 503)


@router.get("/readyz")
async def readyz(request: Request) -> JSONResponse:
    """Say whether requests can be answered: the engine lives and a validated version is routed.

    A refused or lagging newer version is in the body and does not make the service unready.
    """
    service = assembly_of(request)
    problems = await _problems(service)
    body: dict[str, Any] = {
        "status": "ready" if not problems else "not ready",
        "problems": problems,
        "channels": service.journal.describe(),
    }
    return JSONResponse(body, 503 if problems else 200)


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """Return the metrics in Prometheus' text format."""
    service = assembly_of(request)
    _read_gauges(service, await service.engine.health())
    content = generate_latest(service.metrics.registry)
    return Response(content, headers={"Content-Type": CONTENT_TYPE_LATEST})


async def _problems(service: Assembly) -> list[str]:
    problems = []
    if not _is_turning(service, await service.engine.health()):
        problems.append("the engine does not answer")
    if not service.can_swap:
        problems.append("the driver of swaps has stopped; restart the service")
    default = service.settings.default_channel
    if default not in service.versions.state.routes:
        problems.append(_why_not_routed(service, default))
    return problems


def _why_not_routed(service: Assembly, channel: str) -> str:
    if channel in service.journal.problems:
        return f"channel {channel}: {service.journal.problems[channel]}"
    record = service.journal.records.get(channel)
    if record is None:
        return f"channel {channel} names no adapter yet"
    if record.refusal is not None:
        return f"channel {channel}: {record.refusal.code}: {record.refusal.message}"
    return f"channel {channel}: {record.entry.adapter_id} is being loaded"


def _is_turning(service: Assembly, health: Health) -> bool:
    return health.is_alive and health.heartbeat_age_s <= service.settings.heartbeat_limit_s


def _read_gauges(service: Assembly, health: Health) -> None:
    metrics, state = service.metrics, service.versions.state
    metrics.engine_alive.set(_is_turning(service, health))
    metrics.heartbeat_age_s.set(health.heartbeat_age_s)
    metrics.num_running.set(health.num_running)
    metrics.num_waiting.set(health.num_waiting)
    metrics.in_flight.set(len(service.in_flight))
    metrics.spool_depth.set(service.feedback_log.num_pending)
    metrics.live_adapters.set(len(state.live_ids()))
    metrics.adapter.clear()
    for channel, adapter_id in state.routes.items():
        metrics.adapter.labels(channel, adapter_id).set(1)
    for channel in service.journal.records:
        metrics.channel_lag_s.labels(channel).set(service.journal.lag_s(channel))
