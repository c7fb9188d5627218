"""The demo's labelers against the real service over a scripted engine: no vote gets lost."""

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from engines.scripted import Script, ScriptedEngine
from engines.seam import GenerateRequest
from feedback.fold import fold
from feedback.ingest import read_record
from feedback.projection import Projection
from feedback.spool import Spool
from instructloop.demo.api import DemoApi, Sampling
from instructloop.demo.fetch import fetch_answers
from instructloop.demo.labelers import Round, post_demonstrations, vote_round
from instructloop.demo.prompts import (
    evenly_spaced,
    held_out,
    load_demonstrations,
    load_prompts,
    prompt_text,
    training,
)
from service.scripted import scripted_service

ENDINGS = ("with a kind word.", "and so on", "as utilized hereinafter.", "for a good, warm day!")
PROMPTS = evenly_spaced(training(load_prompts()), 28)


def speak(request: GenerateRequest) -> Script:
    ending = ENDINGS[request.sample_index % len(ENDINGS)]
    words = f"Here is a plain answer for you, my friend, {ending}".split(" ")
    return Script(tuple(f" {word}" if n else word for n, word in enumerate(words)))


@dataclass(frozen=True)
class Running:
    api: DemoApi
    spool: Spool
    model: str

    def projection(self) -> Projection:
        return fold(read_record(self.spool).events)


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    service = scripted_service(tmp_path, ScriptedEngine(script_of=speak))
    transport = httpx.ASGITransport(service.app)
    async with (
        service.app.router.lifespan_context(service.app),
        httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client,
    ):
        models = (await client.get("/v1/models")).json()["data"]
        yield Running(DemoApi(client), service.spool, models[0]["id"])
    await service.close()


async def test_every_vote_sent_is_one_live_vote_whatever_was_retried_or_changed(running: Running):
    settings = Round(running.model, seed=11, retry_share=0.5, change_share=0.5)
    counts = await vote_round(running.api, PROMPTS, settings)
    projection = running.projection()
    assert counts.failures == 0
    assert counts.votes_retried
    assert counts.votes_changed
    assert counts.votes_sent == 3 * len(PROMPTS) == len(projection.votes)
    assert not projection.excluded
    assert not projection.unjoined
    for vote in projection.votes:
        assert vote.completions[0].source == "simulated"
        assert len(vote.choices) == 4


async def test_demonstrations_arrive_once_each_with_the_template_of_the_prompts(running: Running):
    demonstrations = load_demonstrations()[:6]
    assert await post_demonstrations(running.api, demonstrations) == 6
    arrived = [recorded.data for recorded in running.projection().demonstrations]
    assert {d.prompt.text for d in arrived} == {prompt_text(d) for d in demonstrations}
    assert {d.source for d in arrived} == {"simulated"}
    assert len({d.author for d in arrived}) == 1


async def test_answers_for_the_measurement_are_whole_and_marked_as_evaluation(running: Running):
    prompts = held_out(load_prompts())[:5]
    answers = await fetch_answers(
        running.api, running.model, prompts, Sampling(num_choices=4, temperature=0.7)
    )
    assert [len(given) for given in answers.values()] == [4] * 5
    first = answers[prompts[0].id]
    assert all(a.text.endswith(end) for a, end in zip(first, ENDINGS, strict=True))
    assert first[0].num_tokens == len(first[0].text.split())
    assert first[0].is_finished
    served = running.projection().completions.values()
    assert {recorded.data.source for recorded in served} == {"eval"}


def test_the_process_reports_its_counts_and_fails_when_nobody_answers():
    command = [sys.executable, "-m", "instructloop.demo.labelers"]
    options = ["--base-url", "http://127.0.0.1:9", "--max-prompts", "3"]
    ended = subprocess.run(
        [*command, *options], capture_output=True, text=True, env={**os.environ}, check=False
    )
    assert ended.returncode == 1
    counts = json.loads(ended.stdout.splitlines()[-1])
    assert (counts["votes_sent"], counts["requests"], counts["failures"]) == (0, 3, 3)
