"""Build an immutable dataset from the fold of all events, and its placebo.

It does not know how events arrived, nor how the rows are trained on.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from feedback.base_description import read_base_description
from feedback.events.envelope import Event
from feedback.events.ranking import RankingSubmitted
from feedback.projection import Projection
from feedback.snapshot_files import load_manifest, load_snapshot, snapshot_path, write_snapshot
from feedback.snapshot_rows import (
    DemonstrationRow,
    PromptRow,
    RankingRow,
    RowCounts,
    Snapshot,
    SnapshotManifest,
    Split,
    snapshot_id,
)
from feedback.snapshot_selection import (
    Eligibility,
    Selection,
    demonstration_row,
    prompt_row,
    ranking_row,
    select,
)
from feedback.splits import SplitPlan, plan_splits

__all__ = [
    "SnapshotSettings",
    "build_snapshot",
    "count_votes_sent",
    "load_manifest",
    "load_snapshot",
    "permute_rankings",
    "snapshot_path",
    "write_snapshot",
]

SIMULATED_MARKER = "simulated"


class SnapshotSettings(BaseModel):
    """How rankings are divided."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shares: dict[Split, float] = Field(
        default={"train": 0.55, "judge": 0.25, "gate": 0.20},
        description="part of the rankings per split; they sum to 1",
    )
    split_seed: int = Field(default=0, description="which prompts fall into which split")

    @model_validator(mode="after")
    def _sums_to_one(self) -> "SnapshotSettings":
        if set(self.shares) != {"train", "judge", "gate"} or min(self.shares.values()) < 0:
            raise ValueError("shares must name train, judge and gate, none negative.")
        if abs(sum(self.shares.values()) - 1) > 1e-6:
            raise ValueError(f"shares sum to {sum(self.shares.values())}; make them sum to 1.")
        return self


def count_votes_sent(events: Iterable[Event]) -> int:
    """Count the distinct votes in the record, without the fold, so that a loss would show."""
    return len({event.data.vote_id for event in events if isinstance(event.data, RankingSubmitted)})


def build_snapshot(
    projection: Projection,
    data_dir: Path,
    settings: SnapshotSettings | None = None,
    *,
    votes_sent: int | None = None,
) -> Snapshot:
    """Select, split and write what may train; return it.

    The same rows give the same id, whatever the order of arrival and whenever it is built. A
    snapshot that exists is left as it is.

    Args:
        projection: the fold of all events.
        data_dir: the data directory; its base and its mark `simulated` decide what may train.
        settings: the shares of the splits; the defaults if None.
        votes_sent: distinct votes by `count_votes_sent`; if None, by the projection.
    """
    settings = settings or SnapshotSettings()
    base = _bound_base(data_dir)
    eligibility = Eligibility(
        is_simulated=(data_dir / SIMULATED_MARKER).exists(),
        tokenizer_hash=base["tokenizer_hash"] if base else None,
    )
    selection = select(projection, eligibility)
    plan = plan_splits(selection.prompt_uses(), settings.shares, settings.split_seed)
    demonstrations, rankings, prompts = _rows(selection, plan)
    event_ids = {row.event_id for row in demonstrations}
    event_ids |= {row.event_id for row in rankings} | {row.event_id for row in prompts}
    manifest = SnapshotManifest(
        id=snapshot_id(demonstrations, rankings, prompts, is_placebo=False),
        event_ids=tuple(sorted(event_ids)),
        counts=RowCounts(
            demonstrations=len(demonstrations), rankings=len(rankings), prompts=len(prompts)
        ),
        votes_sent=projection.num_votes_sent if votes_sent is None else votes_sent,
        excluded=selection.excluded_votes,
        unjoined=len(projection.unjoined),
        excluded_demonstrations=selection.excluded_demonstrations,
        splits=_count_by_split(settings.shares, demonstrations, rankings, prompts),
        labelers_disjoint=plan.labelers_disjoint,
        authors_disjoint=plan.authors_disjoint,
        simulated=eligibility.is_simulated,
        base=base,
        settings=settings.model_dump(mode="json"),
    )
    snapshot = Snapshot(manifest, demonstrations, rankings, prompts)
    write_snapshot(snapshot, data_dir)
    return snapshot


def permute_rankings(snapshot: Snapshot, seed: int) -> Snapshot:
    """Return the placebo: each ranking's places are dealt to its answers at random.

    Texts, tie sizes and splits stay, so that whatever a reward model still learns is not
    preference. It is not written; it has an id of its own and a manifest that says `placebo`.
    """
    rankings = tuple(
        replace(row, tie_groups=_deal(row, np.random.default_rng([seed, number])))
        for number, row in enumerate(snapshot.rankings)
    )
    manifest = snapshot.manifest.model_copy(
        update={
            "id": snapshot_id(snapshot.demonstrations, rankings, snapshot.prompts, is_placebo=True),
            "placebo": True,
            "settings": snapshot.manifest.settings
            | {"permuted_from": snapshot.id, "permutation_seed": seed},
        }
    )
    return replace(snapshot, manifest=manifest, rankings=rankings)


def _rows(
    selection: Selection, plan: SplitPlan
) -> tuple[tuple[DemonstrationRow, ...], tuple[RankingRow, ...], tuple[PromptRow, ...]]:
    """Return the rows of the selection, each table sorted by event id."""
    demonstrations = [demonstration_row(recorded, plan) for recorded in selection.demonstrations]
    rankings = [ranking_row(vote, plan) for vote in selection.votes]
    prompts = [prompt_row(recorded, plan) for recorded in selection.completions]
    return (
        tuple(sorted(demonstrations, key=lambda row: row.event_id)),
        tuple(sorted(rankings, key=lambda row: row.event_id)),
        tuple(sorted(prompts, key=lambda row: row.event_id)),
    )


def _count_by_split(
    splits: Iterable[Split],
    demonstrations: Sequence[DemonstrationRow],
    rankings: Sequence[RankingRow],
    prompts: Sequence[PromptRow],
) -> Mapping[Split, RowCounts]:
    held = [Counter(row.split for row in rows) for rows in (demonstrations, rankings, prompts)]
    return {
        split: RowCounts(
            demonstrations=held[0][split], rankings=held[1][split], prompts=held[2][split]
        )
        for split in splits
    }


def _bound_base(data_dir: Path) -> dict[str, str] | None:
    """Return the identity of the base that the directory is bound to, if it is."""
    path = data_dir / "base.json"
    if not path.is_file():
        return None
    base = read_base_description(path)
    return base.model_dump(include={"base_id", "weights_hash", "tokenizer_hash"})


def _deal(row: RankingRow, generator: np.random.Generator) -> tuple[tuple[int, ...], ...]:
    dealt: list[int] = generator.permutation(len(row.choices)).tolist()
    return tuple(tuple(sorted(dealt[place] for place in group)) for group in row.tie_groups)
