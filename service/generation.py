"""Run the choices of one response side by side and merge what they say; knows no HTTP."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import Protocol, Self

from engines.seam import Engine, GenerateRequest, TokenDelta
from service.transcripts import Transcript

Item = tuple[int, TokenDelta | Exception]


class Lease(Protocol):
    """Keeps an adapter loaded until it is released."""

    def release(self) -> None:
        """Let the adapter go; a second call is a no-op."""
        ...


class ChoiceFailed(Exception):
    """A choice did not come to its end; the message is for the client."""

    def __init__(self, message: str, code: str = "engine_error") -> None:
        super().__init__(message)
        self.code = code


class Generation:
    """The choices of one response, each pinned to its adapter by a lease of its own.

    Use as an async context manager: leaving it aborts what still runs, waits until the engine has
    let go, and only then releases the leases. One that is never entered must be closed.
    """

    def __init__(
        self, engine: Engine, requests: Sequence[GenerateRequest], leases: Sequence[Lease]
    ) -> None:
        self.transcripts = [Transcript() for _ in requests]
        self.first_token_at: float | None = None
        """time.monotonic() of the first delta."""
        self._engine = engine
        self._requests = requests
        self._leases = leases
        self._items: asyncio.Queue[Item] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [
            asyncio.create_task(self._run(index, request, lease))
            for index, (request, lease) in enumerate(zip(self._requests, self._leases, strict=True))
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.close()

    def close(self) -> None:
        """Release what a choice that never began to run could not release itself."""
        for lease in self._leases:
            lease.release()

    @property
    def is_complete(self) -> bool:
        """Say whether every choice came to its own end."""
        return all(transcript.finish is not None for transcript in self.transcripts)

    def abort(self, message: str, code: str) -> None:
        """End the response with an error, e.g. because the service stops."""
        self._items.put_nowait((0, ChoiceFailed(message, code)))

    async def deltas(self) -> AsyncIterator[tuple[int, TokenDelta]]:
        """Yield (choice index, delta) in the order of arrival until every choice has ended.

        Raises:
            ChoiceFailed: a choice broke, or the response was aborted.
        """
        num_open = len(self._requests)
        while num_open:
            index, item = await self._items.get()
            if isinstance(item, Exception):
                raise item
            self.first_token_at = self.first_token_at or time.monotonic()
            self.transcripts[index].add(item)
            num_open -= item.finish is not None
            yield index, item

    async def finish(self) -> None:
        """Run every choice to its end.

        Raises:
            ChoiceFailed: see deltas.
        """
        async for _ in self.deltas():
            pass

    async def _run(self, index: int, request: GenerateRequest, lease: Lease) -> None:
        try:
            async with aclosing(checked_deltas(self._engine, request)) as deltas:
                async for delta in deltas:
                    self._items.put_nowait((index, delta))
        except Exception as error:  # noqa: BLE001 -- whatever broke is raised by deltas()
            self._items.put_nowait((index, error))
        finally:
            lease.release()


async def checked_deltas(
    engine: Engine, request: GenerateRequest
) -> AsyncGenerator[TokenDelta, None]:
    """Yield an engine's deltas up to the finishing one; closing this closes the engine's iterator.

    Raises:
        ChoiceFailed: the choice ended otherwise than by its own end.
    """
    iterator = engine.generate(request)
    try:
        async for delta in iterator:
            if delta.finish is not None and delta.finish.reason in ("error", "aborted"):
                reason = delta.finish.message or delta.finish.reason
                raise ChoiceFailed(f"the engine broke off: {reason}")
            yield delta
            if delta.finish is not None:
                return
        raise ChoiceFailed("the engine ended an answer without saying why")
    finally:
        close = getattr(iterator, "aclose", None)
        if close is not None:
            await close()
