"""Start the demo's processes and let none outlive it; knows nothing of what they do."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

Tell = Callable[[str], None]
Result = TypeVar("Result")

_LOOK_INTERVAL_S = 0.5
# A user's settings are for the user's service; these two hold for the demo's as well.
_KEPT_VARIABLES = ("INSTRUCTLOOP_CACHE_DIR", "INSTRUCTLOOP_DEBUG")
_MAX_LINE_BYTES = 8 * 1024 * 1024


def _tell_nobody(line: str) -> None:
    """Take news and drop it."""


class ProcessFailed(Exception):
    """A process ended with an error; the message is its own last line."""


@dataclass(frozen=True, slots=True)
class Process:
    """A running process. What it says on standard error goes to `log`."""

    name: str
    process: asyncio.subprocess.Process
    log: Path

    async def next_line(self, tell: Tell = _tell_nobody) -> str:
        """Return the next line of standard output; `tell` gets the log's newest line meanwhile.

        Raises:
            ProcessFailed: it ended before it said anything more.
        """
        assert self.process.stdout is not None
        line = await self._telling(self.process.stdout.readline(), tell)
        if not line:
            await self.process.wait()
            raise ProcessFailed(self.last_words())
        return line.decode().strip()

    async def finish(self, tell: Tell = _tell_nobody) -> str:
        """Wait for the end and return the standard output; `tell` gets the log's newest line.

        Raises:
            ProcessFailed: it ended with other than 0.
        """
        stdout, _ = await self._telling(self.process.communicate(), tell)
        if self.process.returncode != 0:
            raise ProcessFailed(self.last_words())
        return stdout.decode()

    async def _telling(self, work: Coroutine[Any, Any, Result], tell: Tell) -> Result:
        task = asyncio.create_task(work)
        try:
            while not (await asyncio.wait({task}, timeout=_LOOK_INTERVAL_S))[0]:
                tell(last_line(self.log))
        finally:
            task.cancel()
        return await task

    def last_words(self) -> str:
        """Say why it ended: its name and the last line of its log."""
        reason = last_line(self.log).removeprefix("error: ") or "it said nothing"
        return f"{self.name} ended with status {self.process.returncode}: {reason}"

    async def end(self, timeout_s: float) -> None:
        """Ask it to end, and kill it where it does not listen."""
        if self.process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        try:
            async with asyncio.timeout(timeout_s):
                await self.process.wait()
        except TimeoutError:
            self.process.kill()
            await self.process.wait()


class Processes:
    """Starts Python modules as processes."""

    def __init__(self, log_dir: Path, end_timeout_s: float) -> None:
        self._log_dir = log_dir
        self._end_timeout_s = end_timeout_s
        self._started: list[Process] = []

    async def start(self, name: str, module: str, arguments: Sequence[str | Path]) -> Process:
        """Start `python -m module arguments...`; its standard error goes to NAME.log."""
        log = self._log_dir / f"{name.replace(' ', '-')}.log"
        with log.open("ab") as stderr:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                module,
                *map(str, arguments),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr,
                env=_environment(),
                limit=_MAX_LINE_BYTES,
            )
        started = Process(name, process, log)
        self._started.append(started)
        return started

    async def end_all(self) -> None:
        """End what still runs, the last started first."""
        for process in reversed(self._started):
            await process.end(self._end_timeout_s)


@contextlib.asynccontextmanager
async def processes(log_dir: Path, end_timeout_s: float = 20.0) -> AsyncIterator[Processes]:
    """Give processes that end with the block, however it ends."""
    log_dir.mkdir(parents=True, exist_ok=True)
    running = Processes(log_dir, end_timeout_s)
    try:
        yield running
    finally:
        # Shielded: a second Ctrl-C must not leave a process behind.
        await asyncio.shield(running.end_all())


def last_line(log: Path) -> str:
    """Return the last line of a log that says something, empty if there is none."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 4096))
        lines = file.read().decode(errors="replace").replace("\r", "\n").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _environment() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("INSTRUCTLOOP_") or name in _KEPT_VARIABLES
    }
