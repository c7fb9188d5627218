"""The responses being generated now, so that a shutdown can end them; knows no HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from service.generation import Generation


class InFlight:
    """Tracks generations while they run."""

    def __init__(self) -> None:
        self._generations: set[Generation] = set()

    def __len__(self) -> int:
        return len(self._generations)

    @contextmanager
    def track(self, generation: Generation) -> Iterator[None]:
        """Count a generation in for the length of the block."""
        self._generations.add(generation)
        try:
            yield
        finally:
            self._generations.discard(generation)

    def abort_all(self, message: str, code: str) -> None:
        """End every open response with an error."""
        for generation in self._generations:
            generation.abort(message, code)
