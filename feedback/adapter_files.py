"""Read an adapter's directory and name it by its content; does not know where adapters live."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from feedback.canonical_json import digest
from feedback.tensor_file import TensorFileError, TensorInfo, read_header, tensor_digest

AdapterKind = Literal["sft", "init", "rm", "value", "ppo"]
ADAPTER_KINDS: tuple[AdapterKind, ...] = get_args(AdapterKind)
SCORING_KINDS: tuple[AdapterKind, ...] = ("rm", "value")

CONFIG_NAME = "adapter_config.json"
WEIGHTS_NAME = "adapter_model.safetensors"
HEAD_NAME = "head.safetensors"
MANIFEST_NAME = "manifest.json"

_ADAPTER_ID = re.compile(rf"(?:{'|'.join(ADAPTER_KINDS)})-[0-9a-f]{{16}}")
_BASE_ID = re.compile(r"base-[0-9a-f]{16}")

ReasonCode = Literal[
    "unknown_adapter",
    "not_servable",
    "no_verdict",
    "hash_mismatch",
    "missing_config",
    "missing_head",
    "truncated_weights",
    "not_safetensors",
    "base_mismatch",
    "tokenizer_mismatch",
    "rank_too_large",
    "unknown_module",
    "unmatched_keys",
    "shape_mismatch",
    "unsupported_part",
    "unsupported_dtype",
    "non_finite",
    "no_effect",
]


class AdapterRefused(ValueError):
    """An adapter cannot be published, promoted or served; `reason_code` is stable, for programs."""

    def __init__(self, reason_code: ReasonCode, message: str) -> None:
        super().__init__(message)
        self.reason_code = reason_code
        self.message = message


class AdapterManifest(BaseModel):
    """How an adapter came to be; provenance only, so it takes no part in the adapter's id.

    Example: {"base_id": "smollm2-135m-instruct", "weights_hash": "9f...", "tokenizer_hash":
    "01...", "parents": {"init": "init-0123456789abcdef"}, "snapshot_id": "snapshot-...", "seeds":
    {"ppo": 11}, "metrics": {"objective/kl": 4.2}, "timings_s": {"ppo": 310.0}}
    """

    # Unknown fields are tolerated: a replica may read the manifest of a newer trainer.
    model_config = ConfigDict(frozen=True, extra="ignore")

    base_id: str = Field(min_length=1)
    weights_hash: str = Field(min_length=16, description="hash of the base's weights")
    tokenizer_hash: str = Field(min_length=1)
    parents: dict[str, str] = Field(default={}, description="role (sft, init, ...) -> adapter_id")
    snapshot_id: str | None = None
    training: dict[str, Any] = Field(default={}, description="the whole training configuration")
    seeds: dict[str, int] = {}
    code_version: str = ""
    metrics: dict[str, Any] = {}
    timings_s: dict[str, float] = {}
    simulated: bool = Field(default=False, description="trained on simulated feedback")


@dataclass(frozen=True, slots=True)
class AdapterFiles:
    """A published adapter: its id, kind and directory, with config and manifest parsed."""

    adapter_id: str
    kind: AdapterKind
    path: Path
    config: dict[str, Any]
    manifest: AdapterManifest

    @property
    def weights_path(self) -> Path:
        """The LoRA weights in PEFT's naming."""
        return self.path / WEIGHTS_NAME

    @property
    def head_path(self) -> Path | None:
        """The scalar head; kinds rm and value have one, the others None."""
        return self.path / HEAD_NAME if self.kind in SCORING_KINDS else None


def is_adapter_id(text: str) -> bool:
    """Tell whether `text` has the form of an adapter id; anything else never becomes a path."""
    return _ADAPTER_ID.fullmatch(text) is not None


def is_base_adapter_id(text: str) -> bool:
    """Tell whether `text` has the form of the bare base's id."""
    return _BASE_ID.fullmatch(text) is not None


