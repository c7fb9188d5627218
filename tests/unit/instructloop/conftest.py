"""A service of HTTP answers alone, to which the demo's clients can be pointed."""

import json
from collections import Counter
from collections.abc import AsyncIterator
from uuid import NAMESPACE_URL, uuid5

import httpx
import pytest

from instructloop.demo.api import DemoApi

TEXTS = (
    "A kind answer with good and plain words, and it ends well for everybody.",
    "Meh",
    "Utilize the aforementioned methodology",
    "A good day to you, my friend, and a warm cup of tea by the fire.",
)


class FakeService:
    """Answers as the service does and remembers what it was asked; breaks when told to."""

    def __init__(self) -> None:
        self.composed: list[dict] = []
        self.completions: list[dict] = []
        self.votes: list[dict] = []
        self.demonstrations: list[dict] = []
        self.adapter_id = "sft-0000000000000001"
        self.failing: dict[str, list[int]] = {}
        """By route: the statuses to answer with first, 0 for a broken connection."""
        self.gives_ballots = True

    def __call__(self, request: httpx.Request) -> httpx.Response:
        route, body = request.url.path, json.loads(request.content)
        if self.failing.get(route):
            status = self.failing[route].pop(0)
            if status == 0:
                raise httpx.ConnectError("refused", request=request)
            return httpx.Response(status, json={"error": {"message": "no"}})
        answer = {
            "/v1/completions": self._complete,
            "/v1/feedback/ballots": self._compose,
            "/v1/feedback/rankings": self._rank,
            "/v1/feedback/demonstrations": self._demonstrate,
        }[route](body)
        is_read = route in ("/v1/completions", "/v1/feedback/ballots")
        return httpx.Response(200 if is_read else 202, json=answer)

    def _complete(self, body: dict) -> dict:
        self.completions.append(body)
        number = len(self.completions)
        choices = [
            {
                "index": index,
                "text": TEXTS[(index + body["seed"]) % len(TEXTS)],
                "finish_reason": "stop" if index % 2 == 0 else "length",
                "logprobs": {"tokens": ["x"] * (20 + index)},
                "choice_id": f"choice-{number}-{index}",
                "adapter_id": self.adapter_id,
            }
            for index in range(body["n"])
        ]
        shown = [{"choice_id": c["choice_id"], "index": c["index"]} for c in choices][::-1]
        ballot = {"id": f"ballot-{number}", "token": f"token-{number}", "choices": shown}
        ballots = [ballot] if len(choices) > 1 and self.gives_ballots else []
        return {"choices": choices[::-1], "ballots": ballots}

    def _compose(self, body: dict) -> dict:
        self.composed.append(body)
        name = f"{body['choices'][0]}-{body['user']}"
        shown = [{"choice_id": choice_id} for choice_id in body["choices"][::-1]]
        return {"id": f"ballot-{name}", "token": f"token-{name}", "choices": shown}

    def _rank(self, body: dict) -> dict:
        self.votes.append(body)
        vote_id = str(uuid5(NAMESPACE_URL, body["ballot"]))
        return {"vote_id": vote_id, "status": "accepted"}

    def _demonstrate(self, body: dict) -> dict:
        self.demonstrations.append(body)
        return {"status": "accepted"}

    @property
    def votes_per_ballot(self) -> Counter[str]:
        return Counter(vote["ballot"] for vote in self.votes)


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
async def api(service: FakeService) -> AsyncIterator[DemoApi]:
    transport = httpx.MockTransport(service)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        yield DemoApi(client, retry_pause_s=0.0)
