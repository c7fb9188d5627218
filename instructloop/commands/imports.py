"""`instructloop import ...`: human feedback that was collected elsewhere."""

from pathlib import Path
from typing import Annotated

import typer

from instructloop.commands.options import DEFAULT_DATA_DIR, AsJson, DataDir, example, subcommands

app = subcommands("Enter human feedback that was collected elsewhere.")


@app.command("oasst", epilog=example("import oasst rankings.jsonl demonstrations.jsonl"))
def oasst(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH...", help="rankings.jsonl and/or demonstrations.jsonl."),
    ],
    data_dir: DataDir = DEFAULT_DATA_DIR,
    as_json: AsJson = False,
) -> None:
    """Import OpenAssistant's K-way rankings and demonstrations; a second run adds nothing.

    Every file is read whole before the first event is written.
    """
    from feedback.imports.appending import append_events
    from feedback.imports.oasst import read_oasst
    from feedback.spool import Spool
    from instructloop.commands.output import print_facts, progress_bar

    events = [event for path in paths for event in read_oasst(path)]
    with (
        Spool.open(data_dir / "spool.sqlite3") as spool,
        progress_bar("importing", len(events)) as progress,
    ):
        counts = append_events(events, spool, lambda: progress.advance(progress.task_ids[0]))
    facts = {"events": len(events), **counts.num_new, "already_there": counts.num_known}
    print_facts(facts, as_json)
