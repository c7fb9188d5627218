"""`instructloop keys|schema|spool ...`: small tasks of whoever runs a service."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from instructloop.commands.options import DEFAULT_DATA_DIR, AsJson, DataDir, example, subcommands

keys = subcommands("API keys: a file of hashes, read again by a running service when it changes.")
schema = subcommands("The contracts of the events.")
spool = subcommands("Care for the spool, the record of every event.")


class Role(StrEnum):
    """What a key may do."""

    client = "client"
    labeler = "labeler"
    admin = "admin"


@keys.command("create", epilog=example("keys create --role client --data-dir DIR"))
def create(
    role: Annotated[Role, typer.Option("--role", help="What the key may do.")],
    data_dir: DataDir = DEFAULT_DATA_DIR,
    keys_file: Annotated[
        Path | None, typer.Option("--keys-file", help="Unset: keys.json under the data directory.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Create an API key; it is shown once, only its hash is kept."""
    from instructloop.commands.output import print_facts
    from service.access import create_key

    path = keys_file or data_dir / "keys.json"
    key_id, secret = create_key(path, role.value)
    print_facts({"key_id": key_id, "role": role.value, "key": secret, "file": str(path)}, as_json)


@schema.command("export", epilog=example("schema export --dir schemas"))
def export(
    directory: Annotated[Path, typer.Option("--dir", help="Where the files go.")],
    as_json: AsJson = False,
) -> None:
    """Write the JSON Schema of every event type."""
    from feedback.schema_export import export as export_schemas
    from instructloop.commands.output import print_facts

    print_facts({"files": [str(path) for path in export_schemas(directory)]}, as_json)


@spool.command("salvage", epilog=example("spool salvage MOVED/spool.sqlite3 --data-dir DIR"))
def salvage(
    damaged: Annotated[
        Path,
        typer.Argument(metavar="DAMAGED", help="The spool file, moved aside with its -wal."),
    ],
    data_dir: DataDir = DEFAULT_DATA_DIR,
    as_json: AsJson = False,
) -> None:
    """Bring every readable event of a damaged spool into the one of the data directory."""
    from feedback.spool import Spool
    from feedback.spool_salvage import salvage as salvage_events
    from instructloop.commands.output import print_facts

    target = data_dir / "spool.sqlite3"
    if not damaged.is_file() or damaged.resolve() == target.resolve():
        raise ValueError(f"{damaged} must be the damaged file, moved out of {data_dir}")
    with Spool.open(target) as into:
        outcome = salvage_events(damaged, into)
    facts = {"recovered": outcome.num_recovered, "lost_sequences": list(outcome.lost_sequences)}
    print_facts(facts, as_json)
