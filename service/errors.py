"""One table from exception to OpenAI's error object; knows no route."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from engines.seam import ContextOverflow, EngineBusy, EngineStopped, UnknownAdapter
from feedback.adapter_files import AdapterRefused
from feedback.ballots import BallotRefused
from feedback.channels import ChannelError


class ServiceError(Exception):
    """An answer other than 2xx; param names the field of the request that is at fault."""

    status = 500
    type = "server_error"
    code: str | None = None

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.code = code if code is not None else type(self).code


class InvalidRequest(ServiceError):
    """A field is missing, unknown, of the wrong type or out of range."""

    status = 400
    type = "invalid_request_error"


class NotAuthenticated(ServiceError):
    """No API key, or one that is not in the keys file."""

    status = 401
    type = "authentication_error"
    code = "invalid_api_key"


class NotPermitted(ServiceError):
    """The key's role may not do this, or a browser page elsewhere tries to."""

    status = 403
    type = "permission_error"
    code = "not_permitted"


class NotFound(ServiceError):
    """What the request names does not exist here."""

    status = 404
    type = "invalid_request_error"
    code = "not_found"


class Conflict(ServiceError):
    """The ballot is closed, or the registry's state does not allow it."""

    status = 409
    type = "invalid_request_error"
    code = "conflict"


class BodyTooLarge(ServiceError):
    """The request body passes the limit."""

    status = 413
    type = "invalid_request_error"
    code = "body_too_large"


class EngineFailed(ServiceError):
    """The engine broke in the middle of an answer."""

    status = 500
    type = "server_error"
    code = "engine_error"


class Unavailable(ServiceError):
    """The service cannot do this now; the same request may succeed later."""

    status = 503
    type = "server_error"
    code = "unavailable"


@dataclass(frozen=True, slots=True)
class Row:
    """How an exception that is not ours appears over HTTP."""

    status: int
    type: str
    code: str
    param: str | None = None


TABLE: Mapping[type[Exception], Row] = {
    BallotRefused: Row(400, "invalid_request_error", "ballot_refused", "ballot"),
    ContextOverflow: Row(400, "invalid_request_error", "context_length_exceeded", "prompt"),
    UnknownAdapter: Row(503, "server_error", "adapter_not_loaded", "model"),
    EngineBusy: Row(503, "server_error", "engine_busy"),
    EngineStopped: Row(503, "server_error", "engine_stopped"),
    AdapterRefused: Row(409, "invalid_request_error", "adapter_refused", "adapter_id"),
    ChannelError: Row(404, "invalid_request_error", "channel_error", "channel"),
}

RETRY_AFTER_S = 2


def error_object(
    message: str, type_: str, param: str | None = None, code: str | None = None
) -> dict[str, Any]:
    """Return OpenAI's error object."""
    return {"error": {"message": message, "type": type_, "param": param, "code": code}}


def describe(error: Exception) -> tuple[int, dict[str, Any]]:
    """Return status and error object of any exception, for a response or an SSE event."""
    if isinstance(error, ServiceError):
        return error.status, error_object(str(error), error.type, error.param, error.code)
    row = next((TABLE[kind] for kind in type(error).__mro__ if kind in TABLE), None)
    if row is None:
        # Its own words stay here: they could quote a prompt.
        return 500, error_object("the service failed on this request", "server_error")
    status, code = row.status, row.code
    if isinstance(error, AdapterRefused):
        code = error.reason_code
        status = 404 if code == "unknown_adapter" else status
    if isinstance(error, BallotRefused):
        code = f"ballot_{error.reason}"
        status = 410 if error.reason == "expired" else status
    return status, error_object(str(error), row.type, row.param, code)


def install_error_handlers(app: FastAPI) -> None:
    """Make every foreseen failure, those of the router included, an error object."""
    foreseen: tuple[type[Exception], ...] = (ServiceError, *TABLE)
    for exception in foreseen:
        app.add_exception_handler(exception, _on_foreseen)
    app.add_exception_handler(HTTPException, _on_http_exception)


async def _on_foreseen(_: Request, error: Exception) -> JSONResponse:
    status, content = describe(error)
    headers = {"Retry-After": str(RETRY_AFTER_S)} if status == 503 else None
    return JSONResponse(content, status, headers=headers)


async def _on_http_exception(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    message, code = str(error.detail), "http_error"
    if error.status_code == 404:
        message, code = f"there is no route {request.method} {request.url.path}", "route_not_found"
    if error.status_code == 405:
        message = f"{request.url.path} does not take {request.method}"
        code = "method_not_allowed"
    content = error_object(message, "invalid_request_error", None, code)
    return JSONResponse(content, error.status_code, headers=error.headers)