def kind_of(adapter_id: str) -> AdapterKind:
    """Return the kind that an adapter id starts with.

    Raises AdapterRefused (unknown_adapter) for anything but an adapter id.
    """
    for kind in ADAPTER_KINDS:
        if adapter_id.startswith(f"{kind}-") and is_adapter_id(adapter_id):
            return kind
    raise AdapterRefused(
        "unknown_adapter",
        f"{adapter_id!r} is not an adapter id; it must be one of {', '.join(ADAPTER_KINDS)},"
        " then '-' and 16 hex digits.",
    )


def canonical_config(config: Mapping[str, Any], base_id: str, weights_hash: str) -> dict[str, Any]:
    """Return PEFT's config in its one form: what changes the adapter stays, the rest is fixed.

    The local path of the base becomes its logical id, `revision` its hash; sets that PEFT saves
    in any order are sorted.
    """
    canonical = {name: _sorted_scalars(value) for name, value in config.items()}
    canonical.pop("peft_version", None)
    canonical |= {
        "base_model_name_or_path": base_id,
        "revision": weights_hash,
        "inference_mode": True,
    }
    return canonical


def content_id(kind: AdapterKind, directory: Path) -> str:
    """Return "<kind>-<16 hex>" of the directory's config and tensors (DESIGN 4.4).

    Raises AdapterRefused when a file is missing, truncated or of another format.
    """
    content = {
        "config": read_config(directory),
        "weights": _describe_tensors(directory / WEIGHTS_NAME),
        "head": _describe_tensors(directory / HEAD_NAME) if kind in SCORING_KINDS else None,
    }
    return f"{kind}-{digest(content)[:16]}"


def read_config(directory: Path) -> dict[str, Any]:
    """Return adapter_config.json.

    Raises AdapterRefused (missing_config) when there is none or it is not a JSON object.
    """
    try:
        payload = (directory / CONFIG_NAME).read_bytes()
        config = json.loads(payload, parse_float=_finite, parse_constant=_finite)
    except FileNotFoundError:
        config = None
    except (ValueError, RecursionError) as error:
        message = f"{CONFIG_NAME} is not JSON ({error}); save the adapter again with PEFT."
        raise AdapterRefused("missing_config", message) from error
    if not isinstance(config, dict):
        message = f"{CONFIG_NAME} is missing or no JSON object; save the adapter with PEFT."
        raise AdapterRefused("missing_config", message)
    return config


def read_tensor_header(path: Path) -> dict[str, TensorInfo]:
    """Return the tensors of a weights or head file by name.

    Raises AdapterRefused: missing_head, not_safetensors or truncated_weights.
    """
    try:
        return read_header(path)
    except FileNotFoundError as error:
        if path.name == HEAD_NAME:
            message = f"{HEAD_NAME} is missing: rm and value adapters need it; save the head too."
            raise AdapterRefused("missing_head", message) from error
        message = f"{path.name} is missing; save the weights as safetensors (no .bin, no pickle)."
        raise AdapterRefused("not_safetensors", message) from error
    except TensorFileError as error:
        code: ReasonCode = "truncated_weights" if error.is_truncated else "not_safetensors"
        fix = "copy it again, whole." if error.is_truncated else "save it again as safetensors."
        raise AdapterRefused(code, f"{error}; {fix}") from error


def _describe_tensors(path: Path) -> dict[str, Any]:
    """Give each tensor's dtype, shape and hash; the file's own order and metadata do not count."""
    return {
        name: [info.dtype, list(info.shape), tensor_digest(path, info)]
        for name, info in read_tensor_header(path).items()
    }


def _finite(text: str) -> float:
    """Refuse NaN, Infinity and 1e999, which Python reads but canonical JSON cannot write."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no finite number")
    return number


def _sorted_scalars(value: Any) -> Any:
    """Sort a list of strings or of integers; nested lists keep their order, which has a meaning."""
    if isinstance(value, list) and all(isinstance(item, (str, int)) for item in value):
        return sorted(value, key=lambda item: (isinstance(item, str), item))
    if isinstance(value, Mapping):
        return {name: _sorted_scalars(item) for name, item in value.items()}
    return value
