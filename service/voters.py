"""Turn a caller and the `user` it names into the pseudonyms of events; knows no route."""

from __future__ import annotations

from dataclasses import dataclass

from feedback.events.record import Role
from feedback.pseudonyms import Pseudonyms
from service.access import Caller


@dataclass(frozen=True, slots=True)
class Voter:
    """A person as events name them: author of prompts, voter, labeler."""

    pseudonym: str
    org: str
    split_group: str
    role: Role


def voter_of(pseudonyms: Pseudonyms, caller: Caller, user: str | None) -> Voter:
    """Return the person behind a request; without `user`, the API key itself."""
    return Voter(
        pseudonym=pseudonyms.of(caller.key_id, user),
        org=pseudonyms.org(caller.key_id),
        split_group=pseudonyms.split_group(caller.key_id, user),
        role=caller.role,
    )
