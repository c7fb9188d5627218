"""A small record of events about a tiny base: enough for a refresh from snapshot to card."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer
from vote_story import DEMONSTRATION, SERVED

from feedback.events.ballot import BallotChoice, BallotClaims
from feedback.events.completion import Choice, CompletionServed
from feedback.events.demonstration import DemonstrationSubmitted
from feedback.events.envelope import Event, EventData, new_event
from feedback.events.prompt import Prompt, hash_prompt
from feedback.events.ranking import RankingSubmitted
from feedback.identifiers import vote_id
from feedback.record_snapshot import SPOOL_NAME
from feedback.spool import Spool
from policy.base_files import tokenizer_hash
from trainer.gate_settings import GateSettings
from trainer.refresh_settings import RefreshSettings
from trainer.settings import AdapterShape, PpoSettings, RewardSettings, SftSettings

START = datetime(2026, 11, 30, tzinfo=UTC)
SETTINGS = RefreshSettings(
    shape=AdapterShape(rank=4, alpha=8),
    sft=SftSettings(epochs=2, batch_size=4),
    init=SftSettings(epochs=1, batch_size=4),
    reward=RewardSettings(batch_size=4),
    ppo=PpoSettings(
        iterations=4,
        value_iterations=1,
        batch_size=8,
        minibatch_size=4,
        max_response_tokens=4,
        warm_up_iterations=0,
    ),
    gate=GateSettings(max_prompts=4),
    max_prompt_tokens=64,
    max_answer_tokens=32,
)
"""A refresh in seconds."""


def story(
    base: Path, num_prompts: int = 12, num_demonstrations: int = 4, num_votes: int | None = None
) -> Iterator[Event]:
    """Prompts with three answers each, a vote each from a voter of its own, and demonstrations."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    for number in range(num_demonstrations):
        yield _event(2 * num_prompts + number, _demonstration(number))
    for number in range(num_prompts):
        served = _served(tokenizer, number)
        yield _event(2 * number, served)
        if number < (num_prompts if num_votes is None else num_votes):
            yield _event(2 * number + 1, _vote(served, number))


def record(data_dir: Path, events: Iterable[Event]) -> Path:
    """Append events to the record of a data directory."""
    data_dir.mkdir(parents=True, exist_ok=True)
    with Spool.open(data_dir / SPOOL_NAME) as spool:
        for written in [spool.append(event) for event in events]:
            written.result()
    return data_dir


def _event(number: int, data: EventData) -> Event:
    # A key: the same story has the same event ids in every directory.
    return new_event(data, source="test", key=str(number), time=START + timedelta(minutes=number))


def _demonstration(number: int) -> DemonstrationSubmitted:
    text = f"Show {number}"
    changes: dict[str, Any] = {
        "demonstration_id": f"d{number}",
        "prompt": {"text": text, "prompt_hash": hash_prompt(text)},
        "completion": f" like {number}.",
        "author": f"teacher {number}",
        "split_group": None,
    }
    return DemonstrationSubmitted.model_validate(DEMONSTRATION.model_dump() | changes)


def _served(tokenizer: Any, number: int) -> CompletionServed:
    text = f"Tell {number}"
    prompt = Prompt(
        text=text, token_ids=tokenizer(text).input_ids, prompt_hash=hash_prompt(text), kind="api"
    )
    choices = [_choice(tokenizer, number, index) for index in range(3)]
    base = SERVED.base.model_copy(update={"tokenizer_hash": tokenizer_hash(tokenizer)})
    return SERVED.model_copy(
        update={
            "response_id": f"r{number}",
            "user": f"author {number}",
            "split_group": None,
            "prompt": prompt,
            "choices": tuple(choices),
            "base": base,
        }
    )


def _choice(tokenizer: Any, number: int, index: int) -> Choice:
    text = " so" * (index + 1) + "."
    ids = (*tokenizer(text).input_ids, tokenizer.eos_token_id)
    changes: dict[str, Any] = {
        "choice_id": f"r{number}-{index}",
        "index": index,
        "text": text,
        "token_ids": ids,
        "num_visible_tokens": len(ids) - 1,
        "token_logprobs": None,
        "stop_reason": "eos",
    }
    return Choice.model_validate(SERVED.choices[0].model_dump() | changes)


def _vote(served: CompletionServed, number: int) -> RankingSubmitted:
    voter, ballot_id = f"voter {number}", f"ballot-{served.response_id}"
    ids = tuple(choice.choice_id for choice in served.choices)
    claims = BallotClaims(
        ballot_id=ballot_id,
        response_ids=(served.response_id,),
        prompt_hash=served.prompt.prompt_hash if served.prompt else "",
        choices=tuple(
            BallotChoice(
                choice_id=choice.choice_id,
                adapter_id=choice.adapter_id,
                index=choice.index,
                response_id=served.response_id,
            )
            for choice in served.choices
        ),
        shown_order=ids,
        voter=voter,
        issued_at=START,
        expires_at=START + timedelta(days=1),
    )
    # The longest answer is the best, the two others tie in every third vote.
    groups = ((ids[2],), ids[:2]) if number % 3 == 0 else ((ids[2],), (ids[1],), (ids[0],))
    return RankingSubmitted(
        vote_id=vote_id(ballot_id, voter),
        ballot=claims,
        voter=voter,
        verdict="ranked",
        tie_groups=groups,
    )
