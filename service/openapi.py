"""Describe request bodies to OpenAPI: routes read them themselves; knows no route."""

from __future__ import annotations

from typing import Any

from service.requests import RequestBody


def request_body(model: type[RequestBody]) -> dict[str, Any]:
    """Return the openapi_extra of a route whose body is this model."""
    schema = {"type": "object", **_inlined(model.model_json_schema())}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """Replace references to $defs by what they refer to: the bodies are not recursive."""
    definitions = schema.pop("$defs", {})

    def inline(node: Any) -> Any:
        if isinstance(node, list):
            return [inline(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return inline(definitions[node["$ref"].rpartition("/")[2]])
        return {key: inline(value) for key, value in node.items()}

    inlined: dict[str, Any] = inline(schema)
    return inlined
