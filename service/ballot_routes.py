"""Compose a ballot, take the next task, reveal a ballot, skip one."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from feedback.events.ballot import BallotClaims, BallotRevealed, BallotSkipped
from service.access import require_role
from service.assembly import Assembly, assembly_of
from service.ballots import IssuedBallot, issue_ballot
from service.errors import InvalidRequest, NotFound
from service.feedback_requests import BallotRequest, RevealRequest, SkipRequest
from service.openapi import request_body
from service.recent import RecentChoice, RecentResponse
from service.requests import read_body
from service.voters import Voter

router = APIRouter(prefix="/v1/feedback/ballots")

NEVER_RANKED = ("eval", "canary")


@router.post("", openapi_extra=request_body(BallotRequest))
async def compose_ballot(request: Request) -> JSONResponse:
    """Issue a ballot over choices of one prompt, also of different responses."""
    service = assembly_of(request)
    caller = service.caller(request)
    body = await read_body(request, BallotRequest, service.settings.max_body_bytes)
    prompt_hash, choices = _find_choices(service, body.choices)
    ballot = _issue(service, service.voter(caller, body.user), prompt_hash, choices)
    return JSONResponse(ballot.describe())


@router.get("/next")
async def next_task(request: Request, user: str | None = None) -> Response:
    """Return the task with the fewest votes that this labeler has not done; 204 if there is none.

    `user` tells the labelers behind one API key apart.
    """
    service = assembly_of(request)
    caller = service.caller(request)
    require_role(caller, "labeler")
    voter = service.voter(caller, user)
    task = _find_task(service, voter)
    if task is None:
        return Response(status_code=204)
    choices = task.rankable[: service.settings.max_ballot_choices]
    ballot = _issue(service, voter, task.prompt_hash, choices)
    return JSONResponse(_describe_task(task, ballot))


@router.post("/{ballot_id}/reveal", openapi_extra=request_body(RevealRequest))
async def reveal_ballot(request: Request, ballot_id: str) -> JSONResponse:
    """Say which adapter wrote what; that closes the ballot for its voter."""
    service = assembly_of(request)
    body = await read_body(request, RevealRequest, service.settings.max_body_bytes)
    claims = _verify(service, body.ballot, ballot_id)
    if not service.recent.is_revealed(claims.ballot_id, claims.voter):
        data = BallotRevealed(
            ballot_id=claims.ballot_id,
            voter=claims.voter,
            voter_role=claims.voter_role,
            response_ids=claims.response_ids,
        )
        await service.feedback_log.append(data, claims.voter, f"reveal:{claims.ballot_id}")
    choices = [choice.model_dump() for choice in claims.choices]
    return JSONResponse({"ballot_id": claims.ballot_id, "choices": choices})


@router.post("/{ballot_id}/skip", openapi_extra=request_body(SkipRequest), status_code=202)
async def skip_ballot(request: Request, ballot_id: str) -> JSONResponse:
    """Note that the voter declines to rank this ballot, and why."""
    service = assembly_of(request)
    body = await read_body(request, SkipRequest, service.settings.max_body_bytes)
    claims = _verify(service, body.ballot, ballot_id)
    data = BallotSkipped(
        ballot=claims,
        voter=claims.voter,
        voter_role=claims.voter_role,
        reason=body.reason,
        duration_ms=body.duration_ms,
        guideline_version=body.guideline_version,
    )
    await service.feedback_log.append(data, claims.voter, f"skip:{claims.ballot_id}:{body.reason}")
    return JSONResponse({"ballot_id": claims.ballot_id, "status": "accepted"}, status_code=202)


def _verify(service: Assembly, token: str, ballot_id: str) -> BallotClaims:
    claims = service.dependencies.ballot_keys.verify(token, service.dependencies.clock())
    if claims.ballot_id != ballot_id:
        raise InvalidRequest("the token belongs to another ballot than the path", param="ballot")
    return claims


def _find_choices(service: Assembly, choice_ids: list[str]) -> tuple[str, tuple[RecentChoice, ...]]:
    most = service.settings.max_ballot_choices
    if len(choice_ids) > most:
        raise InvalidRequest(f"choices names {len(choice_ids)}; at most {most}", param="choices")
    if len(set(choice_ids)) < len(choice_ids):
        raise InvalidRequest("choices names a choice twice; name each once", param="choices")
    found = [_find_choice(service, choice_id) for choice_id in choice_ids]
    prompt_hashes = {response.prompt_hash for response, _ in found}
    if len(prompt_hashes) > 1:
        raise InvalidRequest("choices answer different prompts; compare like", param="choices")
    return prompt_hashes.pop(), tuple(choice for _, choice in found)


def _find_choice(service: Assembly, choice_id: str) -> tuple[RecentResponse, RecentChoice]:
    response = service.recent.response_of(choice_id)
    if response is None:
        raise NotFound(
            f"choice {choice_id[:100]!r} is not among this replica's last "
            f"{service.settings.recent_responses} responses",
            param="choices",
            code="choice_not_found",
        )
    choice = next(c for c in response.choices if c.choice_id == choice_id)
    if not choice.is_complete:
        raise InvalidRequest(
            f"choice {choice_id} was not delivered whole; it cannot be ranked", param="choices"
        )
    return response, choice


def _find_task(service: Assembly, voter: Voter) -> RecentResponse | None:
    open_tasks = (
        response
        for response in service.recent.responses()
        if response.source not in NEVER_RANKED
        and voter.pseudonym not in response.voters
        and len(response.rankable) >= 2
    )
    return min(open_tasks, key=lambda response: len(response.voters), default=None)


def _issue(
    service: Assembly, voter: Voter, prompt_hash: str, choices: tuple[RecentChoice, ...]
) -> IssuedBallot:
    return issue_ballot(
        service.dependencies.ballot_keys,
        voter,
        prompt_hash,
        choices,
        service.dependencies.clock(),
        service.settings.ballot_lifetime_s,
    )


def _describe_task(task: RecentResponse, ballot: IssuedBallot) -> dict[str, Any]:
    text_of = {choice.choice_id: choice.text for choice in task.choices}
    shown = ballot.claims.shown_order
    return {
        "ballot": ballot.describe(),
        "prompt": task.prompt_text,
        "choices": [{"choice_id": name, "text": text_of[name]} for name in shown],
    }
