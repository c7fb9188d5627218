"""Replay served answers under every version: does each come from the version that it names?

    python -m instructloop.demo.replay DATA_DIR BASE MAX_ANSWERS

The record holds each sampled token with the log-probability that the decoder gave it. Scored anew,
the tokens must fit the named version best, and fit it within rounding: an answer that went over
from one version to another in the middle fits none. Answers served closest to a swap come first. A
second copy of the base is held only while this runs.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from feedback.events.completion import Choice, CompletionServed
from feedback.ingest import read_record
from feedback.spool import Spool
from instructloop.demo.processes import Tell
from instructloop.demo.scene import CHANNEL, Scene
from instructloop.demo.trainer_process import last_json

if TYPE_CHECKING:
    from trainer.workshop import Workshop

MODULE = "instructloop.demo.replay"
# bfloat16 moves a token's log-probability by a few hundredths on average; another version by more.
MAX_MEAN_GAP_NATS = 0.25


@dataclass(frozen=True, slots=True)
class Served:
    """One whole served answer as the record has it."""

    prompt_ids: tuple[int, ...]
    choice: Choice
    at: datetime


@dataclass(frozen=True, slots=True)
class Replay:
    """How many answers were served and replayed, and which fit another version better."""

    num_served: int
    num_audited: int
    num_mixed: int
    mixed_choice_ids: tuple[str, ...]


async def replay(scene: Scene, tell: Tell) -> Replay:
    """Replay what this demo served, in a process of its own."""
    arguments = [str(scene.data_dir), scene.settings.base, str(scene.sizes.num_replayed)]
    process = await scene.processes.start("replay", MODULE, arguments)
    return Replay(**last_json(await process.finish(tell)))


def closest_to_a_swap(
    served: Iterable[Served], swapped_at: Sequence[datetime], max_answers: int
) -> list[Served]:
    """Keep the answers that a swap could have touched most likely."""

    def distance(answer: Served) -> float:
        return min((abs((answer.at - at).total_seconds()) for at in swapped_at), default=0.0)

    return sorted(served, key=distance)[:max_answers]


def fits_best(named: str, logged: Sequence[float], scored: Mapping[str, Sequence[float]]) -> bool:
    """Say whether an answer's log-probabilities are those of the version that it names.

    Args:
        named: the version in the record.
        logged: of each token, by the decoder.
        scored: of each token, anew, by version.
    """
    gaps = {
        adapter: fmean(abs(a - b) for a, b in zip(logged, again, strict=True))
        for adapter, again in scored.items()
    }
    return gaps[named] <= MAX_MEAN_GAP_NATS and gaps[named] == min(gaps.values())


def audit(data_dir: Path, base: str, max_answers: int) -> Replay:
    """Read the record, load every version that it names, and replay."""
    from trainer.workshop import Workshop

    served = _served(data_dir)
    workshop = Workshop.open(data_dir, base, "auto")
    swapped_at = [entry.at for entry in workshop.registry.history(CHANNEL)]
    chosen = closest_to_a_swap(served, swapped_at, max_answers)
    adapters = sorted({answer.choice.adapter_id for answer in chosen})
    scored = {adapter: _score(workshop, adapter, chosen) for adapter in adapters}
    mixed = [
        answer.choice.choice_id
        for number, answer in enumerate(chosen)
        if not fits_best(
            answer.choice.adapter_id,
            answer.choice.token_logprobs or (),
            {adapter: by_answer[number] for adapter, by_answer in scored.items()},
        )
    ]
    return Replay(len(served), len(chosen), len(mixed), tuple(mixed))


def _served(data_dir: Path) -> list[Served]:
    with Spool.open_reader(data_dir / "spool.sqlite3") as spool:
        events = read_record(spool).events
    return [
        Served(event.data.prompt.token_ids, choice, event.time)
        for event in events
        if isinstance(event.data, CompletionServed) and event.data.prompt is not None
        for choice in event.data.choices
        if choice.delivery == "complete" and choice.token_logprobs
    ]


def _score(workshop: Workshop, adapter_id: str, answers: Sequence[Served]) -> list[list[float]]:
    from trainer.answer_likelihood import answer_logprobs
    from trainer.transcripts import Transcript

    is_base = adapter_id == workshop.loaded.description.adapter_id
    name = None if is_base else workshop.loaded_adapter(adapter_id)
    transcripts = [Transcript(answer.prompt_ids, answer.choice.token_ids) for answer in answers]
    return answer_logprobs(workshop.model, name, transcripts)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the process."""
    data_dir, base, max_answers = arguments if arguments is not None else sys.argv[1:]
    outcome = audit(Path(data_dir), base, int(max_answers))
    sys.stdout.write(json.dumps(asdict(outcome)) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
