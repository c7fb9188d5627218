"""An admin promotes by adapter id and sees what is served, asked for and refused."""


async def promote(running, channel, **body):
    return await running.client.post(f"/admin/channels/{channel}", json=body)


async def test_a_promotion_is_served_and_is_in_the_history(running, make_adapter):
    adapter_id = make_adapter()
    response = await promote(running, "stable", adapter_id=adapter_id, reason="it won")
    assert response.status_code == 200
    await running.serves(adapter_id)
    body = (await running.client.get("/admin/channels/stable")).json()
    assert body["state"]["serves"] == adapter_id
    newest, base = body["history"]
    assert (newest["adapter_id"], newest["by"], newest["reason"]) == (adapter_id, "local", "it won")
    assert base["sequence"] == 0
    assert (await running.client.get("/admin/channels")).json()["data"]["stable"]["sequence"] == 1


async def test_adapters_are_listed_with_their_stage(running, make_adapter):
    served, published = make_adapter(seed=1), make_adapter(seed=2)
    await promote(running, "stable", adapter_id=served, reason="x")
    await running.serves(served)
    listed = (await running.client.get("/admin/adapters")).json()["data"]
    assert {card["adapter_id"]: card["stage"] for card in listed} == {
        served: "live",
        published: None,
    }


async def test_a_promotion_without_proof_or_of_nothing_is_refused(running, make_adapter):
    adapter_id = make_adapter()
    for channel, body, status, code in (
        ("stable", {"adapter_id": adapter_id}, 409, "no_verdict"),
        ("candidate", {"adapter_id": adapter_id, "reason": "please"}, 409, "no_verdict"),
        ("stable", {"adapter_id": "ppo-0123456789abcdef", "reason": "x"}, 404, "unknown_adapter"),
        ("stable", {"adapter_id": "../../etc", "reason": "x"}, 404, "unknown_adapter"),
        ("stable", {"adapter_id": "base-0000000000000000", "reason": "x"}, 409, "base_mismatch"),
        ("stable", {"reason": "x"}, 400, "missing_field"),
        ("nowhere", {"adapter_id": adapter_id, "reason": "x"}, 404, "channel_not_found"),
    ):
        response = await promote(running, channel, **body)
        assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    assert len(running.registry.history("stable")) == 1
    assert (await running.complete()).status_code == 200
