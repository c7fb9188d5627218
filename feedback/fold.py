"""The pure fold of a set of events into the state that everything else reads.

Arrival order and duplicates never matter: events are sorted by (server time, id), and of several
with one id the earliest counts. It does not know where events come from or where the state goes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from feedback.erasures import Erasures
from feedback.events.ballot import BallotRevealed, BallotSkipped
from feedback.events.codec import encode
from feedback.events.completion import CompletionServed
from feedback.events.demonstration import DemonstrationSubmitted
from feedback.events.envelope import Event, Order
from feedback.events.ranking import RankingRetracted, RankingSubmitted
from feedback.events.rating import RatingSubmitted
from feedback.projection import ExclusionReason, LiveVote, Projection, Recorded
from feedback.votes import Completions, Settled, join, settle

DataT = TypeVar("DataT")


def fold(events: Iterable[Event]) -> Projection:
    """Return the state after this set of events; any order and any repetition give the same."""
    ordered = _distinct_in_order(events)
    erasures = Erasures(ordered)
    completions = _completions(ordered, erasures)
    tally = _count_votes(ordered, completions, erasures)
    demonstrations, excluded_demonstrations = _demonstrations(ordered, erasures)
    return Projection(
        num_events=len(ordered),
        completions=completions,
        votes=tally.votes,
        excluded=tally.excluded,
        unjoined=tally.unjoined,
        superseded=tally.superseded,
        demonstrations=demonstrations,
        excluded_demonstrations=excluded_demonstrations,
        ratings=_ratings(ordered, erasures),
        skips=_skips(ordered, erasures),
        revealed=frozenset(_first_reveals(ordered)),
        erased=erasures.pseudonyms,
    )


def _distinct_in_order(events: Iterable[Event]) -> list[Event]:
    """Sort by (time, id) and keep one event per id: the earliest, as the spool does.

    Two contents under one id and time (no honest writer makes them) are told apart by their bytes.
    """
    earliest: dict[str, Event] = {}
    for event in events:
        known = earliest.setdefault(event.id, event)
        if known is event or known == event:
            continue
        earliest[event.id] = min(known, event, key=lambda each: (each.time, encode(each)))
    return sorted(earliest.values(), key=lambda event: event.order)


@dataclass(frozen=True, slots=True)
class _Tally:
    votes: tuple[LiveVote, ...]
    excluded: dict[str, ExclusionReason]
    unjoined: tuple[str, ...]
    superseded: dict[str, tuple[str, ...]]


def _count_votes(events: Sequence[Event], completions: Completions, erasures: Erasures) -> _Tally:
    """Put every distinct vote id into exactly one place: live, excluded or unjoined."""
    votes: list[LiveVote] = []
    excluded: dict[str, ExclusionReason] = {}
    unjoined: list[str] = []
    superseded: dict[str, tuple[str, ...]] = {}
    for vote_id, (submissions, settled) in _settled_votes(events, erasures).items():
        earlier = tuple(event.id for event in submissions if event is not settled.decisive)
        if earlier:
            superseded[vote_id] = earlier
        outcome = settled.reason or join(settled.decisive, completions, erasures)
        if isinstance(outcome, LiveVote):
            votes.append(outcome)
        elif outcome == "unjoined":
            unjoined.append(vote_id)
        else:
            excluded[vote_id] = outcome
    votes.sort(key=lambda vote: (vote.time, vote.event_id))
    return _Tally(tuple(votes), excluded, tuple(sorted(unjoined)), superseded)


def _settled_votes(
    events: Sequence[Event], erasures: Erasures
) -> dict[str, tuple[list[Event], Settled]]:
    """Return each vote id's submissions, oldest first, with the one that decides."""
    submissions: defaultdict[str, list[Event]] = defaultdict(list)
    closed_at: dict[str, Order] = {}
    retracted_at: dict[str, Order] = {}
    revealed_at = _first_reveals(events)
    for event in events:
        match event.data:
            case RankingSubmitted(vote_id=vote_id, ballot=ballot, voter=voter):
                submissions[vote_id].append(event)
                if (ballot.ballot_id, voter) in revealed_at:
                    closed_at[vote_id] = revealed_at[ballot.ballot_id, voter]
            case RankingRetracted(vote_id=vote_id):
                retracted_at[vote_id] = event.order
            case _:
                pass
    return {
        vote_id: (
            history,
            settle(history, retracted_at.get(vote_id), closed_at.get(vote_id), erasures),
        )
        for vote_id, history in submissions.items()
    }


def _first_reveals(events: Sequence[Event]) -> dict[tuple[str, str], Order]:
    first: dict[tuple[str, str], Order] = {}
    for event in events:
        if isinstance(event.data, BallotRevealed):
            first.setdefault((event.data.ballot_id, event.data.voter), event.order)
    return first


def _completions(
    events: Sequence[Event], erasures: Erasures
) -> dict[str, Recorded[CompletionServed]]:
    first: dict[str, Recorded[CompletionServed]] = {}
    for served in _recorded(events, CompletionServed):
        if not erasures.cover_response(served.data.response_id):
            first.setdefault(served.data.response_id, served)
    return first


def _demonstrations(
    events: Sequence[Event], erasures: Erasures
) -> tuple[tuple[Recorded[DemonstrationSubmitted], ...], dict[str, ExclusionReason]]:
    kept: list[Recorded[DemonstrationSubmitted]] = []
    excluded: dict[str, ExclusionReason] = {}
    written = _recorded(events, DemonstrationSubmitted)
    for demonstration in _latest(written, lambda data: data.demonstration_id):
        data = demonstration.data
        if _is_erased(demonstration, erasures):
            excluded[data.demonstration_id] = "erased"
        elif not data.consent.train:
            excluded[data.demonstration_id] = "no_consent"
        else:
            kept.append(demonstration)
    return tuple(kept), excluded


def _is_erased(demonstration: Recorded[DemonstrationSubmitted], erasures: Erasures) -> bool:
    """A correction goes with its author, and with the author of the prompt that it repeats."""
    data = demonstration.data
    return (
        erasures.cover(data.author, demonstration.order)
        or erasures.cover_response(data.response_id)
        or erasures.cover_choice(data.corrects)
    )


def _ratings(events: Sequence[Event], erasures: Erasures) -> tuple[Recorded[RatingSubmitted], ...]:
    given = _recorded(events, RatingSubmitted)
    return tuple(
        rating
        for rating in _latest(given, lambda data: (data.choice_id, data.voter))
        if not erasures.cover(rating.data.voter, rating.order)
        and not erasures.cover_choice(rating.data.choice_id)
    )


def _skips(events: Sequence[Event], erasures: Erasures) -> tuple[Recorded[BallotSkipped], ...]:
    skipped = _recorded(events, BallotSkipped)
    return tuple(
        skip
        for skip in _latest(skipped, lambda data: (data.ballot.ballot_id, data.voter))
        if not erasures.cover(skip.data.voter, skip.order)
    )


def _recorded(events: Sequence[Event], model: type[DataT]) -> list[Recorded[DataT]]:
    return [
        Recorded(event.id, event.time, event.data)
        for event in events
        if isinstance(event.data, model)
    ]


def _latest(
    recorded: Sequence[Recorded[DataT]], key: Callable[[DataT], Hashable]
) -> list[Recorded[DataT]]:
    """Keep the last of each key, in order."""
    last = {key(each.data): each for each in recorded}
    return sorted(last.values(), key=lambda each: each.order)
