"""`instructloop serve`: settings from file, variables and flags, then the composed service."""

from pathlib import Path
from typing import Annotated

import typer

from instructloop.commands.options import example

EPILOG = example("serve --host 127.0.0.1 --port 8000 --data-dir DIR")


def serve(
    host: Annotated[
        str | None,
        typer.Option("--host", help="Address to listen on; other than loopback needs a key first."),
    ] = None,
    port: Annotated[
        int | None, typer.Option("--port", help="TCP port; 0 takes a free one.")
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option("--data-dir", help="Spool, secrets and registry live under it."),
    ] = None,
    base: Annotated[
        str | None, typer.Option("--base", help="`smollm2`, a model directory or a hub id.")
    ] = None,
    channel: Annotated[
        str | None, typer.Option("--channel", help="Channel served by default.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="TOML file; docs/settings.md lists its keys.")
    ] = None,
) -> None:
    """Serve completions and take votes; no configuration is needed on loopback."""
    from instructloop.settings import load_settings

    flags = {"host": host, "port": port, "data_dir": data_dir, "base": base, "channel": channel}
    settings = load_settings(config, flags)

    from instructloop.commands.output import print_settings
    from instructloop.serve import run

    print_settings(settings)
    run(settings)
