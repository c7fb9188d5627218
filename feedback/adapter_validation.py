"""Refuse an adapter that an engine could not serve or that would change nothing, naming why.

It reads config and tensors with numpy; it knows no engine beyond its largest rank, and no torch.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from feedback.adapter_files import (
    SCORING_KINDS,
    AdapterFiles,
    AdapterRefused,
    content_id,
    read_tensor_header,
)
from feedback.adapter_options import check_options, targeted_modules
from feedback.base_description import BaseDescription
from feedback.tensor_file import FLOAT_DTYPES, TensorInfo, read_tensor

_LORA_KEY = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])\.weight")
_UNSUPPORTED_KEY = re.compile(
    r"lm_head|embed_tokens|modules_to_save|lora_embedding_|magnitude|bias"
)


@dataclass(frozen=True, slots=True)
class _LoraKey:
    name: str
    module: str
    side: str
    info: TensorInfo


def verify_content(files: AdapterFiles) -> None:
    """Rehash the files.

    Raises AdapterRefused: hash_mismatch, or the reason why they cannot be read.
    """
    actual = content_id(files.kind, files.path)
    if actual != files.adapter_id:
        _refuse_mismatch(files.adapter_id, actual)


def validate_adapter(files: AdapterFiles, base: BaseDescription, *, max_rank: int) -> None:
    """Check that an engine holding `base` can serve the adapter and that it has an effect.

    Args:
        files: the adapter as the registry returned it.
        base: the base model that the engine serves.
        max_rank: the largest LoRA rank that the engine accepts.

    Raises:
        AdapterRefused: with the reason_code and one sentence saying what to do.
    """
    verify_content(files)
    _check_identity(files, base)
    check_options(files.config, base, max_rank)
    tensors = read_tensor_header(files.weights_path)
    _check_dtypes(tensors)
    keys = _match_keys(tensors, base)
    _check_pairs(keys, files.config, base)
    _check_shapes(keys, int(files.config["r"]), base, max_rank)
    _check_values(files.weights_path, keys, needs_effect=files.kind not in SCORING_KINDS)
    if files.head_path is not None:
        _check_head(files.head_path)


def _refuse_mismatch(expected: str, actual: str) -> None:
    raise AdapterRefused(
        "hash_mismatch",
        f"The files of {expected} hash to {actual}: they were altered after publishing;"
        " remove that directory and publish the adapter again.",
    )


def _check_identity(files: AdapterFiles, base: BaseDescription) -> None:
    base_id = files.config.get("base_model_name_or_path")
    weights_hash = files.config.get("revision")
    if (base_id, weights_hash) != (base.base_id, base.weights_hash):
        raise AdapterRefused(
            "base_mismatch",
            f"The adapter was trained on base {base_id} ({weights_hash}), this is {base.base_id}"
            f" ({base.weights_hash}); train it on this base or serve the other one.",
        )
    if files.manifest.tokenizer_hash != base.tokenizer_hash:
        raise AdapterRefused(
            "tokenizer_mismatch",
            f"The adapter was trained with tokenizer {files.manifest.tokenizer_hash}, the base has"
            f" {base.tokenizer_hash}; train it with the tokenizer of this base.",
        )


def _check_dtypes(tensors: Mapping[str, TensorInfo]) -> None:
    for name, info in tensors.items():
        if info.dtype not in FLOAT_DTYPES:
            raise AdapterRefused(
                "unsupported_dtype",
                f"{name} has dtype {info.dtype}; save the adapter as one of"
                f" {', '.join(FLOAT_DTYPES)}.",
            )


def _match_keys(tensors: Mapping[str, TensorInfo], base: BaseDescription) -> list[_LoraKey]:
    """Return all keys as LoRA keys of known modules, or raise: no key may go unused."""
    unsupported = [name for name in tensors if _UNSUPPORTED_KEY.search(name)]
    if unsupported:
        raise AdapterRefused(
            "unsupported_part",
            f"The weights hold {unsupported[0]}, which not every engine can load; train without"
            " modules_to_save, lm_head, embeddings, DoRA and bias.",
        )
    matches = {name: _LORA_KEY.fullmatch(name) for name in tensors}
    keys = [
        _LoraKey(name, match["module"], match["side"], tensors[name])
        for name, match in matches.items()
        if match
    ]
    modules = {key.module for key in keys}
    known = modules & base.modules.keys()
    if len(keys) < len(tensors) or not known:
        odd = next((name for name, match in matches.items() if not match), next(iter(tensors), ""))
        raise AdapterRefused(
            "unmatched_keys",
            f"{len(known)} of {len(modules) or len(tensors)} modules matched, e.g. {odd!r} did not;"
            " save the uncompiled model with PEFT, whose keys read"
            " base_model.model.<module>.lora_A.weight.",
        )
    if modules - known:
        raise AdapterRefused(
            "unknown_module",
            f"The weights change {min(modules - known)}, which {base.architecture} does not have;"
            " train on modules of this base.",
        )
    return keys


def _check_pairs(keys: list[_LoraKey], config: Mapping[str, Any], base: BaseDescription) -> None:
    sides = {side: {key.module for key in keys if key.side == side} for side in "AB"}
    incomplete = sides["A"] ^ sides["B"]
    if not any(config.get(name) for name in ("layers_to_transform", "exclude_modules")):
        targets = config.get("target_modules")
        expected = targeted_modules(base.modules, targets) if isinstance(targets, list) else set()
        incomplete |= expected - sides["A"]
    if incomplete:
        raise AdapterRefused(
            "unmatched_keys",
            f"lora_A or lora_B is missing for {len(incomplete)} modules, e.g. {min(incomplete)};"
            " save all weights of the modules that target_modules names.",
        )


def _check_shapes(keys: list[_LoraKey], rank: int, base: BaseDescription, max_rank: int) -> None:
    for key in keys:
        out_features, in_features = base.modules[key.module]
        expected = (rank, in_features) if key.side == "A" else (out_features, rank)
        if key.info.shape == expected:
            continue
        rank_axis = 0 if key.side == "A" else -1
        if key.info.shape and key.info.shape[rank_axis] > max_rank:
            raise AdapterRefused(
                "rank_too_large",
                f"{key.name} has rank {key.info.shape[rank_axis]}, the engine takes {max_rank} at"
                " most; train with a smaller r or raise the engine's limit.",
            )
        raise AdapterRefused(
            "shape_mismatch",
            f"{key.name} has shape {list(key.info.shape)}, base and r={rank} need"
            f" {list(expected)}; train it on this base and save config and weights together.",
        )


def _check_values(path: Path, keys: list[_LoraKey], *, needs_effect: bool) -> None:
    nonzero: dict[str, set[str]] = {"A": set(), "B": set()}
    for key in keys:
        values = read_tensor(path, key.info)
        if not np.isfinite(values).all():
            _refuse_non_finite(key.name)
        if values.any():
            nonzero[key.side].add(key.module)
    if needs_effect and not nonzero["A"] & nonzero["B"]:
        raise AdapterRefused(
            "no_effect",
            "Every lora_B (or lora_A) is zero, so the adapter changes nothing;"
            " train it for at least one step and check that its weights were saved.",
        )


def _check_head(path: Path) -> None:
    tensors = read_tensor_header(path)
    _check_dtypes(tensors)
    if not tensors:
        message = f"{path.name} holds no tensor; save the head's weight and bias."
        raise AdapterRefused("missing_head", message)
    for name, info in tensors.items():
        if not np.isfinite(read_tensor(path, info)).all():
            _refuse_non_finite(f"{path.name}: {name}")


def _refuse_non_finite(name: str) -> None:
    raise AdapterRefused(
        "non_finite",
        f"{name} holds NaN or infinity; training diverged: lower the learning rate, train again.",
    )
