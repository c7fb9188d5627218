"""Work stops with its client, clean-up included, and is not disturbed otherwise."""

import asyncio

import pytest

from service.disconnects import ClientGone, unless_gone


class Client:
    """Receives what a test sends."""

    def __init__(self):
        self.messages = asyncio.Queue()

    async def __call__(self):
        return await self.messages.get()

    def leave(self):
        self.messages.put_nowait({"type": "http.disconnect"})


class Work:
    def __init__(self):
        self.is_clean = False

    async def run(self, duration_s=60.0):
        try:
            await asyncio.sleep(duration_s)
            return "done"
        finally:
            await asyncio.sleep(0.01)
            self.is_clean = True


async def test_the_result_is_returned_while_the_client_stays():
    assert await unless_gone(Client(), Work().run(0.001)) == "done"


async def test_work_is_cancelled_and_cleaned_up_when_the_client_leaves():
    client, work = Client(), Work()
    client.messages.put_nowait({"type": "http.request"})
    waiting = asyncio.create_task(unless_gone(client, work.run()))
    await asyncio.sleep(0.01)
    client.leave()
    with pytest.raises(ClientGone):
        await waiting
    assert work.is_clean


async def test_a_failure_of_the_work_is_raised():
    async def fail():
        raise KeyError("x")

    with pytest.raises(KeyError):
        await unless_gone(Client(), fail())


async def test_cancelling_from_outside_cleans_up_too():
    work = Work()
    waiting = asyncio.create_task(unless_gone(Client(), work.run()))
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert work.is_clean
    assert len(asyncio.all_tasks()) == 1
