"""The rows that training reads, and the manifest that accounts for every vote beside them.

It does not know how rows are chosen, split or stored.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from feedback.canonical_json import canonical_json

Split = Literal["train", "judge", "gate"]
"""`train`: reward model and PPO; `judge`: the judge alone; `gate`: what both are measured on."""


@dataclass(frozen=True, slots=True)
class DemonstrationRow:
    """An ideal answer written by a person. Messages are (role, content) pairs, None if raw."""

    event_id: str
    prompt_hash: str
    prompt_text: str
    prompt_messages: tuple[tuple[str, str], ...] | None
    completion_text: str
    kind: str
    use_case: str | None
    source: str
    split: Split


@dataclass(frozen=True, slots=True)
class RankedChoice:
    """A sampled answer as it was logged.

    `token_ids` are the [T] sampled ids with EOS, empty for imported text; `token_logprobs` [T] are
    in nats, None where unknown, of the kind that `logprobs_kind` names.
    """

    choice_id: str
    adapter_id: str
    text: str
    token_ids: tuple[int, ...]
    token_logprobs: tuple[float, ...] | None
    logprobs_kind: str
    is_on_policy: bool
    stop_reason: str
    num_visible_tokens: int


@dataclass(frozen=True, slots=True)
class RankingRow:
    """One vote: `tie_groups` hold indices into `choices`, best group first.

    Messages are (role, content) pairs, None if the prompt was raw. Prompts of one conversation
    (imports: one message tree) are turns of each other and not independent.
    """

    event_id: str
    vote_id: str
    ballot_id: str
    prompt_hash: str
    prompt_text: str
    prompt_token_ids: tuple[int, ...]
    use_case: str | None
    choices: tuple[RankedChoice, ...]
    tie_groups: tuple[tuple[int, ...], ...]
    voter: str
    voter_role: str
    source: str
    split: Split
    prompt_messages: tuple[tuple[str, str], ...] | None = None
    conversation_id: str | None = None


@dataclass(frozen=True, slots=True)
class PromptRow:
    """A prompt that may be sampled from, once per prompt_hash, of its first event by id."""

    event_id: str
    prompt_hash: str
    prompt_text: str
    prompt_token_ids: tuple[int, ...]
    use_case: str | None
    source: str
    split: Split
    prompt_messages: tuple[tuple[str, str], ...] | None = None


class RowCounts(BaseModel):
    """How many rows a split or a snapshot holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    demonstrations: int
    rankings: int
    prompts: int


class SnapshotManifest(BaseModel):
    """What a snapshot holds and what it left out, with reasons.

    Example: {"id": "snapshot-0123456789abcdef", "event_ids": ["..."], "votes_sent": 100,
    "counts": {"demonstrations": 60, "rankings": 96, "prompts": 96}, "excluded": {"aborted": 3},
    "unjoined": 1, "splits": {"train": {"demonstrations": 60, "rankings": 55, "prompts": 55}},
    "labelers_disjoint": true, "authors_disjoint": true, "simulated": true, "placebo": false}
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    event_ids: tuple[str, ...] = Field(description="the events that became rows, sorted")
    counts: RowCounts = Field(description="rows over all splits")
    votes_sent: int = Field(ge=0, description="distinct votes in the record")
    excluded: dict[str, int] = Field(description="votes left out, by named reason")
    unjoined: int = Field(ge=0, description="votes whose completion has not arrived yet")
    excluded_demonstrations: dict[str, int]
    splits: dict[Split, RowCounts]
    labelers_disjoint: bool = Field(description="no labeler ranked in two splits")
    authors_disjoint: bool = Field(description="no author wrote prompts in two splits")
    simulated: bool = Field(description="the data directory is marked as simulated")
    placebo: bool = Field(default=False, description="the rankings were permuted on purpose")
    base: dict[str, str] | None = Field(description="base_id, weights_hash and tokenizer_hash")
    settings: dict[str, Any] = Field(description="how it was made")

    @property
    def votes_in_dataset(self) -> int:
        """Votes that became rows."""
        return self.counts.rankings

    @property
    def votes_lost(self) -> int:
        """Votes that were sent and are nowhere; anything but 0 is a fault of ours."""
        return self.votes_sent - self.votes_in_dataset - sum(self.excluded.values()) - self.unjoined


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An immutable dataset; rows are sorted by event id."""

    manifest: SnapshotManifest
    demonstrations: tuple[DemonstrationRow, ...] = field(repr=False)
    rankings: tuple[RankingRow, ...] = field(repr=False)
    prompts: tuple[PromptRow, ...] = field(repr=False)

    @property
    def id(self) -> str:
        """The snapshot's id: "snapshot-" + 16 hex digits."""
        return self.manifest.id


def snapshot_id(
    demonstrations: Iterable[DemonstrationRow],
    rankings: Iterable[RankingRow],
    prompts: Iterable[PromptRow],
    *,
    is_placebo: bool,
) -> str:
    """Return the hash of the canonical rows sorted by event id (DESIGN 4.6).

    Neither the order of arrival nor the time of building can change it.
    """
    hasher = hashlib.sha256(canonical_json({"placebo": is_placebo}))
    tables: tuple[Iterable[DemonstrationRow | RankingRow | PromptRow], ...] = (
        demonstrations,
        rankings,
        prompts,
    )
    for rows in tables:
        hasher.update(b"\n")
        for row in sorted(rows, key=lambda row: row.event_id):
            hasher.update(b"\n" + canonical_json(asdict(row)))
    return f"snapshot-{hasher.hexdigest()[:16]}"
