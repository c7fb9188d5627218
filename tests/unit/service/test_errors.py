"""Every answer other than 2xx is OpenAI's error object."""

import pytest

from engines.scripted import ScriptedEngine


def is_error_object(response):
    error = response.json()["error"]
    return set(error) == {"message", "type", "param", "code"} and error["message"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/completions", 404),
        ("POST", "/v1/chat", 404),
        ("GET", "/v1/completions", 405),
        ("DELETE", "/v1/models", 405),
        ("GET", "/v1/models/nobody", 404),
        ("GET", "/admin/channels/nowhere", 404),
    ],
)
async def test_routes_that_are_not_there(running, method, path, status):
    response = await running.client.request(method, path)
    assert response.status_code == status
    assert is_error_object(response)


@pytest.mark.parametrize("path", ["rankings", "ratings", "demonstrations", "ballots"])
async def test_bodies_of_feedback_that_are_wrong(running, path):
    for body in (b"", b"[]", b"{}", b'{"unknown": 1}'):
        response = await running.client.post(f"/v1/feedback/{path}", content=body)
        assert response.status_code == 400
        assert is_error_object(response)


async def test_an_unforeseen_failure_is_a_500_and_a_log_line_without_its_words(
    start, capsys, caplog
):
    class Broken(ScriptedEngine):
        async def health(self):
            raise RuntimeError("a secret")

    running = await start(engine_type=Broken)
    response = await running.client.get("/livez")
    assert response.status_code == 500
    assert is_error_object(response)
    assert "secret" not in response.text
    captured = capsys.readouterr()
    assert "RuntimeError" in captured.out
    assert "secret" not in captured.out + captured.err + caplog.text
