"""The swap state machine: publish -> validate -> load -> canary -> route -> drain -> free.

Pure: it is told what happened and says what to do next. Knows no engine, registry or clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

Stage = Literal["validating", "loading", "canary", "live", "freeing"]
CommandKind = Literal["validate", "load", "canary", "free"]

_NEXT: Mapping[Stage, tuple[Stage, CommandKind | None]] = {
    "validating": ("loading", "load"),
    "loading": ("canary", "canary"),
    "canary": ("live", None),
}


@dataclass(frozen=True, slots=True)
class Version:
    """One adapter on its way through the engine; num_choices counts the answers it is writing."""

    stage: Stage
    num_choices: int = 0


@dataclass(frozen=True, slots=True)
class SwapState:
    """Everything the machine knows.

    capacity: adapters the engine holds besides the base. wanted: channel -> what the registry
    says. routes: channel -> what new requests get. pinned: loaded because somebody named them,
    least recently used first. waiting: how many requests wait for a named one, which must not be
    freed under their hands. refused: not tried again until wanted anew.
    """

    base_id: str
    capacity: int
    wanted: Mapping[str, str] = field(default_factory=dict)
    routes: Mapping[str, str] = field(default_factory=dict)
    pinned: tuple[str, ...] = ()
    waiting: Mapping[str, int] = field(default_factory=dict)
    refused: frozenset[str] = frozenset()
    versions: Mapping[str, Version] = field(default_factory=dict)

    def is_live(self, adapter_id: str) -> bool:
        """Say whether a new choice may be pinned to this adapter now."""
        if adapter_id == self.base_id:
            return True
        version = self.versions.get(adapter_id)
        return version is not None and version.stage == "live"

    def live_ids(self) -> tuple[str, ...]:
        """Return every adapter that may be named now, the base last."""
        return (*(name for name in self.versions if self.is_live(name)), self.base_id)

    def is_needed(self, adapter_id: str) -> bool:
        """Say whether a channel routes to it or wants it, or somebody has named it."""
        return (
            adapter_id in self.routes.values()
            or adapter_id in self.pinned
            or (adapter_id in self.wanted.values() and adapter_id not in self.refused)
        )


@dataclass(frozen=True, slots=True)
class Wanted:
    """A channel's newest entry names this adapter; a refusal of it is forgotten."""

    channel: str
    adapter_id: str


@dataclass(frozen=True, slots=True)
class Named:
    """A request that may load adapters names this one and waits for it."""

    adapter_id: str


@dataclass(frozen=True, slots=True)
class Unnamed:
    """A request no longer waits for this adapter: it got it, or has given up."""

    adapter_id: str


@dataclass(frozen=True, slots=True)
class Done:
    """The command for this adapter succeeded."""

    adapter_id: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The command for this adapter failed; the incumbent stays."""

    adapter_id: str


@dataclass(frozen=True, slots=True)
class ChoiceStarted:
    """A choice was pinned to this adapter."""

    adapter_id: str


@dataclass(frozen=True, slots=True)
class ChoiceEnded:
    """A choice of this adapter ended, whole or aborted."""

    adapter_id: str


Happening = Wanted | Named | Unnamed | Done | Refused | ChoiceStarted | ChoiceEnded


@dataclass(frozen=True, slots=True)
class Command:
    """What the driver must do next and then report as Done or Refused."""

    kind: CommandKind
    adapter_id: str


Step = tuple[SwapState, tuple[Command, ...]]


def step(state: SwapState, happening: Happening) -> Step:
    """Return the state after something happened, and what is to be done about it.

    Raises:
        ValueError: a choice is started on an adapter that is not live.
    """
    state, commands = _apply(state, happening)
    state, more = _settle(state)
    return state, (*commands, *more)


def _apply(state: SwapState, happening: Happening) -> Step:
    adapter_id = happening.adapter_id
    match happening:
        case Wanted(channel=channel):
            wanted = {**state.wanted, channel: adapter_id}
            return replace(state, wanted=wanted, refused=state.refused - {adapter_id}), ()
        case Named():
            return _wait(_touch(state, adapter_id), adapter_id, +1), ()
        case Unnamed():
            return _stop_waiting(state, adapter_id), ()
        case Done():
            return _advance(state, adapter_id)
        case Refused():
            return _refuse(state, adapter_id)
        case ChoiceStarted():
            return _count(state, adapter_id, +1), ()
        case ChoiceEnded():
            return _count(state, adapter_id, -1), ()


def _advance(state: SwapState, adapter_id: str) -> Step:
    stage = state.versions[adapter_id].stage
    if stage == "freeing":
        return _forget(state, adapter_id), ()
    if not state.is_needed(adapter_id):
        return _free(state, adapter_id)
    next_stage, command = _NEXT[stage]
    state = _with(state, adapter_id, Version(next_stage))
    return state, () if command is None else (Command(command, adapter_id),)


def _refuse(state: SwapState, adapter_id: str) -> Step:
    stage = state.versions[adapter_id].stage
    state = replace(_unpin(state, adapter_id), refused=state.refused | {adapter_id})
    if stage in ("validating", "freeing"):
        return _forget(state, adapter_id), ()
    return _free(state, adapter_id)  # the engine may hold a part of it


def _settle(state: SwapState) -> Step:
    """Route what is live, free what nobody needs, start what is wanted and fits."""
    live = {name: wanted for name, wanted in state.wanted.items() if state.is_live(wanted)}
    state = replace(
        state,
        routes={**state.routes, **live},
        refused=state.refused & frozenset(state.wanted.values()),
    )
    commands: list[Command] = []
    for adapter_id in [name for name in state.versions if _is_idle(state, name)]:
        if not state.is_needed(adapter_id):
            state, freed = _free(state, adapter_id)
            commands.extend(freed)
    for adapter_id in _missing(state):
        state, started = _start(state, adapter_id)
        commands.extend(started)
    return state, tuple(commands)


def _missing(state: SwapState) -> list[str]:
    """Return what is needed and not in the engine, the channels' wants first."""
    wanted = [name for name in state.wanted.values() if name not in state.refused]
    names = dict.fromkeys((*wanted, *state.pinned))
    return [name for name in names if name not in state.versions and name != state.base_id]


