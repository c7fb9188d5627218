"""A small world of prompts, answers, votes and demonstrations, as the events of a service."""

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from feedback.events.ballot import BallotChoice, BallotClaims
from feedback.events.completion import (
    BaseIdentity,
    Choice,
    CompletionServed,
    Consent,
    EngineIdentity,
    Latency,
    SamplingParameters,
    Usage,
)
from feedback.events.demonstration import DemonstrationSubmitted
from feedback.events.envelope import Event, EventData, new_event
from feedback.events.prompt import Prompt, hash_prompt
from feedback.events.ranking import RankingSubmitted
from feedback.identifiers import vote_id

START = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)


class Traffic:
    """Collects events; the same calls give the same events."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def serve(
        self,
        prompt: str,
        /,
        texts: Sequence[str] = ("one", "two", "three"),
        *,
        user: str = "ann",
        source: str = "api",
        consent: bool = True,
        token_ids: Sequence[int] = (1, 2, 3),
        tokenizer_hash: str = "fedcba9876543210" * 4,
        choice_changes: dict[str, Any] | None = None,
        **changes: Any,
    ) -> CompletionServed:
        """Record an answered prompt with one choice per text."""
        name = f"{prompt}-{len(self.events)}"
        choices = tuple(
            Choice(
                **{
                    "choice_id": f"choice-{name}-{index}",
                    "index": index,
                    "adapter_id": "sft-0123456789abcdef",
                    "text": text,
                    "token_ids": (5 + index, 0),
                    "num_visible_tokens": 1,
                    "token_logprobs": (-0.1, -1.5),
                    "stop_reason": "eos",
                }
                | (choice_changes or {})
            )
            for index, text in enumerate(texts)
        )
        fields: dict[str, Any] = {
            "response_id": f"response-{name}",
            "user": user,
            "source": source,
            "prompt": Prompt(
                text=prompt, token_ids=tuple(token_ids), prompt_hash=hash_prompt(prompt)
            ),
            "sampling": SamplingParameters(n=len(texts)),
            "base": BaseIdentity(
                base_id="tiny-llama", weights_hash="0" * 64, tokenizer_hash=tokenizer_hash
            ),
            "choices": choices,
            "usage": Usage(prompt_tokens=3, completion_tokens=6),
            "engine": EngineIdentity(name="scripted", version="1", dtype="float32"),
            "latency": Latency(total_s=0.1),
            "consent": Consent(log=True, train=consent),
        }
        completion = CompletionServed(**(fields | changes))
        self._add(completion)
        return completion

    def vote(
        self, completion: CompletionServed, order: Sequence[Sequence[int]], voter: str
    ) -> RankingSubmitted:
        """Record a ranking by choice index, best group first."""
        assert completion.prompt is not None
        ballot_id = f"ballot-{completion.response_id}"
        ids = [choice.choice_id for choice in completion.choices]
        claims = BallotClaims(
            ballot_id=ballot_id,
            response_ids=(completion.response_id,),
            prompt_hash=completion.prompt.prompt_hash,
            choices=tuple(
                BallotChoice(
                    choice_id=choice.choice_id,
                    adapter_id=choice.adapter_id,
                    index=choice.index,
                    response_id=completion.response_id,
                )
                for choice in completion.choices
            ),
            shown_order=tuple(reversed(ids)),
            voter=voter,
            issued_at=START,
            expires_at=START + timedelta(days=7),
        )
        ranking = RankingSubmitted(
            vote_id=vote_id(ballot_id, voter),
            ballot=claims,
            voter=voter,
            tie_groups=tuple(tuple(ids[index] for index in group) for group in order),
        )
        self._add(ranking)
        return ranking

    def demonstrate(
        self, prompt: str, completion: str, *, author: str = "dora", **changes: Any
    ) -> DemonstrationSubmitted:
        """Record an ideal answer."""
        fields: dict[str, Any] = {
            "demonstration_id": f"demonstration-{len(self.events)}",
            "prompt": Prompt(text=prompt, prompt_hash=hash_prompt(prompt)),
            "completion": completion,
            "author": author,
            "source": "labeler",
            "consent": Consent(log=True, train=True),
        }
        demonstration = DemonstrationSubmitted(**(fields | changes))
        self._add(demonstration)
        return demonstration

    def _add(self, data: EventData) -> None:
        number = len(self.events)
        # Ids whose order is not that of arrival.
        key = str(uuid.uuid5(uuid.NAMESPACE_OID, str(number)))
        time = START + timedelta(seconds=number)
        self.events.append(new_event(data, source="test", key=key, time=time))


@pytest.fixture
def traffic() -> Traffic:
    """An empty world to fill."""
    return Traffic()


@pytest.fixture
def busy_traffic(traffic: Traffic) -> Traffic:
    """Forty prompts by ten people, each ranked by its author, and six demonstrations."""
    for number in range(40):
        person = f"person-{number % 10}"
        completion = traffic.serve(f"prompt {number}", user=person)
        order = ([[0], [1], [2]], [[2], [0, 1]], [[0, 1, 2]])[number % 3]
        traffic.vote(completion, order, person)
    for number in range(6):
        traffic.demonstrate(f"taught {number}", f"answer {number}")
    return traffic
