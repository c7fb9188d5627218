"""The composed service in a process of its own: what the README promises, over real HTTP."""

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
README_URL = "http://127.0.0.1:8000"

# The scripted engine stands in for the model; everything else is what `instructloop serve` runs.
SERVE_SCRIPTED = """
import sys
from engines.scripted import ScriptedEngine
from instructloop.serve import run
from instructloop.settings import load_settings
run(load_settings(None, {"port": 0, "data_dir": sys.argv[1]}), lambda _: ScriptedEngine())
"""


def start(data_dir: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SERVE_SCRIPTED, str(data_dir)], stdout=subprocess.PIPE, text=True
    )


def url_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    announced = process.stdout.readline().split()
    assert announced[:2] == ["listening", "on"]
    return announced[2]


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with start(tmp_path / "data") as process:
        yield url_of(process)
        process.send_signal(signal.SIGTERM)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_the_python_example_of_the_readme_runs(url: str, tmp_path: Path) -> None:
    [example] = [block for block in blocks("python") if "OpenAI(" in block]
    code = example.replace(README_URL, url)
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_curl_examples_of_the_readme_ask_and_vote(url: str) -> None:
    ask, vote = (block.replace(README_URL, url) for block in blocks("") if block.startswith("curl"))
    [ballot] = curl(ask)["ballots"]
    names = ("BEST", "GOOD", "AS_GOOD", "WORST")
    values = {
        name: choice["choice_id"] for name, choice in zip(names, ballot["choices"], strict=True)
    }
    for name, value in {"TOKEN": ballot["token"], **values}.items():
        vote = vote.replace(f'"{name}"', f'"{value}"')
    assert curl(vote)["status"] == "accepted"


def curl(command: str) -> dict[str, list[dict[str, object]]]:
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    answer: dict[str, list[dict[str, object]]] = json.loads(done.stdout)
    return answer


def test_sigterm_ends_the_service_with_status_0(tmp_path: Path) -> None:
    with start(tmp_path / "data") as process:
        url_of(process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0


def test_another_address_than_loopback_is_refused_before_the_model_is_loaded(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-m", "instructloop.cli", "serve", "--host", "0.0.0.0"]
    done = subprocess.run(
        [*command, "--port", "0", "--data-dir", str(tmp_path), "--base", "absent"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "keys create" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
