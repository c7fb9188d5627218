"""The thread that owns the decoder: everything that touches the model happens here, in turn.

It knows choices and the names of adapters, but no requests, files or event loops.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from engines.embedded_choice import Choice, Outbox, deliver
from engines.seam import EngineBusy, EngineStopped
from policy.decoder import Decoder, Sample

Result = TypeVar("Result")
# How often an idle thread wakes up to show that it still turns.
IDLE_BEAT_S = 1.0


class DecodingThread:
    """Runs commands between decoding steps, so that no adapter changes under a running step.

    free_adapter is called in the thread, once no choice uses an adapter that was released.
    """

    def __init__(
        self, decoder: Decoder, free_adapter: Callable[[str], None], max_waiting: int
    ) -> None:
        self.num_running = 0
        self._decoder = decoder
        self._free_adapter = free_adapter
        self._max_waiting = max_waiting
        self._choices: dict[Sample, Choice] = {}
        self._leaving: set[str] = set()
        self._commands: deque[Callable[[], None]] = deque()
        self._wake = threading.Condition()
        self._end: str | None = None
        self._heartbeat = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="instructloop-decoder", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """False once an error has ended the thread or it was closed."""
        return self._end is None and self._thread.is_alive()

    @property
    def heartbeat_age_s(self) -> float:
        """Seconds since the loop last turned."""
        return time.monotonic() - self._heartbeat

    @property
    def num_waiting(self) -> int:
        """Choices accepted that hold no slot of the batch yet."""
        return max(0, len(self._choices) - self.num_running)

    def submit(self, choice: Choice) -> None:
        """Accept a choice.

        Raises:
            EngineBusy: as many choices wait as may; nothing was accepted.
            EngineStopped: the thread has ended.
        """
        with self._wake:
            if self.num_waiting >= self._max_waiting:
                raise EngineBusy(self._max_waiting)
            self._post(lambda: self._decoder.add(choice.sample))
            self._choices[choice.sample] = choice

    def cancel(self, choice: Choice) -> None:
        """Stop a choice before the next step; nothing more is delivered."""
        with self._wake:
            if self._end is None:
                self._post(lambda: self._abandon(choice))

    def release(self, adapter_id: str) -> None:
        """Free an adapter after the last choice that uses it."""
        with self._wake:
            if self._end is None:
                self._post(lambda: self._leaving.add(adapter_id))

    def keep(self, adapter_id: str) -> None:
        """Take a release back that has not happened yet; only from a command."""
        self._leaving.discard(adapter_id)

    def call(self, function: Callable[[], Result]) -> Future[Result]:
        """Run a function in the thread between steps.

        Raises:
            EngineStopped: the thread has ended.
        """
        future: Future[Result] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(function())
            except Exception as error:  # noqa: BLE001  # it is the caller's, not the thread's
                future.set_exception(error)

        with self._wake:
            self._post(run)
        return future

    def close(self) -> None:
        """End every choice and the thread, and wait for it."""
        with self._wake:
            self._end = self._end or "the engine stopped"
            self._wake.notify()
        self._thread.join()

    def _post(self, command: Callable[[], None]) -> None:
        if not self.is_alive:
            raise EngineStopped(self._end or "the engine stopped")
        self._commands.append(command)
        self._wake.notify()

    def _run(self) -> None:
        try:
            while self._end is None:
                self._turn()
        except Exception as error:  # noqa: BLE001  # whatever it is, consumers must hear of it
            self._end = f"the engine failed: {type(error).__name__}: {error}"
        with self._wake:
            for command in self._commands:
                command()
            self._commands.clear()
            choices = list(self._choices.values())
            self._choices.clear()
            self.num_running = 0
            del self._decoder  # and with it the key/value cache
        deliver([(choice, choice.fail(self._end)) for choice in choices])

    def _turn(self) -> None:
        """Run what was asked for, draw one id per running choice, tell the consumers."""
        for command in self._take_commands():
            command()
        outbox = self._outbox(self._decoder.step())
        self._free_released()
        self.num_running = self._decoder.num_running
        deliver(outbox)

    def _take_commands(self) -> list[Callable[[], None]]:
        with self._wake:
            if not self._commands and not self._choices and self._end is None:
                self._wake.wait(IDLE_BEAT_S)
            self._heartbeat = time.monotonic()
            taken = list(self._commands)
            self._commands.clear()
            return taken

    def _outbox(self, advanced: list[Sample]) -> Outbox:
        outbox: Outbox = []
        for sample in advanced:
            choice = self._choices[sample]
            outbox.append((choice, choice.advance()))
            if choice.is_finished:
                self._abandon(choice)
        return outbox

    def _abandon(self, choice: Choice) -> None:
        """Forget a choice; one that still runs (a stop string, a client that left) is cancelled."""
        if self._choices.pop(choice.sample, None) is not None:
            self._decoder.cancel(choice.sample)

    def _free_released(self) -> None:
        if not self._leaving:
            return
        in_use = {choice.adapter_id for choice in list(self._choices.values())}
        for adapter_id in self._leaving - in_use:
            self._leaving.remove(adapter_id)
            self._free_adapter(adapter_id)