def _start(state: SwapState, adapter_id: str) -> Step:
    """Begin with an adapter if there is a place, else make one if that is possible."""
    if len(state.versions) < state.capacity:
        state = _with(state, adapter_id, Version("validating"))
        return state, (Command("validate", adapter_id),)
    if any(version.stage == "freeing" for version in state.versions.values()):
        return state, ()  # a place is on its way
    for candidate in state.pinned:
        is_spare = candidate not in (*state.routes.values(), *state.wanted.values())
        if is_spare and candidate in state.versions and _is_idle(state, candidate):
            return _free(_unpin(state, candidate), candidate)
    return state, ()


def _is_idle(state: SwapState, adapter_id: str) -> bool:
    is_unused = state.versions[adapter_id].num_choices == 0 and adapter_id not in state.waiting
    return is_unused and state.is_live(adapter_id)


def _free(state: SwapState, adapter_id: str) -> Step:
    return _with(state, adapter_id, Version("freeing")), (Command("free", adapter_id),)


def _count(state: SwapState, adapter_id: str, change: int) -> SwapState:
    if adapter_id == state.base_id:
        return state  # the base is never freed
    if change > 0 and not state.is_live(adapter_id):
        raise ValueError(f"adapter {adapter_id!r} is not live; no choice may start on it")
    if adapter_id in state.pinned:
        state = _touch(state, adapter_id)
    version = state.versions[adapter_id]
    assert version.num_choices + change >= 0, "a choice ended twice"
    return _with(state, adapter_id, replace(version, num_choices=version.num_choices + change))


def _touch(state: SwapState, adapter_id: str) -> SwapState:
    state = _unpin(state, adapter_id)
    return replace(state, pinned=(*state.pinned, adapter_id), refused=state.refused - {adapter_id})


def _wait(state: SwapState, adapter_id: str, change: int) -> SwapState:
    num_waiting = state.waiting.get(adapter_id, 0) + change
    assert num_waiting >= 0, "a request stopped waiting twice"
    others = {name: count for name, count in state.waiting.items() if name != adapter_id}
    return replace(state, waiting={**others, adapter_id: num_waiting} if num_waiting else others)


def _stop_waiting(state: SwapState, adapter_id: str) -> SwapState:
    state = _wait(state, adapter_id, -1)
    has_no_use = adapter_id not in state.waiting and not state.is_live(adapter_id)
    return _unpin(state, adapter_id) if has_no_use else state


def _unpin(state: SwapState, adapter_id: str) -> SwapState:
    return replace(state, pinned=tuple(name for name in state.pinned if name != adapter_id))


def _with(state: SwapState, adapter_id: str, version: Version) -> SwapState:
    return replace(state, versions={**state.versions, adapter_id: version})


def _forget(state: SwapState, adapter_id: str) -> SwapState:
    versions = {name: v for name, v in state.versions.items() if name != adapter_id}
    return replace(state, versions=versions)
