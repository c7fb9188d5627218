"""What a newcomer reads while the demo runs: numbered steps, seconds, a line or two each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.text import Text


class Narrator:
    """Tells steps with the seconds since the beginning; a busy step shows its newest line."""

    def __init__(self, console: Console, num_steps: int, *, quiet_s: float = 15.0) -> None:
        """Take where to write, how many steps there will be, and how rarely news become a line."""
        self._console = console
        self._num_steps = num_steps
        self._quiet_s = quiet_s
        self._step = 0
        self._began = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._began

    def step(self, title: str) -> None:
        """Begin the next step."""
        self._step += 1
        stamp = f"[{self.elapsed_s:4.0f} s] {self._step}/{self._num_steps} "
        self._console.print(Text.assemble((stamp, "cyan"), (title, "bold")))

    def say(self, text: str) -> None:
        """Tell something within the step."""
        self._console.print(Text(f"         {text}"), soft_wrap=True)

    def conclude(self, sentence: str, paths: Mapping[str, Path | None]) -> None:
        """Tell what it all came down to, and where to look further."""
        self._console.print()
        self._console.print(Text(sentence, "bold"), soft_wrap=True)
        for name, path in paths.items():
            if path is not None:
                self._console.print(Text(f"{name:>8}: {path}"), soft_wrap=True)

    @contextmanager
    def waiting(self, what: str) -> Iterator[Callable[[str], None]]:
        """Show what is waited for; the function given takes news.

        On a terminal one line changes in place; elsewhere a line appears now and then.
        """
        if self._console.is_terminal:
            with self._console.status(what) as status:
                yield lambda news: status.update(Text(f"{what}: {news}" if news else what))
            return
        said_at, said = time.monotonic(), ""

        def tell(news: str) -> None:
            nonlocal said_at, said
            if news and news != said and time.monotonic() - said_at >= self._quiet_s:
                self.say(f"... {what}: {news}")
                said_at, said = time.monotonic(), news

        yield tell
