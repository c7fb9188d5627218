"""Count what ran (nothing executed is a failure, skips are explained); publish tiny adapters.

Also watches and holds fsync in a subprocess.
"""

import json
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from safetensors.numpy import save_file

from feedback.adapter_files import SCORING_KINDS, AdapterKind, AdapterManifest
from feedback.base_description import BaseDescription
from feedback.registry import Registry

# A pause of a shared machine is no fault of an example; the time limit of the test remains.
settings.register_profile("without_deadline", deadline=None)
settings.load_profile("without_deadline")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    stats = terminalreporter.stats
    num_run = sum(len(stats.get(kind, [])) for kind in ("passed", "failed", "xfailed", "xpassed"))
    skipped = [report for report in stats.get("skipped", []) if isinstance(report.longrepr, tuple)]
    reasons = Counter(report.longrepr[2].removeprefix("Skipped: ") for report in skipped)
    terminalreporter.write_sep("=", "count")
    terminalreporter.write_line(f"tests run: {num_run}, skipped: {len(skipped)}")
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"  {count} skipped: {reason}")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    # A marker that was selected and ran nothing must not look like success.
    is_listing = session.config.option.collectonly
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if is_listing or exitstatus != pytest.ExitCode.OK or reporter is None:
        return
    if not reporter.stats.get("passed") and not reporter.stats.get("xfailed"):
        session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED


@pytest.fixture
def tiny_base() -> BaseDescription:
    """A two-layer base, small enough that its adapters have a few hundred numbers."""
    shapes = {"self_attn.q_proj": (8, 8), "self_attn.v_proj": (4, 8), "mlp.down_proj": (8, 16)}
    return BaseDescription(
        base_id="tiny-llama",
        weights_hash="0123456789abcdef" * 4,
        tokenizer_hash="fedcba9876543210" * 4,
        template_hash="0011223344556677" * 4,
        architecture="LlamaForCausalLM",
        num_layers=2,
        hidden_size=8,
        vocab_size=64,
        context_length=128,
        modules={f"model.layers.{n}.{name}": shapes[name] for n in range(2) for name in shapes},
    )


@pytest.fixture
def registry(tmp_path: Path, tiny_base: BaseDescription) -> Registry:
    """A registry in a fresh data directory, bound to the tiny base, for ranks up to 16."""
    opened = Registry.open(tmp_path / "data", max_rank=16)
    opened.bind_base(tiny_base)
    return opened


@pytest.fixture
def make_adapter(registry: Registry, tiny_base: BaseDescription) -> Callable[..., str]:
    """Return a function that publishes an adapter and returns its id.

    It takes kind, seed (other seed, other weights), rank, and overrides: `config` fields, whole
    `tensors` by key (None removes one), `manifest` fields, `registry` for another data directory.
    """

    def make(
        *,
        kind: AdapterKind = "sft",
        seed: int = 0,
        rank: int = 4,
        config: Mapping[str, Any] | None = None,
        tensors: Mapping[str, Any] | None = None,
        manifest: Mapping[str, Any] | None = None,
        registry: Registry = registry,
    ) -> str:
        generator = np.random.default_rng(seed)

        def draw(*shape: int) -> np.ndarray[Any, np.dtype[np.float32]]:
            return generator.normal(size=shape).astype(np.float32)

        weights: dict[str, Any] = {}
        for module, (out_features, in_features) in tiny_base.modules.items():
            prefix = f"base_model.model.{module}"
            weights[f"{prefix}.lora_A.weight"] = draw(rank, in_features)
            weights[f"{prefix}.lora_B.weight"] = draw(out_features, rank)
        head = {"weight": draw(1, tiny_base.hidden_size), "bias": draw(1)}
        weights |= tensors or {}

        def build(directory: Path) -> None:
            written = {
                "peft_type": "LORA",
                "r": rank,
                "lora_alpha": 2 * rank,
                "bias": "none",
                "target_modules": ["q_proj", "v_proj", "down_proj"],
                "base_model_name_or_path": str(directory),
            } | dict(config or {})
            (directory / "adapter_config.json").write_text(json.dumps(written))
            kept = {name: value for name, value in weights.items() if value is not None}
            save_file(kept, directory / "adapter_model.safetensors")
            if kind in SCORING_KINDS:
                save_file(head, directory / "head.safetensors")

        provenance = {
            "base_id": tiny_base.base_id,
            "weights_hash": tiny_base.weights_hash,
            "tokenizer_hash": tiny_base.tokenizer_hash,
        } | dict(manifest or {})
        return registry.publish(kind, build, AdapterManifest(**provenance))

    return make


@dataclass(frozen=True)
class SyncShim:
    """Watches fsync and fdatasync of a subprocess started with `environment`, and can hold them."""

    library: Path
    log: Path
    gate: Path

    @property
    def environment(self) -> dict[str, str]:
        """The whole environment for the subprocess."""
        shim = {"SYNC_SHIM_LOG": str(self.log), "SYNC_SHIM_GATE": str(self.gate)}
        return {**os.environ, "LD_PRELOAD": str(self.library), **shim}

    def hold(self) -> None:
        """From now on every sync waits before it touches the disk."""
        self.gate.touch()

    def release(self) -> None:
        """Let the waiting syncs go on."""
        self.gate.unlink()

    def num_synced(self, file_name: str) -> int:
        """How many syncs of files named so have completed."""
        return self._count("synced", file_name)

    def num_begun(self, file_name: str) -> int:
        """How many syncs of files named so were asked for."""
        return self._count("begun", file_name)

    def _count(self, stage: str, file_name: str) -> int:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return sum(line.startswith(stage) and line.endswith("/" + file_name) for line in lines)


@pytest.fixture
def sync_shim(tmp_path: Path) -> SyncShim:
    """A preloadable library, built here, that counts and holds syncs; needs a C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler to build the fsync watcher with")
    source = Path(__file__).parent / "support" / "sync_shim.c"
    library = tmp_path / "sync_shim.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return SyncShim(library, tmp_path / "syncs.log", tmp_path / "hold-syncs")


@pytest.fixture(scope="session")
def smollm2() -> Callable[[str], Any]:
    """A function that loads the real base in a dtype, once per session."""

    @cache
    def load(dtype: str) -> Any:
        # Imported here: most tests need no torch.
        from policy.pretrained import load_language_model

        return load_language_model("smollm2", dtype)

    return load


@pytest.fixture(scope="session")
def markers(smollm2: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Five trained adapters of the real base, each of which says one reply only."""
    from marker_adapters import make_markers

    registry = Registry.open(tmp_path_factory.mktemp("markers"))
    return make_markers(smollm2("float32"), registry)
