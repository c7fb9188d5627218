"""`demonstration.submitted`: the ideal answer to a prompt, written by a person.

A correction of a choice is a demonstration, not a comparison.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from feedback.events.completion import Consent
from feedback.events.prompt import Prompt
from feedback.events.ranking import PromptAnnotations
from feedback.events.record import Count, Role, Source, WireRecord

DemonstrationKind = Literal["plain", "few_shot", "user_based", "correction"]


class DemonstrationSubmitted(WireRecord):
    """A person wrote the answer that the model should give."""

    demonstration_id: str
    """Id of the demonstration; the partition key."""
    prompt: Prompt
    """What is answered; its token_ids are empty, the trainer tokenizes people's texts."""
    completion: str = Field(min_length=1)
    """The ideal answer, without EOS."""
    kind: DemonstrationKind = "plain"
    """How it came about (spec 1.1)."""
    corrects: str | None = None
    """Choice id that a correction improves on; null for other kinds."""
    response_id: str | None = None
    """Response of the corrected choice, if known."""
    author: str
    """Pseudonym of the author."""
    author_role: Role = "client"
    """Role of the author."""
    split_group: str | None = None
    """Keyed hash of the author for splits; its key never rotates."""
    source: Source = "api"
    """Where it comes from."""
    consent: Consent
    """What the author allows."""
    prompt_annotations: PromptAnnotations | None = None
    """What the author says about the prompt; null if not asked."""
    duration_ms: Count | None = None
    """Time spent writing; null if not measured."""
    guideline_version: str | None = None
    """Guideline the author worked by."""

    @model_validator(mode="after")
    def _corrects_only_as_correction(self) -> DemonstrationSubmitted:
        if (self.kind == "correction") != (self.corrects is not None):
            raise ValueError("corrects names a choice exactly when kind is 'correction'")
        if not self.consent.log:
            raise ValueError("consent.log is false: a demonstration cannot be kept without it")
        return self
