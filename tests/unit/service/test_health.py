"""Live while the engine's loop turns, ready while a validated version is routed; and metrics."""

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from engines.scripted import ScriptedEngine
from engines.seam import Health
from service.scripted import scripted_service


async def get(running, path):
    return await running.client.get(path)


@pytest.mark.parametrize(
    ("health", "expected"),
    [
        (Health(True, 0.1, 1, 0), 200),
        (Health(True, 31.0, 1, 0), 503),
        (Health(False, 0.1, 0, 0), 503),
    ],
)
async def test_an_engine_that_stands_still_is_not_live(start, health, expected):
    """CASES F3."""

    class Patient(ScriptedEngine):
        async def health(self):
            return health

    running = await start(engine_type=Patient)
    assert (await get(running, "/livez")).status_code == expected
    assert (await get(running, "/readyz")).status_code == expected


async def test_ready_says_what_each_channel_serves(running):
    body = (await get(running, "/readyz")).json()
    assert body["status"] == "ready"
    assert body["channels"]["stable"]["serves"] == running.engine.base.adapter_id


async def test_a_registry_that_goes_away_changes_nothing_but_the_report(running):
    directory = running.registry.data_dir / "channels" / "stable"
    (directory / "1.json").write_text("{")
    journal = running.service.app.state.service.journal
    await running.until(lambda: "stable" in journal.problems)
    ready = await get(running, "/readyz")
    assert ready.status_code == 200
    assert "1.json" in ready.json()["channels"]["stable"]["problem"]
    assert (await running.complete()).status_code == 200
    (directory / "1.json").unlink()
    await running.until(lambda: not journal.problems)


async def test_metrics_count_what_happened(running, make_adapter):
    await running.complete(n=2)
    await running.vote(await running.ballot(3))
    await running.complete(n=0)
    await running.complete(stream=True)
    adapter_id = make_adapter()
    running.registry.promote("stable", adapter_id, "test", "for the test")
    await running.serves(adapter_id)
    text = (await get(running, "/metrics")).text
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert all(family.documentation for family in families.values())
    route = {"route": "/v1/completions"}
    assert running.metric("requests_total", **route, status="200") == 3
    assert running.metric("requests_total", **route, status="400") == 1
    assert running.metric("choices_total", delivery="complete", stop_reason="eos") == 6
    assert running.metric("tokens_total", kind="completion") == 30
    assert running.metric("votes_total", outcome="accepted") == 1
    assert running.metric("channel_adapter", channel="stable", adapter_id=adapter_id) == 1
    assert running.metric("engine_alive") == 1
    assert running.metric("channel_lag_seconds", channel="stable") == 0
    assert running.metric("swap_seconds_count") == 2
    assert running.metric("spool_pending") == 0


async def test_two_services_in_one_process_do_not_share_metrics(start):
    first, second = await start(), await start()
    await first.complete()
    assert second.metric("tokens_total", kind="completion") == 0


async def test_before_its_first_look_at_the_registry_the_service_is_not_ready(tmp_path):
    service = scripted_service(tmp_path)
    transport = httpx.ASGITransport(service.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        ready = await client.get("/readyz")
        completion = await client.post("/v1/completions", json={"model": "stable", "prompt": "x"})
    assert ready.status_code == 503
    assert "stable" in ready.json()["problems"][0]
    assert completion.status_code == 503
    await service.close()
