"""Print a table and save it as JSON with commit, versions and machine; knows no benchmark."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("torch", "transformers", "peft", "fastapi", "uvicorn", "pydantic", "pyarrow")


def save(name: str, rows: Sequence[Mapping[str, Any]], notes: str) -> Path:
    """Print `rows` (same keys) under `notes`, and save them under benchmarks/results/."""
    print(f"{name}: {notes}")
    print(" | ".join(rows[0]))
    for row in rows:
        print(" | ".join(_text(value) for value in row.values()))
    at = datetime.now(UTC)
    document = {
        "name": name,
        "notes": notes,
        "at": at.isoformat(),
        "commit": _commit(),
        "machine": {"cpus": os.cpu_count(), "platform": platform.platform()},
        "versions": {"python": platform.python_version(), **_versions()},
        "rows": list(rows),
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}-{at:%Y%m%dT%H%M%SZ}.json"
    path.write_text(json.dumps(document, indent=2) + "\n")
    print(f"saved {path}")
    return path


def ratio(peer: Sequence[float], ours: Sequence[float]) -> str:
    """Say our measurements over the peer's, round by round: the median and the spread."""
    ratios = [mine / theirs for theirs, mine in zip(peer, ours, strict=True)]
    return f"ratio {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def _text(value: Any) -> str:
    return f"{value:,.1f}" if isinstance(value, float) else str(value)


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(
        command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
