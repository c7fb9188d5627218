"""Keep verdicts on adapters and the cards of refreshes; does not know who judges, or how."""

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from feedback.canonical_json import readable_json
from feedback.durable_files import move_directory, new_staging_directory, replace_file

_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_VERDICT_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")


def write_verdict(path: Path, verdict: Mapping[str, Any]) -> None:
    """Write a verdict; a later evaluation replaces an earlier one.

    Raises ValueError unless `verdict` has the boolean `passed`.
    """
    if not isinstance(verdict.get("passed"), bool):
        raise ValueError("A verdict needs the field `passed`, true or false.")
    path.parent.mkdir(exist_ok=True)
    replace_file(path, readable_json(dict(verdict)))


def read_verdict(path: Path) -> dict[str, Any] | None:
    """Return a verdict, or None when there is none.

    Raises ValueError when the file is damaged.
    """
    if not path.is_file():
        return None
    try:
        verdict: dict[str, Any] = json.loads(path.read_bytes())
    except ValueError as error:
        message = f"Verdict {path.parent.name}/{path.name} is damaged; judge the adapter again."
        raise ValueError(message) from error
    return verdict


def verdict_file_name(name: str) -> str:
    """Return "<name>.json".

    Raises ValueError for a name that could leave the directory.
    """
    if not _VERDICT_NAME.fullmatch(name):
        raise ValueError(f"Verdict name {name!r} is not allowed; use a-z, 0-9 and '_'.")
    return f"{name}.json"


def write_card(cards: Path, card_id: str, files: Mapping[str, bytes], incoming: Path) -> Path:
    """Write the directory `cards`/`card_id` whole; a card is never changed afterwards.

    Raises ValueError for names with a path in them, and for a card_id that other content has.
    """
    for name in (card_id, *files):
        if not _FILE_NAME.fullmatch(name):
            raise ValueError(f"Card name {name!r} is not allowed; use letters, digits, '.', '-'.")
    target = cards / card_id
    staging = new_staging_directory(incoming)
    try:
        for name, payload in files.items():
            (staging / name).write_bytes(payload)
        if not move_directory(staging, target) and _read_files(target) != dict(files):
            raise ValueError(f"Card {card_id} exists with other content; take a new card_id.")
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return target


def _read_files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}
