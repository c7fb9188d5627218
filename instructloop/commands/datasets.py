"""`instructloop dataset ...`: from the record of events to an immutable snapshot."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from instructloop.commands.options import (
    DEFAULT_DATA_DIR,
    AsJson,
    DataDir,
    example,
    require_data_dir,
    subcommands,
)

if TYPE_CHECKING:
    from feedback.snapshot_rows import SnapshotManifest

app = subcommands("Build and look at the snapshots that training reads.")


@app.command("build", epilog=example("dataset build --data-dir DIR"))
def build(
    data_dir: DataDir = DEFAULT_DATA_DIR,
    split_seed: Annotated[
        int, typer.Option("--split-seed", help="Which prompts fall into which split.")
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Read every event and write what may train; every vote left out is counted by its reason.

    The same events give the same snapshot under the same id; running services are not disturbed.
    """
    from feedback.record_snapshot import snapshot_record
    from feedback.snapshots import SnapshotSettings
    from instructloop.commands.output import print_facts

    made = snapshot_record(require_data_dir(data_dir), SnapshotSettings(split_seed=split_seed))
    records = {"dead_letters": made.num_dead_letters, "parked": made.num_parked}
    manifest = made.snapshot.manifest
    print_facts({**_facts(manifest), **records}, as_json)
    if manifest.votes_lost:
        raise typer.Exit(1)


@app.command("show", epilog=example("dataset show snapshot-0123456789abcdef --data-dir DIR"))
def show(
    snapshot: Annotated[
        str | None, typer.Argument(metavar="[SNAPSHOT]", help="Unset: list every snapshot.")
    ] = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    as_json: AsJson = False,
) -> None:
    """Show what a snapshot holds and which votes it left out, or list all snapshots."""
    from feedback.snapshots import load_snapshot, snapshot_path
    from instructloop.commands.output import print_facts, print_rows

    if snapshot is not None:
        path = snapshot_path(require_data_dir(data_dir), snapshot)
        print_facts(_facts(load_snapshot(path).manifest), as_json)
        return
    paths = sorted((require_data_dir(data_dir) / "snapshots").glob("snapshot-*"))
    rows = [_summary(path) for path in paths]
    print_rows(rows, as_json, empty="There is no snapshot yet; `dataset build` makes one.")


def _summary(path: Path) -> Mapping[str, Any]:
    from feedback.snapshots import load_snapshot

    manifest = load_snapshot(path).manifest
    return {"id": manifest.id, **manifest.counts.model_dump(), "simulated": manifest.simulated}


def _facts(manifest: "SnapshotManifest") -> Mapping[str, Any]:
    votes = {
        "votes_sent": manifest.votes_sent,
        "votes_in_dataset": manifest.votes_in_dataset,
        "votes_excluded": manifest.excluded,
        "votes_unjoined": manifest.unjoined,
        "votes_lost": manifest.votes_lost,
    }
    shown = manifest.model_dump(
        mode="json", exclude={"event_ids", "votes_sent", "excluded", "unjoined"}
    )
    return {**shown, **votes}
