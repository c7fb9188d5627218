"""Score served answers by the reward model and by the bare base, in a process of its own.

    python -m instructloop.demo.scoring REQUEST.json

A second copy of the base is held only while this runs. Answers are found in the record by their
choice ids: what was sampled is scored, nothing is tokenized again. The last line printed is the
JSON of `Scores`. It knows no preference and no judge.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from feedback.events.completion import CompletionServed
from feedback.ingest import read_record
from feedback.spool import Spool

if TYPE_CHECKING:
    from trainer.evaluations.replay_audit import ServedChoice

MODULE = "instructloop.demo.scoring"


@dataclass(frozen=True, slots=True)
class ScoringRequest:
    """What to score. Choice ids in `rewarded` get a reward, those in `weighed` a likelihood."""

    data_dir: str
    base: str
    reward_adapter: str
    rewarded: tuple[str, ...]
    weighed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Scores:
    """Results by choice id.

    rewards: the reward model's scalar.
    base_nats: negative log-likelihood of the answer under the bare base, per token, EOS included.
    """

    rewards: dict[str, float]
    base_nats: dict[str, float]


def score(request: ScoringRequest) -> Scores:
    """Load the base and the reward model and score.

    Raises:
        ValueError: a choice is not in the record.
    """
    from trainer.evaluations.replay_audit import rescore
    from trainer.packing import Transcript
    from trainer.workshop import Workshop

    found = served_choices(Path(request.data_dir), {*request.rewarded, *request.weighed})
    workshop = Workshop.open(Path(request.data_dir), request.base, "auto")
    rewarded = [found[choice_id] for choice_id in request.rewarded]
    rewards = workshop.reward_model(request.reward_adapter).scores(
        [Transcript(choice.prompt_ids, choice.token_ids) for choice in rewarded]
    )
    weighed = [found[choice_id] for choice_id in request.weighed]
    rescored = rescore(workshop.model, {"base": None}, weighed)
    nats = [-float(of_answer["base"].mean()) for of_answer in rescored]
    return Scores(
        rewards=dict(zip(request.rewarded, rewards.tolist(), strict=True)),
        base_nats=dict(zip(request.weighed, nats, strict=True)),
    )


def served_choices(data_dir: Path, choice_ids: Iterable[str]) -> Mapping[str, ServedChoice]:
    """Return served choices from the record, by id.

    Raises:
        ValueError: one is not there.
    """
    from trainer.evaluations.replay_audit import ServedChoice

    wanted = set(choice_ids)
    with Spool.open_reader(data_dir / "spool.sqlite3") as spool:
        events = read_record(spool).events
    served = [event.data for event in events if isinstance(event.data, CompletionServed)]
    found = {
        choice.choice_id: ServedChoice(
            choice_id=choice.choice_id,
            adapter_id=choice.adapter_id,
            prompt_ids=completion.prompt.token_ids,
            token_ids=choice.token_ids,
            logprobs=choice.token_logprobs or (),
            dtype=completion.engine.dtype,
        )
        for completion in served
        for choice in completion.choices
        if choice.choice_id in wanted and completion.prompt is not None
    }
    if missing := wanted - found.keys():
        raise ValueError(f"{len(missing)} choices are not in the record, e.g. {min(missing)}")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the process."""
    (path,) = arguments if arguments is not None else sys.argv[1:]
    scores = score(ScoringRequest(**json.loads(Path(path).read_text("utf-8"))))
    sys.stdout.write(json.dumps(asdict(scores)) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
