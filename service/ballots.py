"""Issue ballots: which choices, in which order to show them, for whom; knows no route."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from feedback.ballots import BallotKeys
from feedback.events.ballot import BallotChoice, BallotClaims
from feedback.identifiers import new_ballot_id
from service.recent import RecentChoice
from service.voters import Voter


@dataclass(frozen=True, slots=True)
class IssuedBallot:
    """A ballot as it goes out; it does not show the adapters, and its token hides them."""

    claims: BallotClaims
    token: str

    def describe(self) -> dict[str, Any]:
        """Return the ballot as in responses: choices in the order to show."""
        index_of = {choice.choice_id: choice.index for choice in self.claims.choices}
        return {
            "id": self.claims.ballot_id,
            "token": self.token,
            "choices": [
                {"choice_id": choice_id, "index": index_of[choice_id]}
                for choice_id in self.claims.shown_order
            ],
        }


def issue_ballot(
    keys: BallotKeys,
    voter: Voter,
    prompt_hash: str,
    choices: Sequence[RecentChoice],
    now: datetime,
    lifetime_s: int,
) -> IssuedBallot:
    """Issue a ballot over these choices, shown in a random order: order must not favour any."""
    shown = [choice.choice_id for choice in choices]
    random.shuffle(shown)
    claims = BallotClaims(
        ballot_id=new_ballot_id(),
        response_ids=tuple(dict.fromkeys(choice.response_id for choice in choices)),
        prompt_hash=prompt_hash,
        choices=tuple(
            BallotChoice(
                choice_id=choice.choice_id,
                adapter_id=choice.adapter_id,
                index=choice.index,
                response_id=choice.response_id,
            )
            for choice in choices
        ),
        shown_order=tuple(shown),
        voter=voter.pseudonym,
        voter_role=voter.role,
        split_group=voter.split_group,
        issued_at=now,
        expires_at=now + timedelta(seconds=lifetime_s),
    )
    return IssuedBallot(claims, keys.issue(claims))
