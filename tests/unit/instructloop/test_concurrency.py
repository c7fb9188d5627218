"""Many coroutines, a few at a time."""

import asyncio

import pytest

from instructloop.demo.concurrency import map_bounded


async def test_results_keep_the_order_of_the_items():
    async def work(n: int) -> int:
        await asyncio.sleep((5 - n) / 1000)
        return n * n

    assert await map_bounded(work, range(5), limit=5) == [0, 1, 4, 9, 16]


async def test_never_more_than_the_limit_run_at_once():
    running = most = 0

    async def work(_: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1

    await map_bounded(work, range(20), limit=3)
    assert most == 3


async def test_the_first_exception_is_raised_as_it_was_and_stops_the_rest():
    finished = []

    async def work(n: int) -> None:
        if n == 0:
            raise ValueError("no")
        await asyncio.sleep(1)
        finished.append(n)

    with pytest.raises(ValueError, match="no"):
        await map_bounded(work, range(4), limit=4)
    assert finished == []
