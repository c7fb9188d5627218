"""`rating.submitted`: an absolute judgement of one choice, never turned into a comparison."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from feedback.events.ranking import OutputFlags
from feedback.events.record import Likert, Role, Source, WireRecord


class RatingSubmitted(WireRecord):
    """Thumbs or Likert for one choice."""

    response_id: str
    """Response of the choice; the partition key."""
    choice_id: str
    """The choice rated."""
    thumb: Literal["up", "down"] | None = None
    """Thumb; null if a Likert value is given."""
    likert: Likert | None = None
    """1 to 7; null if a thumb is given."""
    flags: OutputFlags = OutputFlags()
    """Eleven tri-state flags."""
    voter: str
    """Pseudonym of the rater."""
    voter_role: Role = "client"
    """Role of the rater."""
    source: Source = "api"
    """Where the rating comes from."""
    rationale: str = ""
    """Free text."""

    @model_validator(mode="after")
    def _has_exactly_one_scale(self) -> RatingSubmitted:
        if (self.thumb is None) == (self.likert is None):
            raise ValueError("rating needs thumb or likert: give exactly one of them")
        return self
