"""`ranking.submitted` and `ranking.retracted`: one voter's order of one ballot's choices.

It does not know which of several votes is the live one (`feedback.fold`).
"""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from feedback.events.ballot import BallotClaims
from feedback.events.ranking_rules import require_distinct, require_ranking
from feedback.events.record import Count, Likert, Role, WireRecord
from feedback.identifiers import vote_id as expected_vote_id

Verdict = Literal["ranked", "all_bad"]


class OutputFlags(WireRecord):
    """The eleven flags of the paper's Table 3 (spec 2.2); null means "not applicable"."""

    fails_instruction: bool | None = None
    """Fails to follow the correct instruction or task."""
    inappropriate_customer_assistant: bool | None = None
    """Inappropriate for a customer assistant."""
    hallucination: bool | None = None
    """Invents facts; meaningful on closed-domain prompts only."""
    satisfies_constraint: bool | None = None
    """Satisfies the constraint given in the instruction."""
    sexual_content: bool | None = None
    """Contains sexual content."""
    violent_content: bool | None = None
    """Contains violent content."""
    encourages_violence: bool | None = None
    """Encourages or fails to discourage violence, abuse, terrorism or self-harm."""
    denigrates_protected_class: bool | None = None
    """Denigrates a protected class."""
    harmful_advice: bool | None = None
    """Gives harmful advice."""
    expresses_opinion: bool | None = None
    """Expresses opinion."""
    expresses_moral_judgment: bool | None = None
    """Expresses moral judgment."""


class OutputRating(WireRecord):
    """One voter's metadata on one output, given before ranking (spec 2.3)."""

    choice_id: str
    """The output."""
    likert: Likert | None = None
    """Overall quality, 1 to 7; null if not given."""
    flags: OutputFlags = OutputFlags()
    """Eleven tri-state flags."""


class PromptAnnotations(WireRecord):
    """What a labeler says about the prompt (paper Table 7, spec 1.5); null means "not asked"."""

    ambiguous: bool | None = None
    """The prompt is ambiguous."""
    sensitive_content: bool | None = None
    """It has sensitive content."""
    identity_dependent: bool | None = None
    """The right answer depends on who asks."""
    closed_domain: bool | None = None
    """The answer must use only what the prompt gives."""
    continuation_style: bool | None = None
    """The task is an implicit continuation."""
    requests_opinionated_content: bool | None = None
    """It asks for opinion."""
    requests_advice: bool | None = None
    """It asks for advice."""
    requests_moral_judgment: bool | None = None
    """It asks for a moral judgment."""
    contains_explicit_safety_constraints: bool | None = None
    """It states safety constraints."""
    contains_other_explicit_constraints: bool | None = None
    """It states other constraints."""
    intent_unclear: bool | None = None
    """What is wanted is unclear."""


class RankingSubmitted(WireRecord):
    """A voter ranked the choices of a ballot."""

    vote_id: str
    """`identifiers.vote_id(ballot_id, voter)`: one live vote each."""
    ballot: BallotClaims
    """The verified claims of the ballot."""
    voter: str
    """Pseudonym of the voter."""
    voter_role: Role = "client"
    """Role of the voter."""
    verdict: Verdict = "ranked"
    """`all_bad`: none is acceptable; the order may then be left out."""
    tie_groups: tuple[tuple[str, ...], ...] = ()
    """Choice ids, best group first; ids in one group are tied (spec 2.3)."""
    ratings: tuple[OutputRating, ...] = ()
    """Metadata per output; outputs may be missing."""
    prompt_annotations: PromptAnnotations | None = None
    """What the voter says about the prompt; null if not asked."""
    rationale: str = ""
    """Free text."""
    duration_ms: Count | None = None
    """Time spent on the ballot; null if not measured."""
    guideline_version: str | None = None
    """Guideline the labeler worked by."""

    @model_validator(mode="after")
    def _ranks_its_ballot(self) -> RankingSubmitted:
        ids = [choice.choice_id for choice in self.ballot.choices]
        if self.tie_groups or self.verdict == "ranked":
            require_ranking("ranking", self.tie_groups, ids)
        rated = [rating.choice_id for rating in self.ratings]
        require_distinct("ratings", rated)
        unknown = sorted(set(rated) - set(ids))
        if unknown:
            raise ValueError(f"ratings names {unknown[0]!r}, which is not on the ballot: remove it")
        return self

    @model_validator(mode="after")
    def _is_its_voters_vote(self) -> RankingSubmitted:
        if self.voter != self.ballot.voter:
            raise ValueError("voter is not the ballot's voter: a ballot casts its own vote only")
        _require_vote_id(self.vote_id, self.ballot.ballot_id, self.voter)
        return self


class RankingRetracted(WireRecord):
    """A voter withdrew a vote; a later vote stands again."""

    vote_id: str
    """The vote withdrawn."""
    ballot_id: str
    """Its ballot."""
    voter: str
    """Pseudonym of the voter."""
    reason: str = ""
    """Free text."""

    @model_validator(mode="after")
    def _is_its_voters_vote(self) -> RankingRetracted:
        _require_vote_id(self.vote_id, self.ballot_id, self.voter)
        return self


def _require_vote_id(vote_id: str, ballot_id: str, voter: str) -> None:
    if vote_id != expected_vote_id(ballot_id, voter):
        raise ValueError("vote_id is not that of this ballot and voter: derive it from them")
