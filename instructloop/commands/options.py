"""Options that several subcommands share; knows no subcommand."""

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_DATA_DIR = Path("instructloop-data")

DataDir = Annotated[
    Path,
    typer.Option(
        "--data-dir",
        envvar="INSTRUCTLOOP_DATA_DIR",
        help="Spool, secrets and registry live under it.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print facts as JSON, for programs.")]


def require_data_dir(data_dir: Path) -> Path:
    """Return the directory.

    Raises:
        ValueError: it does not exist; a command that only reads must not make an empty one.
    """
    if not data_dir.is_dir():
        raise ValueError(
            f"data directory {data_dir} does not exist; name another with --data-dir, "
            "or start `instructloop serve` on this one first"
        )
    return data_dir


def subcommands(help_text: str) -> typer.Typer:
    """Return an empty group of subcommands."""
    return typer.Typer(help=help_text, no_args_is_help=True)


def example(text: str) -> str:
    """Return the line that every --help ends with."""
    return f"Example: instructloop {text}"
