"""Drive the swap machine: carry out its commands, hand out leases, tell who waits.

Does not know where a channel's entries come from.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from engines.seam import Engine
from feedback.adapter_files import AdapterRefused
from feedback.adapter_validation import validate_adapter
from feedback.registry import Registry
from service.canary import Canary
from service.errors import InvalidRequest, NotFound, Unavailable
from service.settings import ServiceSettings
from service.swap import (
    ChoiceEnded,
    ChoiceStarted,
    Command,
    Done,
    Happening,
    Named,
    Refused,
    SwapState,
    Unnamed,
    step,
)
from service.swap_journal import Refusal, SwapJournal

log = structlog.get_logger(__name__)

WARM_UP_LIMIT_S = 20.0


class ChoiceLease:
    """Keeps an adapter loaded for one choice."""

    def __init__(self, end: Callable[[], None]) -> None:
        self._end: Callable[[], None] | None = end

    def release(self) -> None:
        """Let the adapter go; a second call is a no-op."""
        end, self._end = self._end, None
        if end is not None:
            end()


class Versions:
    """The adapters in the engine: which are live, which are used, which are on their way."""

    def __init__(
        self,
        engine: Engine,
        registry: Registry,
        settings: ServiceSettings,
        journal: SwapJournal,
    ) -> None:
        capabilities = engine.capabilities
        if capabilities.max_adapters < 2:
            raise ValueError(
                f"the engine holds {capabilities.max_adapters} adapter(s); a swap without a gap "
                "needs room for 2, raise engine.max_adapters"
            )
        self.state = SwapState(capabilities.base.adapter_id, capabilities.max_adapters)
        self._engine = engine
        self._registry = registry
        self._settings = settings
        self._canary = Canary(engine, settings)
        self._journal = journal
        self._commands: asyncio.Queue[Command] = asyncio.Queue()
        self._changed = asyncio.Event()
        self._refusals: dict[str, Refusal] = {}

    def happen(self, happening: Happening) -> None:
        """Tell the machine what happened and queue what it asks for."""
        before = self.state.routes
        self.state, commands = step(self.state, happening)
        if self.state.routes != before:
            self._journal.routed(self.state.routes)
        for command in commands:
            self._commands.put_nowait(command)
        self._changed.set()
        self._changed = asyncio.Event()

    async def warm_up(self) -> None:
        """Let the base answer the canary prompts, so that the first request finds a warm engine.

        An engine that cannot answer keeps nothing from starting: /readyz tells.
        """
        try:
            async with asyncio.timeout(WARM_UP_LIMIT_S):
                await self._canary.ask_base()
        except Exception as error:  # noqa: BLE001 -- see above
            log.warning("warm_up_failed", kind=type(error).__name__)

    async def run(self) -> None:
        """Carry out commands one after the other, for ever: loads never overlap (CASES B11)."""
        while True:
            await self._carry_out(await self._commands.get())

    def lease(self, adapter_id: str) -> ChoiceLease:
        """Pin one choice to a live adapter.

        Raises:
            ValueError: the adapter is not live.
        """
        self.happen(ChoiceStarted(adapter_id))
        return ChoiceLease(lambda: self.happen(ChoiceEnded(adapter_id)))

    async def load(self, adapter_id: str, num_choices: int) -> list[ChoiceLease]:
        """Load a published adapter because a request names it, and pin its choices to it.

        Raises:
            NotFound: it is not published.
            InvalidRequest: it can never be served here; the code says why.
            Unavailable: loading failed, or there was no place for it in time.
        """
        self.happen(Named(adapter_id))
        self._refusals.pop(adapter_id, None)
        try:
            async with asyncio.timeout(self._settings.load_timeout_s):
                while not self.state.is_live(adapter_id):
                    self._raise_refusal(adapter_id)
                    await self._changed.wait()
            return [self.lease(adapter_id) for _ in range(num_choices)]
        except TimeoutError:
            raise Unavailable(
                f"{adapter_id} could not be loaded within {self._settings.load_timeout_s:g} s; "
                "all places are in use, try again later",
                param="model",
            ) from None
        finally:
            self.happen(Unnamed(adapter_id))
            if adapter_id not in self.state.waiting:
                self._refusals.pop(adapter_id, None)

    def _raise_refusal(self, adapter_id: str) -> None:
        refusal = self._refusals.get(adapter_id)
        if refusal is None:
            return
        if refusal.code == "unknown_adapter":
            raise NotFound(refusal.message, param="model", code="model_not_found")
        if refusal.is_final:
            raise InvalidRequest(refusal.message, param="model", code=refusal.code)
        raise Unavailable(refusal.message, param="model", code=refusal.code)

    async def _carry_out(self, command: Command) -> None:
        try:
            await self._run_command(command)
        except AdapterRefused as refused:
            reason = Refusal(command.adapter_id, refused.reason_code, str(refused), True)
            self._refuse(command, reason)
        except Exception as error:  # noqa: BLE001 -- a bad adapter must not stop the service
            message = f"{command.kind} of {command.adapter_id} failed: {type(error).__name__}"
            reason = Refusal(command.adapter_id, f"{command.kind}_failed", message, False)
            self._refuse(command, reason)
        else:
            log.info("swap_step", step=command.kind, adapter_id=command.adapter_id)
            self.happen(Done(command.adapter_id))

    def _refuse(self, command: Command, refusal: Refusal) -> None:
        log.warning("swap_refused", step=command.kind, code=refusal.code, message=refusal.message)
        if refusal.adapter_id in self.state.waiting:
            self._refusals[refusal.adapter_id] = refusal
        self._journal.refused(refusal)
        self.happen(Refused(command.adapter_id))

    async def _run_command(self, command: Command) -> None:
        match command.kind:
            case "validate":
                await asyncio.to_thread(self._validate, command.adapter_id)
            case "load":
                files = await asyncio.to_thread(self._registry.adapter, command.adapter_id)
                await self._engine.ensure(files)
            case "canary":
                await self._canary.probe(command.adapter_id)
            case "free":
                await self._engine.release(command.adapter_id)

    def _validate(self, adapter_id: str) -> None:
        files = self._registry.adapter(adapter_id)
        if files.kind in ("rm", "value"):
            message = f"{adapter_id} scores text and cannot answer; name an sft or ppo adapter"
            raise AdapterRefused("not_servable", message)
        capabilities = self._engine.capabilities
        validate_adapter(files, capabilities.base, max_rank=capabilities.max_rank)
