"""Read a JSON body into a strict model, or say which field is wrong; knows no route."""

from __future__ import annotations

from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from service.errors import BodyTooLarge, InvalidRequest


class RequestBody(BaseModel):
    """A request body: unknown fields are refused by name, null means left out.

    OpenAI ignores unknown fields. We refuse them, because a misspelt or unsupported option that
    is silently ignored changes answers without anybody noticing.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _null_means_left_out(cls, data: Any) -> Any:
        if isinstance(data, dict):
            return {name: value for name, value in data.items() if value is not None}
        return data


Body = TypeVar("Body", bound=RequestBody)


async def read_body(request: Request, model: type[Body], max_bytes: int) -> Body:
    """Return the request's body as a model.

    Raises:
        BodyTooLarge: it has more than max_bytes; no more than that is kept in memory.
        InvalidRequest: it is not JSON, or a field is wrong; param names the field.
    """
    body = await _read_bytes(request, max_bytes)
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise _invalid(error) from None


async def _read_bytes(request: Request, max_bytes: int) -> bytes:
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > max_bytes:
        raise _too_large(max_bytes)
    chunks: list[bytes] = []
    size_bytes = 0
    async for chunk in request.stream():
        size_bytes += len(chunk)
        if size_bytes > max_bytes:
            raise _too_large(max_bytes)
        chunks.append(chunk)
    return b"".join(chunks)


def _too_large(max_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(f"the body is larger than {max_bytes} bytes; send a smaller one")


def _invalid(error: ValidationError) -> InvalidRequest:
    """Name the first wrong field; the message never quotes a value, which could be a prompt."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    param = ".".join(str(part) for part in first["loc"]) or None
    match first["type"]:
        case "json_invalid":
            return InvalidRequest(f"the body is not JSON: {first['msg'].lower()}", code="not_json")
        case "extra_forbidden":
            message = f"unknown field {param}; it is not supported, leave it out"
            return InvalidRequest(message, param=param, code="unknown_field")
        case "missing":
            return InvalidRequest(f"{param} is required", param=param, code="missing_field")
    text = first["msg"].removeprefix("Value error, ")
    message = text if param is None or text.startswith(param) else f"{param}: {text}"
    return InvalidRequest(message, param=param, code="invalid_value")
