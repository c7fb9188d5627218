"""`instructloop adapters ...`: look at the registry and move its channels."""

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
    from feedback.registry import Registry

app = subcommands("List, publish, promote, roll back and verify adapters.")

Adapter = Annotated[str, typer.Argument(metavar="ADAPTER", help="An adapter id: KIND-16 hex.")]
Channel = Annotated[str, typer.Argument(metavar="CHANNEL", help="A channel, such as `stable`.")]
Actor = Annotated[str, typer.Option("--by", help="Who does it, for the channel's history.")]


@app.command("list", epilog=example("adapters list --data-dir DIR"))
def list_adapters(data_dir: DataDir = DEFAULT_DATA_DIR, as_json: AsJson = False) -> None:
    """List published adapters and the channels that serve them."""
    from instructloop.commands.output import print_rows

    registry = _open(data_dir)
    serving = _channels_by_adapter(registry)
    rows = [
        {
            "adapter_id": adapter_id,
            "channels": serving.get(adapter_id, []),
            "snapshot_id": (manifest := registry.adapter(adapter_id).manifest).snapshot_id,
            "simulated": manifest.simulated,
        }
        for adapter_id in registry.list_adapters()
    ]
    print_rows(rows, as_json, empty="No adapter is published yet; `train` publishes them.")


@app.command("show", epilog=example("adapters show ppo-0123456789abcdef --data-dir DIR"))
def show(adapter: Adapter, data_dir: DataDir = DEFAULT_DATA_DIR, as_json: AsJson = False) -> None:
    """Show where an adapter came from, its verdicts and its channels."""
    from instructloop.commands.output import print_facts

    registry = _open(data_dir)
    files = registry.adapter(adapter)
    verdicts = {name: registry.verdict(adapter, name) for name in ("offline", "live")}
    facts = {
        "adapter_id": adapter,
        "channels": _channels_by_adapter(registry).get(adapter, []),
        "path": str(files.path),
        **files.manifest.model_dump(mode="json"),
        "verdicts": {name: verdict for name, verdict in verdicts.items() if verdict},
    }
    print_facts(facts, as_json)


@app.command("history", epilog=example("adapters history stable --data-dir DIR"))
def history(
    channel: Channel, data_dir: DataDir = DEFAULT_DATA_DIR, as_json: AsJson = False
) -> None:
    """Show everything that a channel has served, oldest first."""
    from instructloop.commands.output import print_rows

    entries = [entry.model_dump(mode="json") for entry in _open(data_dir).history(channel)]
    print_rows(entries, as_json, empty=f"Channel {channel} has served nothing yet.")


@app.command("publish", epilog=example("adapters publish PEFT_DIR --kind sft --data-dir DIR"))
def publish(
    directory: Annotated[Path, typer.Argument(metavar="PEFT_DIR", help="As PEFT saves it.")],
    kind: Annotated[str, typer.Option("--kind", help="sft, init, rm, value or ppo.")],
    data_dir: DataDir = DEFAULT_DATA_DIR,
    as_json: AsJson = False,
) -> None:
    """Publish an adapter that was trained elsewhere on this base."""
    import shutil

    from feedback.adapter_files import ADAPTER_KINDS, AdapterManifest
    from instructloop.commands.output import print_facts

    known_kind = next((known for known in ADAPTER_KINDS if known == kind), None)
    if known_kind is None:
        raise ValueError(f"kind {kind!r} is unknown; use one of {', '.join(ADAPTER_KINDS)}")
    if not directory.is_dir():
        raise ValueError(f"{directory} is not a directory; give the one that PEFT saved")
    registry = _open(data_dir)
    base = registry.base()
    manifest = AdapterManifest(
        base_id=base.base_id,
        weights_hash=base.weights_hash,
        tokenizer_hash=base.tokenizer_hash,
        training={"published_from": directory.name},
    )

    def copy_into(staging: Path) -> None:
        shutil.copytree(directory, staging, dirs_exist_ok=True, symlinks=True)

    print_facts({"adapter_id": registry.publish(known_kind, copy_into, manifest)}, as_json)


@app.command(
    "promote",
    epilog=example("adapters promote stable ppo-0123456789abcdef --reason TEXT --data-dir DIR"),
)
def promote(
    channel: Channel,
    adapter: Adapter,
    reason: Annotated[str, typer.Option("--reason", help="Why, for the history.")] = "",
    by: Actor = "command line",
    data_dir: DataDir = DEFAULT_DATA_DIR,
    as_json: AsJson = False,
) -> None:
    """Validate an adapter, then let a channel serve it; running services notice and swap."""
    from instructloop.commands.output import print_facts

    entry = _open(data_dir).promote(channel, adapter, by, reason)
    print_facts({"channel": channel, **entry.model_dump(mode="json")}, as_json)


@app.command("rollback", epilog=example("adapters rollback stable --reason TEXT --data-dir DIR"))
def rollback(
    channel: Channel,
    reason: Annotated[str, typer.Option("--reason", help="Why, for the history.")],
    by: Actor = "command line",
    data_dir: DataDir = DEFAULT_DATA_DIR,
    as_json: AsJson = False,
) -> None:
    """Let a channel serve what it served before."""
    from instructloop.commands.output import print_facts

    entry = _open(data_dir).rollback(channel, by, reason)
    print_facts({"channel": channel, **entry.model_dump(mode="json")}, as_json)


@app.command("verify", epilog=example("adapters verify --data-dir DIR"))
def verify(
    adapters: Annotated[
        list[str] | None, typer.Argument(metavar="[ADAPTER]...", help="Unset: every adapter.")
    ] = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    as_json: AsJson = False,
) -> None:
    """Rehash adapters; exit with 1 when one is not what its name says."""
    from instructloop.commands.output import print_rows

    registry = _open(data_dir)
    rows = [_verified(registry, name) for name in adapters or registry.list_adapters()]
    print_rows(rows, as_json, empty="No adapter is published yet; there is nothing to verify.")
    if any(not row["is_intact"] for row in rows):
        raise typer.Exit(1)


def _open(data_dir: Path) -> "Registry":
    from feedback.registry import Registry

    return Registry.open(require_data_dir(data_dir))


def _verified(registry: "Registry", adapter_id: str) -> dict[str, Any]:
    try:
        registry.verify(adapter_id)
    except ValueError as error:
        return {"adapter_id": adapter_id, "is_intact": False, "reason": str(error)}
    return {"adapter_id": adapter_id, "is_intact": True, "reason": None}


def _channels_by_adapter(registry: "Registry") -> dict[str, list[str]]:
    serving: dict[str, list[str]] = {}
    for channel in registry.list_channels():
        serving.setdefault(registry.current(channel).adapter_id, []).append(channel)
    return serving
