"""Promote an adapter while visitors keep asking, and measure how long it takes to be served."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from instructloop.demo.scene import CHANNEL, DemoFailed, Scene
from instructloop.demo.traffic import Pace

PACE = Pace(num_clients=4, pause_s=0.2, max_tokens=24)
# Long enough that answers of the old version are open when the new one comes, and some follow.
_AROUND_S = 3.0
_TIMEOUT_S = 180.0
_LOOK_INTERVAL_S = 0.05
_LOOKS_PER_QUESTION = 20


@dataclass(frozen=True, slots=True)
class Swap:
    """How a promotion went.

    seconds: from the first promotion request to the first token of the new version at a visitor.
    num_requests, num_failed: of the visitors around the swap.
    """

    adapter_id: str
    seconds: float
    num_requests: int
    num_failed: int


async def swap(
    scene: Scene, adapter_id: str, reason: str, *, through: tuple[str, ...] = ()
) -> Swap:
    """Promote `adapter_id` to `stable` through the admin API, under traffic.

    `through` names channels to promote to first, which ask for proof of their own.

    Raises:
        RequestFailed: the promotion was refused.
        DemoFailed: the service refused the adapter, or nobody heard it in time.
    """
    visits = scene.traffic.visits
    before, failed_before = visits.num_requests, len(visits.failures)
    async with scene.traffic.running(PACE):
        await asyncio.sleep(_AROUND_S)
        promoted_at = time.monotonic()
        for channel in (*through, CHANNEL):
            await scene.api.promote(channel, adapter_id, reason)
        heard_at = await _heard(scene, adapter_id)
        await asyncio.sleep(_AROUND_S)
    return Swap(
        adapter_id=adapter_id,
        seconds=heard_at - promoted_at,
        num_requests=visits.num_requests - before,
        num_failed=len(visits.failures) - failed_before,
    )


async def _heard(scene: Scene, adapter_id: str) -> float:
    for look in range(int(_TIMEOUT_S / _LOOK_INTERVAL_S)):
        if (heard_at := scene.traffic.visits.first_token_of(adapter_id)) is not None:
            return heard_at
        if look % _LOOKS_PER_QUESTION == 0:
            refusal = await scene.api.refusal(CHANNEL)
            if refusal is not None:
                raise DemoFailed(f"the service refused to serve {adapter_id}: {refusal}")
        await asyncio.sleep(_LOOK_INTERVAL_S)
    raise DemoFailed(f"no visitor heard {adapter_id} within {_TIMEOUT_S:g} s of its promotion")
