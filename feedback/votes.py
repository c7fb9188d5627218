"""Which submission of a vote is live, and whether it counts; it does not know how events arrive.

Decided in two steps: `settle` looks at the voter's own actions, `join` at what was ranked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from feedback.erasures import Erasures
from feedback.events.completion import Choice, CompletionServed
from feedback.events.envelope import Event, Order
from feedback.events.ranking import RankingSubmitted
from feedback.identity_leak import leaks_identity
from feedback.projection import ExclusionReason, LiveVote, Recorded

Completions: TypeAlias = Mapping[str, Recorded[CompletionServed]]


@dataclass(frozen=True, slots=True)
class Settled:
    """The submission that decides a vote; void for `reason`, or live where that is None."""

    decisive: Event
    reason: ExclusionReason | None


def settle(
    submissions: Sequence[Event],
    retracted_at: Order | None,
    revealed_at: Order | None,
    erasures: Erasures,
) -> Settled:
    """Find the live submission of one vote: the latest that was allowed, unless withdrawn since.

    Args:
        submissions: the vote's `ranking.submitted` events in order, at least one.
        retracted_at: the vote's latest retraction.
        revealed_at: the voter's first reveal of the ballot.
        erasures: who asked to be forgotten.
    """
    reasons = [_void_reason(event, revealed_at, erasures) for event in submissions]
    allowed = [event for event, reason in zip(submissions, reasons, strict=True) if reason is None]
    if not allowed:
        return Settled(submissions[-1], reasons[-1])
    live = allowed[-1]
    is_withdrawn = retracted_at is not None and retracted_at > live.order
    return Settled(live, "retracted" if is_withdrawn else None)


def join(
    event: Event, completions: Completions, erasures: Erasures
) -> LiveVote | ExclusionReason | Literal["unjoined"]:
    """Put a live submission together with what it ranks.

    Returns:
        the vote; the reason why it cannot count; or "unjoined" while a completion is missing.
    """
    ranking = _ranking(event)
    if any(erasures.cover_response(name) for name in ranking.ballot.response_ids):
        return "erased"
    if any(name not in completions for name in ranking.ballot.response_ids):
        return "unjoined"
    served = [completions[choice.response_id].data for choice in ranking.ballot.choices]
    if not all(completion.consent.log for completion in served):
        return "no_consent"
    choices = [
        _find_choice(completion, claimed.choice_id)
        for completion, claimed in zip(served, ranking.ballot.choices, strict=True)
    ]
    found = tuple(choice for choice in choices if choice is not None)
    if len(found) < len(choices):
        return "unknown_choice"
    return _content_fault(ranking, found, served) or LiveVote(
        event.id, event.time, ranking, found, tuple(served)
    )


def _void_reason(
    event: Event, revealed_at: Order | None, erasures: Erasures
) -> ExclusionReason | None:
    ranking = _ranking(event)
    if erasures.cover(ranking.voter, event.order):
        return "erased"
    if ranking.ballot.has_expired(event.time):
        return "expired"
    if revealed_at is not None and event.order > revealed_at:
        return "after_reveal"
    return None


def _content_fault(
    ranking: RankingSubmitted, choices: Sequence[Choice], served: Sequence[CompletionServed]
) -> ExclusionReason | None:
    if any("aborted" in (choice.delivery, choice.stop_reason) for choice in choices):
        return "aborted"
    adapter_ids = [choice.adapter_id for choice in ranking.ballot.choices]
    if leaks_identity((choice.text for choice in choices), adapter_ids):
        return "identity_leak"
    if not all(completion.consent.train for completion in served):
        return "no_consent"
    return None


def _find_choice(completion: CompletionServed, choice_id: str) -> Choice | None:
    return next((c for c in completion.choices if c.choice_id == choice_id), None)


def _ranking(event: Event) -> RankingSubmitted:
    assert isinstance(event.data, RankingSubmitted)
    return event.data
