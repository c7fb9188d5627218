"""What became of the labelers' votes: sent = in the dataset + excluded by reason + waiting + lost.

`sent` is the labelers' own count of acknowledged votes, so a vote that the service acknowledged
and then lost shows. It knows no preference.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from feedback.record_snapshot import snapshot_record


@dataclass(frozen=True, slots=True)
class VoteAccount:
    """Counts of votes; `excluded` is by reason."""

    sent: int
    in_dataset: int
    excluded: dict[str, int]
    unjoined: int

    @property
    def lost(self) -> int:
        """Acknowledged votes that are nowhere."""
        return self.sent - self.in_dataset - sum(self.excluded.values()) - self.unjoined


def count_votes(data_dir: Path, num_acknowledged: int) -> VoteAccount:
    """Build the snapshot that a refresh would train on now and account for every vote."""
    manifest = snapshot_record(data_dir).snapshot.manifest
    return VoteAccount(
        sent=num_acknowledged,
        in_dataset=manifest.votes_in_dataset,
        excluded=manifest.excluded,
        unjoined=manifest.unjoined,
    )
