"""OpenAI's shapes of a completion, whole and in chunks, with our ids; knows no transport."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engines.seam import FinishReason
from service.ballots import IssuedBallot
from service.completion_log import Serving
from service.transcripts import Transcript

_FINISH_REASON: dict[FinishReason, str] = {
    "eos": "stop",
    "stop_string": "stop",
    "length": "length",
}


def completion_body(
    serving: Serving, transcripts: Sequence[Transcript], ballots: Sequence[IssuedBallot]
) -> dict[str, Any]:
    """Return the body of an answer that is not streamed."""
    return {
        **_head(serving),
        "choices": [
            _choice(serving, index, transcript, transcript.text, transcript.newly_shown())
            for index, transcript in enumerate(transcripts)
        ],
        "usage": usage_body(serving, transcripts),
        "ballots": [ballot.describe() for ballot in ballots],
    }


def chunk_body(
    serving: Serving, index: int, transcript: Transcript, text: str, ballots: Sequence[IssuedBallot]
) -> dict[str, Any]:
    """Return one chunk of a stream: what one choice gained."""
    choice = _choice(serving, index, transcript, text, transcript.newly_shown())
    body = {**_head(serving), "choices": [choice]}
    if serving.request.includes_usage:
        body["usage"] = None
    if ballots:
        body["ballots"] = [ballot.describe() for ballot in ballots]
    return body


def usage_chunk_body(serving: Serving, transcripts: Sequence[Transcript]) -> dict[str, Any]:
    """Return the last chunk of a stream with include_usage: no choices, full usage."""
    return {**_head(serving), "choices": [], "usage": usage_body(serving, transcripts)}


def usage_body(serving: Serving, transcripts: Sequence[Transcript]) -> dict[str, int]:
    """Return the token counts; EOS was sampled, so it counts."""
    num_prompt = len(serving.prompt_token_ids)
    num_completion = sum(len(transcript.token_ids) for transcript in transcripts)
    return {
        "prompt_tokens": num_prompt,
        "completion_tokens": num_completion,
        "total_tokens": num_prompt + num_completion,
    }


def _head(serving: Serving) -> dict[str, Any]:
    return {
        "id": serving.response_id,
        "object": "text_completion",
        "created": serving.created_s,
        "model": serving.request.model,
    }


def _choice(
    serving: Serving, index: int, transcript: Transcript, text: str, shown: slice
) -> dict[str, Any]:
    has_logprobs = serving.request.logprobs is not None
    finish = transcript.finish
    return {
        "text": text,
        "index": index,
        "logprobs": _logprobs(transcript, shown) if has_logprobs else None,
        "finish_reason": None if finish is None else _FINISH_REASON[finish.reason],
        "choice_id": serving.choice_ids[index],
        "adapter_id": serving.adapter_id,
    }


def _logprobs(transcript: Transcript, shown: slice) -> dict[str, Any]:
    """Return OpenAI's log-probabilities of the tokens whose text is in the answer.

    Log-probabilities are those of the model at temperature 1. Offsets are characters into the
    answer: text[offset[i]:offset[i + 1]] is tokens[i].
    """
    positions = range(*shown.indices(len(transcript.token_ids)))
    return {
        "tokens": [transcript.visible_text(position) for position in positions],
        "token_logprobs": transcript.logprobs[shown],
        "top_logprobs": [
            {top.text: top.logprob for top in alternatives}
            for alternatives in transcript.top_logprobs[shown]
        ],
        "text_offset": transcript.offsets[shown],
    }
