"""The page of commands, generated: `python -m instructloop.commands_page docs/commands.md`.

Does not know any command; it walks the tree that the command line is made of.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from instructloop.cli import app

HEAD = """\
# Commands

Generated from the `--help` texts by `make docs`; a test fails when this page drifts.

Exit status: 0 on success, 1 on a refusal (one line on standard error says why; `INSTRUCTLOOP_DEBUG=1` shows the traceback), 2 on wrong usage, 130 on Ctrl-C.
"""  # noqa: E501 - one paragraph, one line: Markdown


def commands_page() -> str:
    """Return the whole Markdown page."""
    return HEAD + "".join(_sections(typer.main.get_command(app), "instructloop"))


# typer carries its own copy of click, whose classes it does not export: hence Any.
def _sections(command: Any, name: str) -> Iterator[str]:
    children = getattr(command, "commands", None)
    if children is None:
        example = command.epilog.removeprefix("Example: ")
        yield f"\n## {name}\n{command.help}\n\n```\n{example}\n```\n"
        yield from _parameters(command)
        return
    for child in children:
        yield from _sections(children[child], f"{name} {child}")


def _parameters(command: Any) -> Iterator[str]:
    rows = [_row(parameter) for parameter in command.params if parameter.name != "help"]
    if rows:
        yield "\n| argument or option | default | meaning |\n|---|---|---|\n"
        yield from rows


def _row(parameter: Any) -> str:
    is_option = parameter.param_type_name == "option"
    name = ", ".join(parameter.opts) if is_option else parameter.metavar or parameter.name
    if parameter.required:
        default = "required"
    else:
        default = "" if parameter.default in (None, False, "") else f"`{parameter.default}`"
    return f"| `{name}` | {default} | {parameter.help} |\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(commands_page(), encoding="utf-8")
