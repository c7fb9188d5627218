"""POST /v1/completions: route, sample, log, answer, with or without a stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import structlog
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from engines.seam import ContextOverflow, GenerateRequest
from service.assembly import Assembly, assembly_of
from service.ballots import IssuedBallot
from service.completion_bodies import chunk_body, completion_body, usage_chunk_body
from service.completion_log import Serving, new_serving
from service.completion_request import CompletionRequest
from service.disconnects import ClientGone, unless_gone
from service.errors import (
    EngineFailed,
    InvalidRequest,
    Unavailable,
    describe,
)
from service.event_stream import DONE, EventStream, encode_event
from service.generation import ChoiceFailed, Generation
from service.models import lease_model
from service.openapi import request_body
from service.requests import read_body

log = structlog.get_logger(__name__)

router = APIRouter()

CLIENT_CLOSED_REQUEST = 499
LONG_PROMPT_CHARS = 20_000


@router.post("/v1/completions", openapi_extra=request_body(CompletionRequest))
async def create_completion(request: Request) -> Response:
    """Complete a prompt; answers with two or more choices carry a ballot."""
    service = assembly_of(request)
    serving, generation = await _begin(service, request)
    if serving.request.stream:
        return EventStream(_stream(service, serving, generation), generation.close)
    try:
        return await unless_gone(request.receive, _answer(service, serving, generation))
    except ClientGone:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    finally:
        generation.close()


async def _begin(service: Assembly, request: Request) -> tuple[Serving, Generation]:
    """Check a request, route it and pin its choices; nothing is sampled yet."""
    caller = service.caller(request)
    body = await read_body(request, CompletionRequest, service.settings.max_body_bytes)
    _check_num_choices(body, service)
    await _require_engine(service)
    prompt_token_ids = await _tokenize(service, body.prompt)
    _check_context(service, len(prompt_token_ids), body.max_tokens)
    voter = service.voter(caller, body.user)
    adapter_id, leases = await lease_model(service, caller, body.model, body.n)
    serving = new_serving(body, voter, adapter_id, prompt_token_ids)
    requests = [
        GenerateRequest(
            f"{serving.response_id}-{index}", prompt_token_ids, adapter_id, body.sampling(), index
        )
        for index in range(body.n)
    ]
    return serving, Generation(service.engine, requests, leases)


async def _answer(service: Assembly, serving: Serving, generation: Generation) -> Response:
    """Sample every choice to its end, log them, then answer."""
    is_logged = False
    try:
        with service.in_flight.track(generation):
            async with generation:
                await generation.finish()
        is_logged = True
        ballots = await service.completion_log.finish(serving, generation)
    except Exception as error:
        raise _as_service_error(error) from error
    finally:
        if not is_logged:
            service.completion_log.record(serving, generation)
    return JSONResponse(completion_body(serving, generation.transcripts, ballots))


async def _stream(
    service: Assembly, serving: Serving, generation: Generation
) -> AsyncGenerator[bytes, None]:
    """Yield a chunk per delta; the last content chunk waits for the log and carries the ballots."""
    is_logged, has_begun = False, False
    try:
        with service.in_flight.track(generation):
            async with generation:
                async for index, delta in generation.deltas():
                    ballots: list[IssuedBallot] = []
                    if generation.is_complete:
                        is_logged = True
                        ballots = await service.completion_log.finish(serving, generation)
                    if delta.text or delta.finish is not None:
                        has_begun = True
                        transcript = generation.transcripts[index]
                        yield encode_event(
                            chunk_body(serving, index, transcript, delta.text, ballots)
                        )
        if serving.request.includes_usage:
            yield encode_event(usage_chunk_body(serving, generation.transcripts))
        yield DONE
    except Exception as error:
        failed = _as_service_error(error)
        if not has_begun:
            raise failed from error
        yield encode_event(describe(failed)[1])
    finally:
        if not is_logged:
            service.completion_log.record(serving, generation)


def _as_service_error(error: Exception) -> Exception:
    """Return what the client is told; an unforeseen failure is noted, without its words."""
    if isinstance(error, ChoiceFailed):
        kind = Unavailable if error.code == "shutting_down" else EngineFailed
        return kind(str(error), code=error.code)
    if describe(error)[0] == 500:
        log.error("completion_failed", kind=type(error).__name__)
        return EngineFailed("the engine failed on this request")
    return error


def _check_num_choices(body: CompletionRequest, service: Assembly) -> None:
    most = service.settings.max_num_choices
    if body.n > most:
        raise InvalidRequest(f"n is {body.n}; at most {most} choices are allowed", param="n")


async def _require_engine(service: Assembly) -> None:
    health = await service.engine.health()
    if not health.is_alive:
        raise Unavailable("the engine is down; try again later", code="engine_down")


async def _tokenize(service: Assembly, prompt: str) -> tuple[int, ...]:
    tokenize = service.engine.tokenize
    if len(prompt) < LONG_PROMPT_CHARS:
        return tuple(tokenize(prompt))
    return tuple(await asyncio.to_thread(tokenize, prompt))


def _check_context(service: Assembly, num_prompt_tokens: int, max_tokens: int) -> None:
    if num_prompt_tokens == 0:
        raise InvalidRequest("prompt has no tokens; send some text", param="prompt")
    context_length = service.engine.capabilities.context_length
    if num_prompt_tokens + max_tokens > context_length:
        raise ContextOverflow(num_prompt_tokens, max_tokens, context_length)
