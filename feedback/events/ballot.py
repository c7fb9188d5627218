"""What a ballot claims, and its life besides votes: revealed, skipped.

It does not know how a token is encrypted (`feedback.ballots`).
"""

from __future__ import annotations

from datetime import datetime

from pydantic import AwareDatetime, Field, model_validator

from feedback.events.ranking_rules import require_distinct
from feedback.events.record import Count, Role, WireRecord


class BallotChoice(WireRecord):
    """One choice on a ballot."""

    choice_id: str
    """The choice's opaque id."""
    adapter_id: str
    """The adapter that sampled it; hidden from the voter until reveal."""
    index: Count
    """Its index in its response."""
    response_id: str
    """The response it belongs to."""


class BallotClaims(WireRecord):
    """What the server asserts in a ballot's token; verified without a look-up."""

    ballot_id: str
    """Opaque id of the ballot."""
    response_ids: tuple[str, ...]
    """Responses the choices come from; more than one for a composed ballot."""
    prompt_hash: str
    """The one prompt that all choices answer."""
    choices: tuple[BallotChoice, ...] = Field(min_length=1)
    """[K] the choices to rank."""
    shown_order: tuple[str, ...]
    """[K] choice ids in the order shown to the voter."""
    voter: str
    """Pseudonym that the token votes for."""
    voter_role: Role = "client"
    """Role of that voter."""
    split_group: str | None = None
    """Keyed hash of the voter for splits; its key never rotates."""
    experiment: str | None = None
    """Experiment id; null outside experiments."""
    arms: tuple[str, ...] = ()
    """[K] arm of each choice, in the order of `choices`; empty outside experiments."""
    issued_at: AwareDatetime
    """Server time of issue."""
    expires_at: AwareDatetime
    """A later vote is refused."""

    @model_validator(mode="after")
    def _is_consistent(self) -> BallotClaims:
        ids = [choice.choice_id for choice in self.choices]
        require_distinct("ballot.choices", ids)
        if sorted(self.shown_order) != sorted(ids):
            raise ValueError("ballot.shown_order must name each choice of the ballot exactly once")
        if self.arms and len(self.arms) != len(ids):
            raise ValueError("ballot.arms must hold one arm per choice, or none")
        if {choice.response_id for choice in self.choices} != set(self.response_ids):
            raise ValueError("ballot.response_ids must be the responses of the ballot's choices")
        return self

    def has_expired(self, now: datetime) -> bool:
        """Whether a vote at `now` comes too late."""
        return now > self.expires_at


class BallotRevealed(WireRecord):
    """A voter asked which adapter wrote what: the ballot closes for that voter."""

    ballot_id: str
    """The ballot."""
    voter: str
    """Pseudonym of the voter who saw it."""
    voter_role: Role = "client"
    """Role of that voter."""
    response_ids: tuple[str, ...] = ()
    """Responses on the ballot."""


class BallotSkipped(WireRecord):
    """A voter declined to rank (unclear task, missing expertise): spec 2.3."""

    ballot: BallotClaims
    """The verified claims."""
    voter: str
    """Pseudonym of the voter."""
    voter_role: Role = "client"
    """Role of that voter."""
    reason: str
    """Why, e.g. `unclear_task`, `missing_expertise`."""
    duration_ms: Count | None = None
    """Time spent before skipping; null if not measured."""
    guideline_version: str | None = None
    """Guideline the labeler worked by."""
