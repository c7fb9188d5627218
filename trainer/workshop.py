"""The base, the registry and the stage cache that every stage of a refresh works with.

It does not know any training method. Adapters live on one base under their published ids; what is
still being trained has a working name.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from feedback.adapter_files import AdapterKind, AdapterManifest
from feedback.registry import Registry
from feedback.snapshot_rows import Snapshot
from policy.adapter_weights import load_adapter, load_head, write_adapter
from policy.decoder import Decoder
from policy.heads import ScalarHead
from policy.language_model import LoraSettings
from policy.pretrained import DtypeName, LoadedBase, load_language_model
from trainer.reward import RewardModel
from trainer.settings import AdapterShape
from trainer.stage_cache import StageCache, StageResult, fingerprint

ROLLOUT_BATCH = 128


@dataclass(frozen=True, slots=True)
class Trained:
    """What a stage hands over for publishing: the working name, its head and its figures."""

    adapter: str
    figures: dict[str, Any]
    head: ScalarHead | None = None


class Workshop:
    """One data directory with its base loaded for training."""

    def __init__(self, data_dir: Path, loaded: LoadedBase, registry: Registry) -> None:
        self.data_dir = data_dir
        self.loaded = loaded
        self.model = loaded.model
        self.registry = registry
        self._cache = StageCache(data_dir)
        self._decoder: Decoder | None = None

    @classmethod
    def open(cls, data_dir: Path, base: str, dtype: DtypeName) -> Workshop:
        """Load the base and bind the directory to it.

        Raises:
            ValueError: if the base cannot be loaded or the directory belongs to another one.
        """
        loaded = load_language_model(base, dtype)
        registry = Registry.open(data_dir)
        registry.bind_base(loaded.description)
        return cls(data_dir, loaded, registry)

    def decoder(self, max_positions: int) -> Decoder:
        """Return the decoder for rollouts; one is kept, since its cache is large."""
        if self._decoder is None or self._decoder.max_positions < max_positions:
            self._decoder = Decoder(self.model, ROLLOUT_BATCH, max_positions)
        return self._decoder

    def new_adapter(self, name: str, shape: AdapterShape, seed: int) -> str:
        """Attach a fresh adapter of the refresh's shape under a working name; return the name."""
        first_layer = shape.first_layer(self.model.num_layers)
        settings = LoraSettings(rank=shape.rank, alpha=shape.alpha, first_layer=first_layer)
        self.model.add_adapter(name, settings, seed)
        return name

    def loaded_adapter(self, adapter_id: str) -> str:
        """Load a published adapter unless it is loaded; its id is its name on the model."""
        if adapter_id not in self.model.adapters:
            load_adapter(self.model, self.registry.adapter(adapter_id))
        return adapter_id

    def reward_model(self, adapter_id: str) -> RewardModel:
        """Load a published reward model with its head and bias."""
        self.loaded_adapter(adapter_id)
        return RewardModel(self.model, adapter_id, load_head(self.registry.adapter(adapter_id)))

    def stage(
        self,
        kind: AdapterKind,
        train: Callable[[Path], Trained],
        parents: Mapping[str, str],
        snapshot: Snapshot,
        inputs: Mapping[str, Any],
        seeds: Mapping[str, int],
    ) -> StageResult:
        """Train and publish, or return what the same inputs gave before.

        `train(work_path)` may keep its progress at `work_path`; the file is deleted when the stage
        has been published. Published bytes, not the working copy, are what later stages load.
        """
        key = fingerprint(self._identity(inputs, parents, seeds))
        if (known := self._cache.find(key)) is not None:
            return known
        work_path = self.data_dir / "work" / f"{key[:32]}.pt"
        work_path.parent.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        trained = train(work_path)
        trained.figures["seconds"] = round(time.monotonic() - started, 3)
        result = StageResult(
            self.publish(kind, trained, parents, snapshot, inputs, seeds), trained.figures
        )
        self._cache.keep(key, result)
        work_path.unlink(missing_ok=True)
        return result

    def publish(
        self,
        kind: AdapterKind,
        trained: Trained,
        parents: Mapping[str, str],
        snapshot: Snapshot,
        inputs: Mapping[str, Any],
        seeds: Mapping[str, int],
    ) -> str:
        """Publish a trained adapter with its manifest, drop the working copy, return the id."""
        base = self.loaded.description
        manifest = AdapterManifest(
            base_id=base.base_id,
            weights_hash=base.weights_hash,
            tokenizer_hash=base.tokenizer_hash,
            parents=dict(parents),
            snapshot_id=snapshot.id,
            training=dict(inputs),
            seeds=dict(seeds),
            code_version=version("instructloop"),
            metrics=trained.figures,
            simulated=snapshot.manifest.simulated,
        )

        def build(directory: Path) -> None:
            write_adapter(self.model, trained.adapter, directory, base.base_id, trained.head)

        adapter_id = self.registry.publish(kind, build, manifest)
        self.model.remove_adapter(trained.adapter)
        return adapter_id

    def _identity(
        self, inputs: Mapping[str, Any], parents: Mapping[str, str], seeds: Mapping[str, int]
    ) -> dict[str, Any]:
        """All that decides a stage's result: equal identities give equal adapters."""
        return {
            "inputs": inputs,
            "parents": parents,
            "seeds": seeds,
            "base": self.loaded.description.weights_hash,
            "dtype": str(self.model.dtype),
            "code": version("instructloop"),
        }
