"""Facts on the terminal: a table for people, JSON for programs; knows no subcommand."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from pydantic import BaseModel
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from instructloop.settings import setting_rows


def print_rows(rows: Sequence[Mapping[str, Any]], as_json: bool, *, empty: str) -> None:
    """Print records with the same keys; `empty` says to people what it means that there is none."""
    if as_json:
        _print_json(list(rows))
    elif not rows:
        Console().print(empty, markup=False)
    else:
        table = Table(*rows[0].keys(), box=None, header_style="bold", pad_edge=False)
        for row in rows:
            table.add_row(*(_text(value) for value in row.values()))
        Console(soft_wrap=True).print(table)


def print_facts(facts: Mapping[str, Any], as_json: bool) -> None:
    """Print one record, a key per line."""
    if as_json:
        _print_json(dict(facts))
        return
    width = max((len(key) for key in facts), default=0)
    for key, value in facts.items():
        print_line(f"{key:<{width}}  {_text(value)}")


def print_line(text: str) -> None:
    """Print one line as it is; nothing in it is markup."""
    Console(soft_wrap=True).print(text, markup=False, highlight=False)


def print_settings(settings: BaseModel) -> None:
    """Print every setting to standard error, secrets hidden."""
    for key, value in setting_rows(settings):
        sys.stderr.write(f"{key} = {value}\n")


@contextmanager
def progress_bar(title: str, total: int) -> Iterator[Progress]:
    """Show a bar on standard error while work goes on; `advance(TASK)` moves it."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    # Standard error: `--json` keeps standard output for the facts.
    console = Console(stderr=True)
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as progress:
        progress.add_task(title, total=total)
        yield progress


def _print_json(value: Any) -> None:
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False, default=str)
    sys.stdout.write("\n")


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={_text(item)}" for key, item in value.items()) or "-"
    if isinstance(value, list | tuple):
        return ", ".join(_text(item) for item in value) or "-"
    return str(value)
