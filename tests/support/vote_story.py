"""Builders of events for a short story: a response, its ballot, its voters.

Times are whole minutes after a fixed start; response `r` has the choices `r-0`, `r-1`, `r-2`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from feedback.events.ballot import BallotChoice, BallotClaims, BallotRevealed, BallotSkipped
from feedback.events.completion import Choice, CompletionServed
from feedback.events.demonstration import DemonstrationSubmitted
from feedback.events.envelope import Event, EventData, new_event
from feedback.events.erasure import SubjectErased
from feedback.events.examples import example_events
from feedback.events.ranking import RankingRetracted, RankingSubmitted
from feedback.identifiers import vote_id
from feedback.projection import Projection

START = datetime(2026, 11, 30, tzinfo=UTC)
EXPIRY_MINUTES = 1000
_SERVED = example_events()["completion.served"].data
_DEMONSTRATION = example_events()["demonstration.submitted"].data
assert isinstance(_SERVED, CompletionServed)
assert isinstance(_DEMONSTRATION, DemonstrationSubmitted)
SERVED, DEMONSTRATION = _SERVED, _DEMONSTRATION


def at(minutes: int, data: EventData, key: str | None = None) -> Event:
    return new_event(data, source="test", key=key, time=START + timedelta(minutes=minutes))


def choice(response: str, index: int, **changes: Any) -> Choice:
    fields = SERVED.choices[0].model_dump() | {
        "choice_id": f"{response}-{index}",
        "index": index,
        "text": f" answer {index}",
        **changes,
    }
    return Choice.model_validate(fields)


def served(
    minutes: int, response: str = "r", user: str = "author", train: bool = True, **changes: Any
) -> Event:
    """A completion with three choices; `changes` go to its second choice."""
    choices = [choice(response, 0), choice(response, 1, **changes), choice(response, 2)]
    fields = SERVED.model_dump() | {
        "response_id": response,
        "user": user,
        "choices": choices,
        "consent": {"log": True, "train": train},
    }
    return at(minutes, CompletionServed.model_validate(fields))


def ballot(voter: str, responses: Sequence[str] = ("r",)) -> BallotClaims:
    choices = tuple(
        BallotChoice(
            choice_id=f"{response}-{index}",
            adapter_id="sft-0123456789abcdef",
            index=index,
            response_id=response,
        )
        for response in responses
        for index in range(3)
    )
    return BallotClaims(
        ballot_id="ballot-" + "-".join(responses),
        response_ids=tuple(responses),
        prompt_hash=SERVED.prompt.prompt_hash if SERVED.prompt else "",
        choices=choices,
        shown_order=tuple(each.choice_id for each in choices),
        voter=voter,
        issued_at=START,
        expires_at=START + timedelta(minutes=EXPIRY_MINUTES),
    )


def ranked(
    minutes: int,
    voter: str = "v",
    order: Sequence[Sequence[int]] = ((0,), (1,), (2,)),
    responses: Sequence[str] = ("r",),
    key: str | None = None,
) -> Event:
    claims = ballot(voter, responses)
    groups = [[claims.choices[place].choice_id for place in group] for group in order]
    ranking = RankingSubmitted.model_validate(
        {
            "vote_id": vote_id(claims.ballot_id, voter),
            "ballot": claims,
            "voter": voter,
            "verdict": "ranked" if groups else "all_bad",
            "tie_groups": groups,
        }
    )
    return at(minutes, ranking, key)


def revealed(minutes: int, voter: str = "v", response: str = "r") -> Event:
    return at(minutes, BallotRevealed(ballot_id=f"ballot-{response}", voter=voter))


def retracted(minutes: int, voter: str = "v", response: str = "r") -> Event:
    name = f"ballot-{response}"
    vote = vote_id(name, voter)
    return at(minutes, RankingRetracted(vote_id=vote, ballot_id=name, voter=voter))


def skipped(minutes: int, voter: str = "v", response: str = "r") -> Event:
    return at(minutes, BallotSkipped(ballot=ballot(voter, (response,)), voter=voter, reason="x"))


def erased(minutes: int, pseudonym: str) -> Event:
    return at(minutes, SubjectErased(pseudonym=pseudonym))


def reasons(projection: Projection) -> list[str]:
    return list(projection.excluded.values())


def first_places(projection: Projection) -> list[tuple[int, ...]]:
    return [vote.tie_groups[0] for vote in projection.votes]
