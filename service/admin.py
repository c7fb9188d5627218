"""/admin/adapters and /admin/channels: what is published, what is served, and promotion."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import Field

from feedback.channels import ChannelEntry
from service.access import Caller, require_role
from service.assembly import Assembly, assembly_of
from service.errors import NotFound
from service.openapi import request_body
from service.requests import RequestBody, read_body

router = APIRouter(prefix="/admin")


class PromotionRequest(RequestBody):
    """The body of POST /admin/channels/{channel}."""

    adapter_id: str
    reason: Annotated[str, Field(max_length=2000)] = ""


@router.get("/adapters")
async def list_adapters(request: Request) -> JSONResponse:
    """List the published adapters and how far each is in the engine."""
    service, _ = _as_admin(request)
    names = await asyncio.to_thread(service.dependencies.registry.list_adapters)
    return JSONResponse({"data": [_describe_adapter(service, name) for name in names]})


@router.get("/channels")
async def list_channels(request: Request) -> JSONResponse:
    """Say what each channel asks for and serves."""
    service, _ = _as_admin(request)
    return JSONResponse({"data": service.journal.describe()})


@router.get("/channels/{channel}")
async def show_channel(request: Request, channel: str) -> JSONResponse:
    """Return a channel's state and its history, newest first."""
    service, _ = _as_admin(request)
    _require_channel(service, channel)
    history = await asyncio.to_thread(service.dependencies.registry.history, channel)
    return JSONResponse(
        {
            "channel": channel,
            "state": service.journal.describe().get(channel),
            "history": [_describe_entry(entry) for entry in reversed(history)],
        }
    )


@router.post("/channels/{channel}", openapi_extra=request_body(PromotionRequest))
async def promote(request: Request, channel: str) -> JSONResponse:
    """Validate an adapter and make it the channel's newest entry; the swap follows at once."""
    service, caller = _as_admin(request)
    _require_channel(service, channel)
    body = await read_body(request, PromotionRequest, service.settings.max_body_bytes)
    entry = await asyncio.to_thread(
        service.dependencies.registry.promote,
        channel,
        body.adapter_id,
        caller.key_id,
        body.reason,
    )
    service.watch.wake()
    return JSONResponse({"channel": channel, **_describe_entry(entry)})


def _as_admin(request: Request) -> tuple[Assembly, Caller]:
    service = assembly_of(request)
    caller = service.caller(request)
    require_role(caller, "admin")
    return service, caller


def _require_channel(service: Assembly, channel: str) -> None:
    channels = service.settings.channels
    if channel not in channels:
        raise NotFound(
            f"channel {channel[:100]!r} is not served here; served are {', '.join(channels)}",
            param="channel",
            code="channel_not_found",
        )


def _describe_adapter(service: Assembly, adapter_id: str) -> dict[str, Any]:
    state = service.versions.state
    version = state.versions.get(adapter_id)
    return {
        "adapter_id": adapter_id,
        "stage": None if version is None else version.stage,
        "num_choices": 0 if version is None else version.num_choices,
        "channels": [name for name, routed in state.routes.items() if routed == adapter_id],
    }


def _describe_entry(entry: ChannelEntry) -> dict[str, Any]:
    return entry.model_dump(mode="json")
