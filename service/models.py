"""Which names can be served, and which adapter each means now; GET /v1/models."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from feedback.adapter_files import is_adapter_id
from service.access import Caller
from service.assembly import Assembly, assembly_of
from service.errors import NotFound, Unavailable
from service.generation import Lease

router = APIRouter()


@router.get("/v1/models")
async def list_models(request: Request) -> JSONResponse:
    """List the names to use as `model`; the first one is the default."""
    service = assembly_of(request)
    service.caller(request)
    cards = [_card(service, name) for name in served_names(service)]
    return JSONResponse({"object": "list", "data": cards})


@router.get("/v1/models/{model}")
async def show_model(request: Request, model: str) -> JSONResponse:
    """Describe one name, as OpenAI's `models.retrieve`."""
    service = assembly_of(request)
    service.caller(request)
    if model not in served_names(service):
        raise _unknown(service, model)
    return JSONResponse(_card(service, model))


def served_names(service: Assembly) -> list[str]:
    """Return channels (the default first), live adapters and the base's name."""
    state = service.versions.state
    channels = [name for name in service.settings.channels if name in state.routes]
    default = service.settings.default_channel
    channels.sort(key=lambda name: name != default)
    live = [name for name in state.live_ids() if name != state.base_id]
    return [*channels, *live, state.base_id, service.base_name]


async def lease_model(
    service: Assembly, caller: Caller, model: str, num_choices: int
) -> tuple[str, list[Lease]]:
    """Return the adapter that a name means now, with a lease for each choice.

    Who may administrate can also name a published adapter that is not loaded: it is loaded.

    Raises:
        NotFound: the name is not served; the message lists those that are.
        Unavailable: a channel has no version yet, or an adapter finds no place.
    """
    state = service.versions.state
    adapter_id = state.base_id if model == service.base_name else state.routes.get(model, model)
    if state.is_live(adapter_id):
        return adapter_id, [service.versions.lease(adapter_id) for _ in range(num_choices)]
    is_known = model in service.journal.records or model == service.settings.default_channel
    if model in service.settings.channels and is_known:
        raise Unavailable(
            f"channel {model} has no version that can be served yet; /readyz says why",
            param="model",
            code="channel_not_ready",
        )
    if is_adapter_id(adapter_id) and caller.may("admin"):
        return adapter_id, [*await service.versions.load(adapter_id, num_choices)]
    raise _unknown(service, model)


def _unknown(service: Assembly, model: str) -> NotFound:
    served = ", ".join(served_names(service))
    return NotFound(
        f"model {model[:100]!r} is not served; served are: {served}",
        param="model",
        code="model_not_found",
    )


def _card(service: Assembly, name: str) -> dict[str, Any]:
    state = service.versions.state
    adapter_id = state.base_id if name == service.base_name else state.routes.get(name, name)
    return {
        "id": name,
        "object": "model",
        "created": service.started_s,
        "owned_by": "instructloop",
        "adapter_id": adapter_id,
    }
