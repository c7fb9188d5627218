"""Bodies of the feedback routes; knows no ballot and no event log."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from feedback.events.demonstration import DemonstrationKind
from feedback.events.ranking import OutputFlags, PromptAnnotations, Verdict
from service.completion_request import Metadata
from service.requests import RequestBody

Likert = Annotated[int, Field(ge=1, le=7)]
Milliseconds = Annotated[int, Field(ge=0)]
TriStates = dict[str, bool | None]


def _require_known(field: str, names: TriStates, known: Any) -> TriStates:
    unknown = sorted(names.keys() - known.keys())
    if unknown:
        raise ValueError(f"{field} has no {unknown[0]!r}; known are {', '.join(known)}")
    return names


class ChoiceRating(RequestBody):
    """What a voter says about one choice: Likert 1 to 7 and the paper's eleven flags."""

    likert: Likert | None = None
    flags: TriStates = Field(default={})

    @field_validator("flags")
    @classmethod
    def _flags_exist(cls, flags: TriStates) -> TriStates:
        return _require_known("flags", flags, OutputFlags.model_fields)


class RankingRequest(RequestBody):
    """The body of POST /v1/feedback/rankings: tie groups of choice ids, best group first."""

    ballot: str
    ranking: list[list[str]] = Field(default=[])
    verdict: Verdict = "ranked"
    ratings: dict[str, ChoiceRating] = Field(default={})
    prompt_annotations: TriStates | None = None
    rationale: str = ""
    duration_ms: Milliseconds | None = None
    guideline_version: str | None = None

    @field_validator("prompt_annotations")
    @classmethod
    def _annotations_exist(cls, annotations: TriStates | None) -> TriStates | None:
        if annotations is not None:
            _require_known("prompt_annotations", annotations, PromptAnnotations.model_fields)
        return annotations


class RatingRequest(RequestBody):
    """The body of POST /v1/feedback/ratings: one choice, thumb or Likert."""

    choice_id: str
    response_id: str
    thumb: Literal["up", "down"] | None = None
    likert: Likert | None = None
    flags: TriStates = Field(default={})
    rationale: str = ""
    user: str | None = None

    @field_validator("flags")
    @classmethod
    def _flags_exist(cls, flags: TriStates) -> TriStates:
        return _require_known("flags", flags, OutputFlags.model_fields)

    @model_validator(mode="after")
    def _has_exactly_one_scale(self) -> RatingRequest:
        if (self.thumb is None) == (self.likert is None):
            raise ValueError("give thumb or likert, exactly one of them")
        return self


class Message(RequestBody):
    """One message of a chat prompt."""

    role: Literal["system", "user", "assistant"]
    content: str


class DemonstrationRequest(RequestBody):
    """The body of POST /v1/feedback/demonstrations: the answer that the model should give."""

    prompt: str | list[Message]
    completion: Annotated[str, Field(min_length=1)]
    kind: DemonstrationKind | None = None
    corrects: str | None = None
    user: str | None = None
    metadata: Metadata = Metadata()
    duration_ms: Milliseconds | None = None
    guideline_version: str | None = None

    @model_validator(mode="after")
    def _corrects_only_as_correction(self) -> DemonstrationRequest:
        if not self.prompt:
            raise ValueError("prompt is empty; say what is answered")
        if self.kind is not None and (self.kind == "correction") != (self.corrects is not None):
            raise ValueError("corrects names a choice exactly when kind is 'correction'")
        return self

    @property
    def effective_kind(self) -> DemonstrationKind:
        """The kind; left out, it follows from whether a choice is corrected."""
        return self.kind or ("correction" if self.corrects is not None else "plain")


class BallotRequest(RequestBody):
    """The body of POST /v1/feedback/ballots: choices of one prompt, of any responses."""

    choices: Annotated[list[str], Field(min_length=2)]
    user: str | None = None


class RevealRequest(RequestBody):
    """The body of POST /v1/feedback/ballots/{id}/reveal."""

    ballot: str


class SkipRequest(RequestBody):
    """The body of POST /v1/feedback/ballots/{id}/skip."""

    ballot: str
    reason: Annotated[str, Field(min_length=1)]
    duration_ms: Milliseconds | None = None
    guideline_version: str | None = None
