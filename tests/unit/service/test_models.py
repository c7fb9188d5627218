"""Names: the default first, channels, live adapters, the base; a name is never silently another."""

import asyncio
import json

import pytest

from service.access import create_key


async def names(running, **fields):
    body = (await running.client.get("/v1/models", **fields)).json()
    return [card["id"] for card in body["data"]]


async def test_the_default_channel_is_first_then_what_is_live(running, make_adapter):
    adapter_id, candidate = make_adapter(seed=1), make_adapter(seed=2)
    running.registry.promote("stable", adapter_id, "test", "for the test")
    running.registry.write_verdict(candidate, "offline", {"passed": True})
    running.registry.promote("candidate", candidate, "test", "")
    await running.serves(adapter_id)
    await running.serves(candidate, "candidate")
    found = await names(running)
    assert found[:2] == ["stable", "candidate"]
    assert set(found[2:]) == {adapter_id, candidate, running.engine.base.adapter_id, "tiny-llama"}
    card = (await running.client.get("/v1/models/stable")).json()
    assert (card["object"], card["adapter_id"]) == ("model", adapter_id)


async def test_every_listed_name_can_be_asked(running, make_adapter):
    adapter_id = make_adapter()
    running.registry.promote("stable", adapter_id, "test", "for the test")
    await running.serves(adapter_id)
    for name in await names(running):
        body = (await running.complete(model=name)).json()
        expected = adapter_id if name in ("stable", adapter_id) else running.engine.base.adapter_id
        assert (body["model"], body["choices"][0]["adapter_id"]) == (name, expected)


@pytest.mark.parametrize(
    "model", ["gpt-4", "", "ppo-0123456789abcdef", "../../etc", "org/repo", "candidate", "x" * 999]
)
async def test_an_unknown_name_is_404_and_lists_those_served(running, model):
    """CASES A16 and B15."""
    response = await running.complete(model=model)
    error = response.json()["error"]
    assert response.status_code == 404
    assert (error["param"], error["code"]) == ("model", "model_not_found")
    assert model.startswith("ppo-") or "stable" in error["message"]
    assert len(error["message"]) < 600


async def test_a_published_adapter_is_loaded_because_an_admin_names_it(running, make_adapter):
    adapter_id = make_adapter()
    answers = await asyncio.gather(*(running.complete(model=adapter_id, n=2) for _ in range(4)))
    for answer in answers:
        assert {c["adapter_id"] for c in answer.json()["choices"]} == {adapter_id}
    assert running.engine.counts.num_loads == 1


async def test_more_adapters_can_be_named_than_the_engine_holds(start, make_adapter):
    running = await start(max_adapters=2)
    adapters = [make_adapter(seed=seed) for seed in range(4)]
    for adapter_id in adapters * 2:
        body = (await running.complete(model=adapter_id)).json()
        assert body["choices"][0]["adapter_id"] == adapter_id
    answers = await asyncio.gather(*(running.complete(model=name) for name in adapters))
    assert [answer.status_code for answer in answers] == [200] * 4


async def test_who_is_no_admin_can_name_only_live_adapters(start, registry, make_adapter):
    live, published = make_adapter(seed=1), make_adapter(seed=2)
    registry.promote("stable", live, "test", "for the test")
    secrets = {
        role: create_key(registry.data_dir / "keys.json", role)[1]
        for role in ("client", "labeler", "admin")
    }
    running = await start()
    await running.serves(live)

    async def status(role, model):
        running.client.headers["authorization"] = f"Bearer {secrets[role]}"
        return (await running.complete(model=model)).status_code

    assert [await status(role, live) for role in ("client", "labeler")] == [200, 200]
    assert [await status(role, published) for role in ("client", "labeler")] == [404, 404]
    assert await status("admin", published) == 200
    assert await status("client", published) == 200


async def test_an_adapter_that_cannot_be_served_is_named_with_its_reason(running, make_adapter):
    scorer = make_adapter(kind="rm")
    response = await running.complete(model=scorer)
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "not_servable"
    assert (await running.complete()).status_code == 200


async def test_a_channel_without_a_servable_version_is_503_never_the_base(start, registry):
    path = registry.data_dir / "channels" / "candidate"
    path.mkdir()
    entry = {"adapter_id": "ppo-0123456789abcdef", "by": "x", "reason": ""}
    (path / "0.json").write_text(json.dumps({**entry, "at": "2026-11-30T00:00:00Z"}))
    running = await start()
    await running.until(lambda: running.metric("swap_refusals_total", reason="unknown_adapter") > 0)
    response = await running.complete(model="candidate")
    assert response.status_code == 503
    assert response.json()["error"]["code"] == "channel_not_ready"
