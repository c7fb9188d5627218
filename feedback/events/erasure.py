"""`subject.erased`: a person asked to be forgotten; it does not know what there was."""

from __future__ import annotations

from feedback.events.record import WireRecord


class SubjectErased(WireRecord):
    """Everything up to this event by or about this pseudonym leaves every projection."""

    pseudonym: str
    """The person: matches user, org, voter and author."""
    reason: str = ""
    """Why, for the audit."""
