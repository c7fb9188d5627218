"""Say by channel which published adapter is served, and ask for proof before that changes.

Everything lives in one data directory (DESIGN 4.4). It knows no engine and no training; what an
engine must refuse is decided in adapter_validation.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from feedback import verdict_files
from feedback.adapter_files import SCORING_KINDS, AdapterRefused, is_base_adapter_id, kind_of
from feedback.adapter_store import AdapterStore
from feedback.adapter_validation import validate_adapter
from feedback.base_description import BaseDescription, read_base_description
from feedback.canonical_json import readable_json
from feedback.channels import ChannelEntry, ChannelError, ChannelLog, channel_names
from feedback.durable_files import create_exclusively

# Which verdict a channel asks for; an admin's reason can stand in for the live one.
_VERDICT_OF_CHANNEL = {"candidate": "offline", "stable": "live"}


class Registry(AdapterStore):
    """The adapters, channels, cards and verdicts of one data directory."""

    def __init__(self, data_dir: Path, *, max_rank: int) -> None:
        super().__init__(data_dir)
        self._max_rank = max_rank

    @classmethod
    def open(cls, data_dir: Path, *, max_rank: int = 64) -> "Registry":
        """Open (and lay out, where new) the registry under `data_dir`.

        Args:
            data_dir: the data directory.
            max_rank: the largest LoRA rank that `promote` lets through.
        """
        for name in ("adapters", "channels", "snapshots", "cards", "verdicts", "incoming"):
            (data_dir / name).mkdir(parents=True, exist_ok=True)
        return cls(data_dir, max_rank=max_rank)

    @property
    def snapshots_directory(self) -> Path:
        """Where snapshots are published."""
        return self.data_dir / "snapshots"

    def bind_base(self, description: BaseDescription) -> None:
        """Bind the directory to one base; the first call also makes it sequence 0 of `stable`.

        Raises ValueError when the directory is bound to another base.
        """
        payload = readable_json(description.model_dump(mode="json"))
        create_exclusively(self.data_dir / "base.json", payload)
        bound = self.base()
        differing = bound.differences(description)
        if differing:
            raise ValueError(
                f"This data directory belongs to base {bound.base_id} ({bound.weights_hash}),"
                f" not {description.base_id} ({description.weights_hash}): {', '.join(differing)}"
                " differ; serve the first one or take another data directory."
            )
        self._channel("stable").create(0, bound.adapter_id, "instructloop", "the base model")

    def base(self) -> BaseDescription:
        """Return the base that the directory is bound to.

        Raises ValueError when none is.
        """
        path = self.data_dir / "base.json"
        if not path.exists():
            raise ValueError("This data directory has no base yet; start the service on it first.")
        return read_base_description(path)

    def list_channels(self) -> list[str]:
        """Return the names of all channels that name an adapter, sorted."""
        return channel_names(self.data_dir / "channels")

    def current(self, channel: str) -> ChannelEntry:
        """Return what a channel names now.

        Raises ChannelError when it names nothing.
        """
        return self._channel(channel).current()

    def history(self, channel: str) -> list[ChannelEntry]:
        """Return all that a channel has named, oldest first: its audit."""
        return self._channel(channel).history()

    def promote(self, channel: str, adapter_id: str, by: str, reason: str) -> ChannelEntry:
        """Validate an adapter, ask for its proof, then make it the channel's current one.

        `candidate` needs an offline verdict that passed; `stable` a live one or a non-empty
        reason; other channels a non-empty reason.

        Raises AdapterRefused and leaves the channel as it is.
        """
        log = self._channel(channel)
        self._require_servable(adapter_id)
        self._require_proof(channel, adapter_id, reason)
        return log.append(adapter_id, by, reason.strip())

    def rollback(self, channel: str, by: str, reason: str) -> ChannelEntry:
        """Return the channel to the last adapter that differs from its current one.

        Raises ChannelError when there is none, ValueError without a reason.
        """
        if not reason.strip():
            raise ValueError("A rollback needs a reason; say in `reason` why it is done.")
        log = self._channel(channel)
        current = log.current().adapter_id
        earlier = [entry for entry in log.history() if entry.adapter_id != current]
        if not earlier:
            raise ChannelError(f"Channel {channel!r} never named another adapter to return to.")
        # What was served before needs no new proof, but its files must still be whole.
        self._require_servable(earlier[-1].adapter_id)
        return log.append(earlier[-1].adapter_id, by, f"rollback: {reason.strip()}")

    def write_verdict(self, adapter_id: str, name: str, verdict: Mapping[str, Any]) -> None:
        """Write verdicts/<adapter_id>/<name>.json; a later evaluation replaces an earlier one.

        Raises ValueError unless the adapter is published and `verdict` has the boolean `passed`.
        """
        self.adapter(adapter_id)
        verdict_files.write_verdict(self._verdict_path(adapter_id, name), verdict)

    def verdict(self, adapter_id: str, name: str) -> dict[str, Any] | None:
        """Return a verdict, or None when the adapter has not been judged by that name."""
        return verdict_files.read_verdict(self._verdict_path(adapter_id, name))

    def write_card(self, card_id: str, files: Mapping[str, bytes]) -> Path:
        """Write the directory cards/<card_id>/ whole; a card is never changed afterwards.

        Raises ValueError for names with a path in them, and for a card_id that other content has.
        """
        cards = self.data_dir / "cards"
        return verdict_files.write_card(cards, card_id, files, self.incoming_directory)

    def _channel(self, name: str) -> ChannelLog:
        return ChannelLog(self.data_dir / "channels", name)

    def _verdict_path(self, adapter_id: str, name: str) -> Path:
        kind_of(adapter_id)  # refuses anything that is not an id before it is a path
        file_name = verdict_files.verdict_file_name(name)
        return self.data_dir / "verdicts" / adapter_id / file_name

    def _require_servable(self, adapter_id: str) -> None:
        base = self.base()
        if adapter_id == base.adapter_id:
            return
        if is_base_adapter_id(adapter_id):
            message = f"{adapter_id} is another base than {base.adapter_id}; promote this one."
            raise AdapterRefused("base_mismatch", message)
        files = self.adapter(adapter_id)
        if files.kind in SCORING_KINDS:
            message = f"{adapter_id} scores text and cannot answer; promote an sft or ppo adapter."
            raise AdapterRefused("not_servable", message)
        validate_adapter(files, base, max_rank=self._max_rank)

    def _require_proof(self, channel: str, adapter_id: str, reason: str) -> None:
        name = _VERDICT_OF_CHANNEL.get(channel)
        if name and self._has_passed(adapter_id, name):
            return
        if channel == "candidate":
            message = f"{adapter_id} has no passed offline verdict; run the gate on it first."
            raise AdapterRefused("no_verdict", message)
        if not reason.strip():
            needed = f"a passed {name} verdict or a reason" if name else "a reason"
            message = f"Promotion to {channel!r} needs {needed}; say in `reason` why it is done."
            raise AdapterRefused("no_verdict", message)

    def _has_passed(self, adapter_id: str, name: str) -> bool:
        if is_base_adapter_id(adapter_id):
            return False
        verdict = self.verdict(adapter_id, name)
        return verdict is not None and verdict.get("passed") is True
