"""What the fold makes of all events: the shape that snapshots, pages and statistics read.

It does not know how it was computed (`feedback.fold`) nor which rows may train where: sources,
splits and missing log-probabilities are the snapshot's concern.

Reading it:

* `votes` are the live, joined votes. `vote.choices[i]` and `vote.completions[i]` belong to
  `vote.ranking.ballot.choices[i]`; `vote.tie_groups` holds such indices, best group first.
* every distinct vote_id is in exactly one of `votes`, `excluded`, `unjoined`.
* `completions` maps response_id to its event; its prompts are the prompts that may be trained on
  if `data.consent.train`, `data.source` and `data.prompt` allow it.
* `demonstrations` includes corrections.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, Literal, TypeVar

from feedback.events.ballot import BallotSkipped
from feedback.events.completion import Choice, CompletionServed
from feedback.events.demonstration import DemonstrationSubmitted
from feedback.events.envelope import Order
from feedback.events.ranking import RankingSubmitted
from feedback.events.rating import RatingSubmitted

ExclusionReason = Literal[
    "erased",  # voter, author or a choice's author asked to be forgotten
    "retracted",  # the voter withdrew it
    "expired",  # cast after the ballot's expiry
    "after_reveal",  # cast after the voter saw which adapter wrote what
    "unknown_choice",  # its completion has no such choice
    "aborted",  # a choice was not fully delivered
    "identity_leak",  # a choice's text names an adapter
    "no_consent",  # a prompt's author does not allow training
]

DataT = TypeVar("DataT")


@dataclass(frozen=True, slots=True)
class Recorded(Generic[DataT]):
    """The data of an event with the event's id and server time."""

    event_id: str
    time: datetime
    data: DataT

    @property
    def order(self) -> Order:
        """Where the event stands in the fold."""
        return (self.time, self.event_id)


@dataclass(frozen=True, slots=True)
class LiveVote:
    """The one vote of a voter on a ballot that counts, joined with what it ranks.

    Shapes: `choices` and `completions` are [K], in the order of `ranking.ballot.choices`.
    """

    event_id: str
    time: datetime
    ranking: RankingSubmitted
    choices: tuple[Choice, ...]
    completions: tuple[CompletionServed, ...]

    @property
    def vote_id(self) -> str:
        """The vote's id."""
        return self.ranking.vote_id

    @property
    def tie_groups(self) -> tuple[tuple[int, ...], ...]:
        """Indices into `choices`, best group first; an unordered `all_bad` is one tie of all."""
        groups = self.ranking.tie_groups
        if not groups:
            return (tuple(range(len(self.choices))),)
        index_of = {choice.choice_id: index for index, choice in enumerate(self.choices)}
        return tuple(tuple(sorted(index_of[name] for name in group)) for group in groups)


@dataclass(frozen=True, slots=True)
class Projection:
    """The state after a set of events; equal sets give equal projections."""

    num_events: int
    """Distinct event ids."""
    completions: Mapping[str, Recorded[CompletionServed]]
    """By response id; without those of erased subjects."""
    votes: tuple[LiveVote, ...]
    """Eligible votes by (time, id)."""
    excluded: Mapping[str, ExclusionReason]
    """Vote id to the reason why it does not count."""
    unjoined: tuple[str, ...]
    """Vote ids whose completion has not arrived, sorted."""
    superseded: Mapping[str, tuple[str, ...]]
    """Vote id to the event ids of its earlier or void submissions, oldest first."""
    demonstrations: tuple[Recorded[DemonstrationSubmitted], ...]
    """Latest of each demonstration id, by (time, id)."""
    excluded_demonstrations: Mapping[str, ExclusionReason]
    """Demonstration id to the reason why it does not count."""
    ratings: tuple[Recorded[RatingSubmitted], ...]
    """Latest per (choice, voter), by (time, id)."""
    skips: tuple[Recorded[BallotSkipped], ...]
    """Latest per (ballot, voter), by (time, id)."""
    revealed: frozenset[tuple[str, str]]
    """(ballot id, voter) pairs that are closed."""
    erased: frozenset[str]
    """Pseudonyms that asked to be forgotten."""

    @property
    def num_votes_sent(self) -> int:
        """Distinct votes: eligible + excluded + unjoined, by construction of the fold."""
        return len(self.votes) + len(self.excluded) + len(self.unjoined)

    @property
    def num_excluded_by_reason(self) -> dict[str, int]:
        """How many votes each reason excludes."""
        return dict(sorted(Counter(self.excluded.values()).items()))
