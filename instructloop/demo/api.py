"""The demo's HTTP client: ask, vote, demonstrate, promote; knows the service by its HTTP alone."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from instructloop.demo.personas import Answer, TieGroups
from instructloop.demo.prompts import Demonstration, DemoPrompt, prompt_text

MAX_TOKENS = 32
_TIMEOUT_S = 600.0
_MAX_ATTEMPTS = 3


class RequestFailed(Exception):
    """The service answered other than 2xx, or not at all; the message names the route."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How answers are drawn; `seed` makes them repeatable."""

    temperature: float = 1.0
    num_choices: int = 1
    seed: int = 0
    max_tokens: int = MAX_TOKENS


@dataclass(frozen=True, slots=True)
class Ballot:
    """A ballot to rank: its token, and its answers in the order to show them."""

    ballot_id: str
    token: str
    choice_ids: tuple[str, ...]
    answers: tuple[Answer, ...]


@dataclass(frozen=True, slots=True)
class Reply:
    """What one completion request returned; `ballot` is None where there was one choice only."""

    adapter_id: str | None
    answers: tuple[Answer, ...]
    ballot: Ballot | None


@dataclass(slots=True)
class Traffic:
    """What went over the wire. `num_failed` counts requests that no attempt got answered."""

    num_requests: int = 0
    num_failed: int = 0
    failures: list[str] = field(default_factory=list)


class DemoApi:
    """A client that counts its requests.

    A vote or a demonstration that fails on the connection or with 503 is sent again with the
    same body, as any client would; a completion is not repeated, so that a failed one shows.
    """

    def __init__(self, client: httpx.AsyncClient, *, retry_pause_s: float = 1.0) -> None:
        self._client = client
        self._retry_pause_s = retry_pause_s
        self.traffic = Traffic()

    async def complete(
        self, model: str, prompt: DemoPrompt, sampling: Sampling, *, source: str, user: str
    ) -> Reply:
        """Ask for answers to one prompt.

        Raises:
            RequestFailed: there was no 2xx.
        """
        body = {
            "model": model,
            "prompt": prompt_text(prompt),
            "n": sampling.num_choices,
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "seed": sampling.seed,
            "logprobs": 0,  # a choice's tokens are counted from it
            "user": user,
            "metadata": {"source": source, "use_case": prompt.use_case},
        }
        return parse_reply(await self._post("/v1/completions", body, max_attempts=1))

    async def compose(self, reply: Reply, *, user: str) -> Ballot:
        """Take a ballot of one's own over answers that somebody else asked for.

        Raises:
            RequestFailed: there was no 2xx.
        """
        by_id = {answer.choice_id: answer for answer in reply.answers}
        body = {"choices": list(by_id), "user": user}
        ballot = await self._post("/v1/feedback/ballots", body)
        shown = [str(choice["choice_id"]) for choice in ballot["choices"]]
        answers = tuple(by_id[choice_id] for choice_id in shown)
        return Ballot(str(ballot["id"]), str(ballot["token"]), tuple(shown), answers)

    async def vote(self, ballot: Ballot, groups: TieGroups, *, duration_ms: int = 0) -> str:
        """Send a ranking, indices into the order shown, and return the vote's id.

        Raises:
            RequestFailed: the vote was not acknowledged.
        """
        ranking = [[ballot.choice_ids[index] for index in group] for group in groups]
        body = {
            "ballot": ballot.token,
            "ranking": ranking,
            "verdict": "ranked",
            "duration_ms": duration_ms,
        }
        return str((await self._post("/v1/feedback/rankings", body))["vote_id"])

    async def demonstrate(self, demonstration: Demonstration, *, user: str) -> None:
        """Send a demonstration.

        Raises:
            RequestFailed: it was not acknowledged.
        """
        body = {
            "prompt": prompt_text(demonstration),
            "completion": demonstration.completion,
            "kind": "plain",
            "user": user,
            "metadata": {"source": "simulated", "use_case": demonstration.use_case},
        }
        await self._post("/v1/feedback/demonstrations", body)

    async def promote(self, channel: str, adapter_id: str, reason: str) -> None:
        """Let a channel serve an adapter, as an administrator would.

        Raises:
            RequestFailed: it was refused; the message holds the service's reason.
        """
        body = {"adapter_id": adapter_id, "reason": reason}
        await self._post(f"/admin/channels/{channel}", body, max_attempts=1)

    async def refusal(self, channel: str) -> str | None:
        """Return why the service refused a channel's newest adapter; None if it did not."""
        ready = (await self._client.get("/readyz")).json()
        refused = ready["channels"].get(channel, {}).get("refused")
        return None if refused is None else str(refused)

    async def _post(
        self, route: str, body: Mapping[str, Any], *, max_attempts: int = _MAX_ATTEMPTS
    ) -> dict[str, Any]:
        self.traffic.num_requests += 1
        problem = ""
        for attempt in range(max_attempts):
            await asyncio.sleep(attempt * self._retry_pause_s)
            try:
                response = await self._client.post(route, json=body)
            except httpx.TransportError as error:
                problem = type(error).__name__
                continue
            if response.is_success:
                return dict(response.json())
            problem = f"{response.status_code} {response.text[:300]}"
            if response.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                break
        self.traffic.num_failed += 1
        self.traffic.failures.append(f"{route}: {problem}")
        raise RequestFailed(f"POST {route} failed: {problem}")


def open_client(base_url: str) -> httpx.AsyncClient:
    """Open a client for `base_url`, patient enough for a model on a slow CPU."""
    return httpx.AsyncClient(base_url=base_url, timeout=_TIMEOUT_S, trust_env=False)


def parse_reply(body: Mapping[str, Any]) -> Reply:
    """Read a completion response of one prompt."""
    choices = body["choices"]
    answers = {choice["index"]: _answer(choice) for choice in choices}
    ballots = body.get("ballots") or [None]
    return Reply(
        adapter_id=choices[0].get("adapter_id"),
        answers=tuple(answers[index] for index in sorted(answers)),
        ballot=ballots[0] and _ballot(ballots[0], answers),
    )


def _answer(choice: Mapping[str, Any]) -> Answer:
    tokens: Sequence[str] = choice["logprobs"]["tokens"]
    return Answer(choice["text"], len(tokens), choice["finish_reason"], choice["choice_id"])


def _ballot(ballot: Mapping[str, Any], answers: Mapping[int, Answer]) -> Ballot:
    shown = ballot["choices"]
    return Ballot(
        ballot_id=ballot["id"],
        token=ballot["token"],
        choice_ids=tuple(choice["choice_id"] for choice in shown),
        answers=tuple(answers[choice["index"]] for choice in shown),
    )
