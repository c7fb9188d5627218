"""The page on the HTTP API names every route and every field there is."""

from pathlib import Path

import pytest

from service import feedback_requests
from service.completion_request import CompletionRequest, Metadata

PAGE = (Path(__file__).parents[3] / "docs" / "http.md").read_text()
OWN_FIELDS = {"top_k", "metadata", "store", "user", "echo", "suffix", "best_of", "logit_bias"}


async def test_every_route_is_on_the_page(running):
    paths = running.service.app.openapi()["paths"]
    missing = []
    for path in paths:
        written = path.replace("{ballot_id}", "{id}").replace("{channel}", "{name}")
        if written.split("/{model}")[0] not in PAGE and path not in ("/livez", "/metrics"):
            missing.append(path)
    assert missing == []


@pytest.mark.parametrize(
    "model",
    [
        feedback_requests.RankingRequest,
        feedback_requests.RatingRequest,
        feedback_requests.BallotRequest,
        Metadata,
    ],
)
def test_every_field_is_on_the_page(model):
    assert [
        name for name in model.model_fields if f"`{name}`" not in PAGE and f".{name}`" not in PAGE
    ] == []


def test_what_is_not_openais_is_on_the_page():
    assert CompletionRequest.model_fields.keys() >= OWN_FIELDS
    assert [name for name in OWN_FIELDS if name not in PAGE] == []


async def test_bodies_are_in_the_openapi_document(running):
    paths = running.service.app.openapi()["paths"]
    for path in ("/v1/completions", "/v1/feedback/rankings", "/admin/channels/{channel}"):
        schema = paths[path]["post"]["requestBody"]["content"]["application/json"]["schema"]
        assert schema["type"] == "object"
        assert schema["additionalProperties"] is False
        assert "$ref" not in str(schema)
