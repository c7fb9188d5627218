"""Who asked to be forgotten, and what must go with them; it does not know votes.

An erasure covers what came before it: a person who comes back afterwards is heard again.
"""

from __future__ import annotations

from collections.abc import Sequence

from feedback.events.completion import CompletionServed
from feedback.events.envelope import Event, Order
from feedback.events.erasure import SubjectErased


class Erasures:
    """Which events the erasures in a set of events cover."""

    def __init__(self, events: Sequence[Event]) -> None:
        self._last: dict[str, Order] = {}
        self._responses: set[str] = set()
        self._choices: set[str] = set()
        for event in events:
            if isinstance(event.data, SubjectErased):
                name = event.data.pseudonym
                self._last[name] = max(event.order, self._last.get(name, event.order))
        for event in events if self._last else ():
            data = event.data
            if isinstance(data, CompletionServed) and self._cover_author(data, event.order):
                self._responses.add(data.response_id)
                self._choices.update(choice.choice_id for choice in data.choices)

    @property
    def pseudonyms(self) -> frozenset[str]:
        """Everybody who ever asked."""
        return frozenset(self._last)

    def cover(self, pseudonym: str | None, order: Order) -> bool:
        """Whether this person asked to be forgotten after the event that stands at `order`."""
        return pseudonym in self._last and order <= self._last[pseudonym]

    def cover_response(self, response_id: str | None) -> bool:
        """Whether the response answered a prompt of an erased person."""
        return response_id in self._responses

    def cover_choice(self, choice_id: str | None) -> bool:
        """Whether the choice answered a prompt of an erased person."""
        return choice_id in self._choices

    def _cover_author(self, data: CompletionServed, order: Order) -> bool:
        return self.cover(data.user, order) or self.cover(data.org, order)
