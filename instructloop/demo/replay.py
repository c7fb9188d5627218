"""Replay served answers under every version: does each come from the version that it names?

    python -m instructloop.demo.replay DATA_DIR BASE MAX_CHOICES

The audit itself is the trainer's; here is chosen what it sees: the responses served closest to a
swap come first. A second copy of the base is held only while this runs.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import accumulate
from pathlib import Path

from feedback.events.completion import CompletionServed
from feedback.ingest import read_record
from feedback.registry import Registry
from feedback.spool import Spool
from instructloop.demo.processes import Tell
from instructloop.demo.scene import CHANNEL, Scene
from instructloop.demo.trainer_process import last_json

MODULE = "instructloop.demo.replay"


@dataclass(frozen=True, slots=True)
class Replay:
    """What was served and what the audit found.

    num_served, num_audited: answers, in all and replayed.
    num_mixed: those that the version they name cannot have sampled alone.
    num_inseparable: those whose version is too like another one to tell them apart.
    unaudited: answers that could not be judged, by reason.
    """

    num_served: int
    num_audited: int
    num_mixed: int
    num_inseparable: int
    mixed_choice_ids: tuple[str, ...]
    unaudited: dict[str, int]


async def replay(scene: Scene, tell: Tell) -> Replay:
    """Replay what this demo served, in a process of its own."""
    arguments = [str(scene.data_dir), scene.settings.base, str(scene.sizes.num_replayed)]
    process = await scene.processes.start("replay", MODULE, arguments)
    return Replay(**last_json(await process.finish(tell)))


def closest_to_a_swap(
    served: Iterable[tuple[datetime, CompletionServed]],
    swapped_at: Sequence[datetime],
    max_choices: int,
) -> list[CompletionServed]:
    """Keep the responses that a swap could have touched most likely.

    As many as have `max_choices` answers in all: a vote's response has four, a visitor's one.
    """

    def distance(response: tuple[datetime, CompletionServed]) -> float:
        return min((abs((response[0] - at).total_seconds()) for at in swapped_at), default=0.0)

    nearest = [completion for _, completion in sorted(served, key=distance)]
    choices = accumulate(len(completion.choices) for completion in nearest)
    return [near for near, total in zip(nearest, choices, strict=True) if total <= max_choices]


def audit(data_dir: Path, base: str, max_choices: int) -> Replay:
    """Read the record, load every version that it names, and replay."""
    from trainer.evaluations.replay_audit import audit_completions
    from trainer.workshop import Workshop

    with Spool.open_reader(data_dir / "spool.sqlite3") as spool:
        events = read_record(spool).events
    served = [(e.time, e.data) for e in events if isinstance(e.data, CompletionServed)]
    swapped_at = [entry.at for entry in Registry.open(data_dir).history(CHANNEL)]
    chosen = closest_to_a_swap(served, swapped_at, max_choices)
    workshop = Workshop.open(data_dir, base, "auto")
    base_id = workshop.loaded.description.adapter_id
    named = {choice.adapter_id for _, completion in served for choice in completion.choices}
    adapters = {
        adapter_id: None if adapter_id == base_id else workshop.loaded_adapter(adapter_id)
        for adapter_id in sorted(named)
    }
    found = audit_completions(workshop.model, adapters, chosen)
    return Replay(
        num_served=sum(len(completion.choices) for _, completion in served),
        num_audited=found.num_choices,
        num_mixed=found.num_mixed,
        num_inseparable=found.num_inseparable,
        mixed_choice_ids=found.mixed_choice_ids,
        unaudited=found.unaudited,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the process."""
    data_dir, base, max_choices = arguments if arguments is not None else sys.argv[1:]
    outcome = audit(Path(data_dir), base, int(max_choices))
    sys.stdout.write(json.dumps(asdict(outcome)) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
