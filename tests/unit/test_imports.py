"""Importing any module does no work: no file written, no network, no thread, no torch."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("feedback", "policy", "engines", "service", "trainer", "instructloop")

# Runs before anything else: every audited act of the import is judged by where it comes from.
PROBE = """
import json, os, sys, threading
acts = []
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT

def watch(event, args):
    if event in ("socket.connect", "socket.bind", "socket.getaddrinfo", "subprocess.Popen",
                 "os.mkdir", "os.rename", "os.remove", "sqlite3.connect"):
        acts.append(f"{event} {args!r}"[:200])
    elif event == "open" and isinstance(args[2], int) and args[2] & WRITES:
        if not str(args[0]).endswith((".pyc", "/dev/null")) and "__pycache__" not in str(args[0]):
            acts.append(f"open for writing {args[0]!r}")

import importlib
sys.dont_write_bytecode = True
for name in json.loads(sys.argv[2]):
    importlib.import_module(name)
sys.addaudithook(watch)
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
threads = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
heavy = sorted({"torch", "transformers", "peft"} & sys.modules.keys())
sys.stdout.write(json.dumps({"acts": acts, "threads": threads, "heavy": heavy}))
"""


def modules_of(package: str) -> list[str]:
    names = []
    for file in sorted((ROOT / package).rglob("*.py")):
        parts = file.relative_to(ROOT).with_suffix("").parts
        if parts[-1] != "__main__":
            names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return names


def is_torch_allowed(name: str) -> bool:
    return name.startswith(("policy", "trainer", "engines.embedded"))


def probe(names: list[str], cwd: Path, preloaded: tuple[str, ...] = ()) -> dict[str, list[str]]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PROBE, json.dumps(names), json.dumps(preloaded)],
        cwd=cwd, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result: dict[str, list[str]] = json.loads(done.stdout)
    return result


def test_the_light_modules_import_without_work_and_without_torch(tmp_path: Path) -> None:
    names = [n for package in PACKAGES for n in modules_of(package) if not is_torch_allowed(n)]
    assert {"feedback", "service", "instructloop.settings"} <= set(names)
    assert probe(names, tmp_path) == {"acts": [], "threads": [], "heavy": []}
    assert list(tmp_path.iterdir()) == []


def test_the_model_modules_import_without_touching_disk_or_network(tmp_path: Path) -> None:
    names = [n for package in PACKAGES for n in modules_of(package) if is_torch_allowed(n)]
    # torch and transformers keep house while they load; only what we add is judged.
    result = probe(names, tmp_path, ("torch", "transformers", "peft"))
    assert (result["acts"], result["threads"]) == ([], [])
    assert list(tmp_path.iterdir()) == []
