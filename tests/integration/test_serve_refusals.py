"""What keeps `instructloop serve` from starting is said in one clear line, with the way out."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from feedback.base_description import BaseDescription
from feedback.registry import Registry
from service.access import create_key

# The scripted engine stands in for the model; the rest is what `instructloop serve` runs.
SCRIPTED = """
import sys
from engines.scripted import ScriptedEngine
from instructloop import cli, serve
run = serve.run
serve.run = lambda settings: run(settings, lambda _: ScriptedEngine())
cli.main(sys.argv[1:])
"""


def refusal(*arguments: str, code: str | None = None) -> str:
    """Run `instructloop serve` and return the last line of its refusal."""
    command = ["-c", code] if code else ["-m", "instructloop.cli"]
    done = subprocess.run(
        [sys.executable, *command, "serve", *arguments],
        capture_output=True, text=True, check=False, timeout=120, env={**os.environ},
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    return last


def test_a_port_in_use_is_named_before_the_model_is_loaded(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        line = refusal("--port", port, "--data-dir", str(tmp_path), "--base", "absent")
    assert f"127.0.0.1 port {port}" in line
    assert "--port" in line


def test_an_address_of_another_machine_is_named(tmp_path: Path) -> None:
    create_key(tmp_path / "keys.json", "admin")
    line = refusal("--host", "203.0.113.7", "--port", "0", "--data-dir", str(tmp_path))
    assert "cannot listen on 203.0.113.7" in line


@pytest.mark.slow
def test_an_unknown_base_is_named_with_what_can_be_given(tmp_path: Path) -> None:
    absent = tmp_path / "no-such-model"
    line = refusal("--port", "0", "--data-dir", str(tmp_path / "data"), "--base", str(absent))
    assert "no-such-model" in line


def test_a_corrupt_spool_is_named_with_its_way_out(tmp_path: Path) -> None:
    (tmp_path / "spool.sqlite3").write_bytes(b"this is no database" * 400)
    line = refusal("--port", "0", "--data-dir", str(tmp_path), code=SCRIPTED)
    assert "spool.sqlite3" in line
    assert "salvage" in line


def test_a_data_directory_of_another_base_names_both(
    tmp_path: Path, tiny_base: BaseDescription
) -> None:
    Registry.open(tmp_path).bind_base(tiny_base)
    line = refusal("--port", "0", "--data-dir", str(tmp_path), code=SCRIPTED)
    assert "tiny-llama" in line
    assert "scripted" in line
