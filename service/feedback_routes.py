"""Ratings and demonstrations: what people say besides rankings."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from feedback.events.completion import Consent
from feedback.events.demonstration import DemonstrationSubmitted
from feedback.events.prompt import ChatMessage, Prompt, hash_prompt
from feedback.events.ranking import OutputFlags
from feedback.events.rating import RatingSubmitted
from feedback.identifiers import idempotent_id, uuid7
from service.assembly import Assembly, assembly_of
from service.errors import NotFound
from service.feedback_requests import DemonstrationRequest, RatingRequest
from service.openapi import request_body
from service.requests import read_body

router = APIRouter()


@router.post("/v1/feedback/ratings", openapi_extra=request_body(RatingRequest), status_code=202)
async def submit_rating(request: Request) -> JSONResponse:
    """Accept an absolute rating of one choice; it never becomes a comparison."""
    service = assembly_of(request)
    caller = service.caller(request)
    body = await read_body(request, RatingRequest, service.settings.max_body_bytes)
    _require_choice(service, body.response_id, body.choice_id)
    voter = service.voter(caller, body.user)
    data = RatingSubmitted(
        response_id=body.response_id,
        choice_id=body.choice_id,
        thumb=body.thumb,
        likert=body.likert,
        flags=OutputFlags(**body.flags),
        voter=voter.pseudonym,
        voter_role=voter.role,
        rationale=body.rationale,
    )
    key = request.headers.get("idempotency-key")
    await service.feedback_log.append(data, voter.pseudonym, key)
    return JSONResponse({"choice_id": body.choice_id, "status": "accepted"}, status_code=202)


@router.post(
    "/v1/feedback/demonstrations",
    openapi_extra=request_body(DemonstrationRequest),
    status_code=202,
)
async def submit_demonstration(request: Request) -> JSONResponse:
    """Accept an ideal answer; a correction of a choice is one too, not a comparison."""
    service = assembly_of(request)
    caller = service.caller(request)
    body = await read_body(request, DemonstrationRequest, service.settings.max_body_bytes)
    voter = service.voter(caller, body.user)
    key = request.headers.get("idempotency-key")
    corrected = None if body.corrects is None else service.recent.response_of(body.corrects)
    data = DemonstrationSubmitted(
        demonstration_id=uuid7() if key is None else idempotent_id(key, voter.pseudonym),
        prompt=_prompt(body),
        completion=body.completion,
        kind=body.effective_kind,
        corrects=body.corrects,
        response_id=None if corrected is None else corrected.response_id,
        author=voter.pseudonym,
        author_role=voter.role,
        split_group=voter.split_group,
        source=body.metadata.source,
        consent=Consent(log=True, train=True),
        duration_ms=body.duration_ms,
        guideline_version=body.guideline_version,
    )
    await service.feedback_log.append(data, voter.pseudonym, key)
    accepted = {"demonstration_id": data.demonstration_id, "status": "accepted"}
    return JSONResponse(accepted, status_code=202)


def _require_choice(service: Assembly, response_id: str, choice_id: str) -> None:
    """Refuse what is known to be wrong; an older response is joined by the fold."""
    response = service.recent.response(response_id)
    if response is not None and choice_id not in [c.choice_id for c in response.choices]:
        raise NotFound(f"response {response_id} has no such choice", param="choice_id")


def _prompt(body: DemonstrationRequest) -> Prompt:
    use_case = body.metadata.use_case
    if isinstance(body.prompt, str):
        prompt_hash = hash_prompt(body.prompt)
        return Prompt(text=body.prompt, prompt_hash=prompt_hash, use_case=use_case)
    messages = tuple(ChatMessage(role=m.role, content=m.content) for m in body.prompt)
    return Prompt(
        format="chat",
        # The trainer applies the template to `messages`; this is for people to read.
        text="\n\n".join(f"{message.role}: {message.content}" for message in messages),
        messages=messages,
        prompt_hash=hash_prompt(messages=messages),
        use_case=use_case,
    )
