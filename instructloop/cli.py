"""The `instructloop` command: assembles the subcommands and turns refusals into one clear line.

Does not know what a subcommand does; each imports its part when it runs, so that --help is fast
and needs no torch.
"""

import os
import sys
from collections.abc import Sequence

import typer

from instructloop.commands import (
    adapters,
    administration,
    datasets,
    demonstration,
    imports,
    serving,
    training,
)

app = typer.Typer(
    name="instructloop",
    help="A completions service whose model gets better from its users' rankings.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("demo", epilog=demonstration.EPILOG)(demonstration.demo)
app.command("serve", epilog=serving.EPILOG)(serving.serve)
app.add_typer(datasets.app, name="dataset")
app.add_typer(imports.app, name="import")
app.add_typer(training.app, name="train")
app.add_typer(adapters.app, name="adapters")
app.add_typer(administration.keys, name="keys")
app.add_typer(administration.schema, name="schema")
app.add_typer(administration.spool, name="spool")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command line (unset: the process's own); always ends in SystemExit.

    The status is 0 on success, 1 on a refusal, 2 on wrong usage, 130 on Ctrl-C.
    """
    try:
        app(arguments)
    except (ValueError, OSError) as error:
        # What a user can cause; anything else is our fault and keeps its traceback.
        if os.environ.get("INSTRUCTLOOP_DEBUG"):
            raise
        sys.stderr.write(f"error: {_one_line(error)}\n")
        sys.exit(1)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


if __name__ == "__main__":
    main()
