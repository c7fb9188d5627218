"""What the service remembers of recent events: choices, votes and closed ballots.

A bounded memory that only spares needless events and answers at once; the fold over all events
decides. Knows no HTTP and no store.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeAlias, TypeVar

from feedback.events.ballot import BallotRevealed, BallotSkipped
from feedback.events.completion import CompletionServed
from feedback.events.envelope import Event
from feedback.events.ranking import RankingSubmitted
from feedback.events.record import Source

Key = TypeVar("Key")
Value = TypeVar("Value")

Durability: TypeAlias = "asyncio.Future[bool]"
"""Resolves to True once an event is durable, to False if it could not be written."""

VOTES_PER_RESPONSE = 4


class Bounded(Generic[Key, Value]):
    """A mapping that forgets what was set first when it is full."""

    def __init__(self, max_size: int) -> None:
        self._max_size = max_size
        self._items: OrderedDict[Key, Value] = OrderedDict()

    def __len__(self) -> int:
        return len(self._items)

    def get(self, key: Key) -> Value | None:
        """Return the value, or None if it is not known (any more)."""
        return self._items.get(key)

    def set(self, key: Key, value: Value) -> tuple[Key, Value] | None:
        """Set a value and return what had to be forgotten for it."""
        self._items[key] = value
        self._items.move_to_end(key)
        return self._items.popitem(last=False) if len(self._items) > self._max_size else None

    def values(self) -> Iterable[Value]:
        """Return the values, oldest first."""
        return self._items.values()


@dataclass(frozen=True, slots=True)
class RecentChoice:
    """A choice as a ballot needs it."""

    choice_id: str
    response_id: str
    index: int
    adapter_id: str
    text: str
    is_complete: bool


@dataclass(slots=True)
class RecentResponse:
    """A response as a labeler's task needs it; voters: pseudonyms that voted on it or skipped."""

    response_id: str
    prompt_hash: str
    prompt_text: str
    source: Source
    choices: tuple[RecentChoice, ...]
    voters: set[str] = field(default_factory=set)

    @property
    def rankable(self) -> tuple[RecentChoice, ...]:
        """The choices that were delivered whole."""
        return tuple(choice for choice in self.choices if choice.is_complete)


@dataclass(frozen=True, slots=True)
class LiveVote:
    """The newest vote of one voter on one ballot."""

    digest: bytes
    durability: Durability

    @property
    def has_failed(self) -> bool:
        """Say whether it is known that the vote never became durable."""
        return self.durability.done() and not self.durability.result()


class Recent:
    """The memory of one service process."""

    def __init__(self, max_responses: int) -> None:
        self._responses: Bounded[str, RecentResponse] = Bounded(max_responses)
        self._choices: dict[str, RecentResponse] = {}
        self._revealed: Bounded[tuple[str, str], bool] = Bounded(max_responses * VOTES_PER_RESPONSE)
        self.votes: Bounded[str, LiveVote] = Bounded(max_responses * VOTES_PER_RESPONSE)

    def note(self, event: Event) -> None:
        """Remember an event, one's own or one read back from the log."""
        match event.data:
            case CompletionServed():
                self._note_completion(event.data)
            case RankingSubmitted() | BallotSkipped():
                self._note_voter(event.data.ballot.response_ids, event.data.voter)
            case BallotRevealed():
                self._revealed.set((event.data.ballot_id, event.data.voter), True)
                self._note_voter(event.data.response_ids, event.data.voter)
            case _:
                pass

    def is_revealed(self, ballot_id: str, voter: str) -> bool:
        """Say whether the ballot is known to be closed for this voter."""
        return self._revealed.get((ballot_id, voter)) is not None

    def response(self, response_id: str) -> RecentResponse | None:
        """Return a response, or None if it is too old or was never logged here."""
        return self._responses.get(response_id)

    def response_of(self, choice_id: str) -> RecentResponse | None:
        """Return the response of a choice, or None if it is too old or was never logged here."""
        return self._choices.get(choice_id)

    def responses(self) -> Iterable[RecentResponse]:
        """Return all responses, oldest first."""
        return self._responses.values()

    def _note_completion(self, data: CompletionServed) -> None:
        if data.prompt is None:
            return
        response = RecentResponse(
            data.response_id,
            data.prompt.prompt_hash,
            data.prompt.text,
            data.source,
            tuple(
                RecentChoice(
                    choice.choice_id,
                    data.response_id,
                    choice.index,
                    choice.adapter_id,
                    choice.text,
                    choice.delivery == "complete",
                )
                for choice in data.choices
            ),
        )
        forgotten = self._responses.set(response.response_id, response)
        for choice in response.choices:
            self._choices[choice.choice_id] = response
        if forgotten is not None:
            for choice in forgotten[1].choices:
                self._choices.pop(choice.choice_id, None)

    def _note_voter(self, response_ids: Iterable[str], voter: str) -> None:
        for response_id in response_ids:
            response = self._responses.get(response_id)
            if response is not None:
                response.voters.add(voter)
