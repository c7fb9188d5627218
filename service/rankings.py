"""POST /v1/feedback/rankings: one live vote per ballot and voter, durable before it is accepted."""

from __future__ import annotations

import hashlib
import time

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from feedback.events.ballot import BallotClaims
from feedback.events.ranking import (
    OutputFlags,
    OutputRating,
    PromptAnnotations,
    RankingSubmitted,
)
from feedback.events.ranking_rules import require_ranking
from feedback.identifiers import vote_id
from service.assembly import Assembly, assembly_of
from service.errors import Conflict, InvalidRequest
from service.feedback_requests import RankingRequest
from service.openapi import request_body
from service.recent import LiveVote
from service.requests import read_body

router = APIRouter()


@router.post("/v1/feedback/rankings", openapi_extra=request_body(RankingRequest), status_code=202)
async def submit_ranking(request: Request) -> JSONResponse:
    """Accept a vote; every retry gets the same answer.

    The ballot's token is the permission: it casts its voter's vote without an API key.
    """
    service = assembly_of(request)
    body = await read_body(request, RankingRequest, service.settings.max_body_bytes)
    claims = service.dependencies.ballot_keys.verify(body.ballot, service.dependencies.clock())
    _require_open(service, claims)
    _check_ranking(body, claims)
    vote = vote_id(claims.ballot_id, claims.voter)
    await _accept(service, body, claims, vote, request.headers.get("idempotency-key"))
    accepted = {"vote_id": vote, "ballot_id": claims.ballot_id, "status": "accepted"}
    return JSONResponse(accepted, status_code=202)


async def _accept(
    service: Assembly, body: RankingRequest, claims: BallotClaims, vote: str, key: str | None
) -> None:
    """Make the vote durable, unless the live vote is this very one and already is."""
    started_at = time.monotonic()
    digest = hashlib.sha256(body.model_dump_json().encode()).digest()
    live = service.recent.votes.get(vote)
    is_repeated = live is not None and live.digest == digest and not live.has_failed
    if live is None or not is_repeated:
        # One key for two different votes must not lose the second.
        scoped_key = None if key is None else f"{key}:{claims.ballot_id}:{digest.hex()}"
        data = _ranking(body, claims, vote)
        live = LiveVote(digest, service.feedback_log.queue(data, claims.voter, scoped_key))
        service.recent.votes.set(vote, live)
    await service.feedback_log.require(live.durability)
    service.metrics.ack_s.observe(time.monotonic() - started_at)
    service.metrics.votes.labels("repeated" if is_repeated else "accepted").inc()


def _require_open(service: Assembly, claims: BallotClaims) -> None:
    if service.recent.is_revealed(claims.ballot_id, claims.voter):
        service.metrics.votes.labels("after_reveal").inc()
        raise Conflict(
            "the ballot was revealed to this voter, so it is closed; rank another one",
            param="ballot",
            code="ballot_revealed",
        )


def _check_ranking(body: RankingRequest, claims: BallotClaims) -> None:
    choice_ids = [choice.choice_id for choice in claims.choices]
    unknown = sorted(body.ratings.keys() - set(choice_ids))
    if unknown:
        raise InvalidRequest(
            f"ratings names {unknown[0]!r}, which is not on the ballot: remove it", param="ratings"
        )
    if not body.ranking and body.verdict == "all_bad":
        return
    try:
        require_ranking("ranking", body.ranking, choice_ids)
    except ValueError as error:
        raise InvalidRequest(str(error), param="ranking", code="not_a_ranking") from error


def _ranking(body: RankingRequest, claims: BallotClaims, vote: str) -> RankingSubmitted:
    annotations = body.prompt_annotations
    return RankingSubmitted(
        vote_id=vote,
        ballot=claims,
        voter=claims.voter,
        voter_role=claims.voter_role,
        verdict=body.verdict,
        tie_groups=tuple(map(tuple, body.ranking)),
        ratings=tuple(
            OutputRating(
                choice_id=choice_id, likert=rating.likert, flags=OutputFlags(**rating.flags)
            )
            for choice_id, rating in body.ratings.items()
        ),
        prompt_annotations=None if annotations is None else PromptAnnotations(**annotations),
        rationale=body.rationale,
        duration_ms=body.duration_ms,
        guideline_version=body.guideline_version,
    )
