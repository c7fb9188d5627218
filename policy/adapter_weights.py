"""Write an adapter as PEFT files and load it back; it does not know registries or channels.

Who may be loaded is decided by feedback's validation; here it is only made sure that nothing in
the files is left unused.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

from peft import LoraConfig
from safetensors.torch import load_file, save_file
from torch import Tensor

from feedback.adapter_files import (
    HEAD_NAME,
    WEIGHTS_NAME,
    AdapterFiles,
    AdapterRefused,
    read_tensor_header,
)
from policy.heads import ScalarHead
from policy.language_model import LanguageModel

_METADATA = {"format": "pt"}


def write_adapter(
    model: LanguageModel,
    name: str,
    directory: Path,
    base_id: str,
    head: ScalarHead | None = None,
) -> None:
    """Write adapter_config.json, fp32 adapter_model.safetensors and, with a head, its file.

    Args:
        model: holds the adapter.
        name: the adapter's name on the model.
        directory: exists; a registry gives one to the `build` it calls.
        base_id: the base's logical id, written instead of a path.
        head: of a reward or value model; it is always saved with its adapter (CASES D7).
    """
    config = LoraConfig(**model.adapter_config(name).to_dict())
    config.base_model_name_or_path = base_id
    config.inference_mode = True
    config.save_pretrained(str(directory))
    _save(model.adapter_parameters(name), directory / WEIGHTS_NAME)
    if head is not None:
        _save(head.state_dict(), directory / HEAD_NAME)


def load_adapter(model: LanguageModel, files: AdapterFiles) -> str:
    """Attach an adapter's frozen weights under its id and return the id.

    Everything is read into memory now: the directory may go away afterwards (CASES B2).

    Raises:
        AdapterRefused: if config and weights do not fit this base and each other key by key; the
            model is as it was before.
    """
    weights = _load(files.weights_path)
    config = cast("LoraConfig", LoraConfig.from_pretrained(str(files.path)))
    try:
        model.attach(files.adapter_id, config)
    except ValueError as error:
        raise AdapterRefused("unknown_module", f"{files.adapter_id}: {error}") from error
    try:
        model.set_weights(files.adapter_id, weights)
    except ValueError as error:
        model.remove_adapter(files.adapter_id)
        raise AdapterRefused("unmatched_keys", str(error)) from error
    return files.adapter_id


def load_head(files: AdapterFiles) -> ScalarHead:
    """Return the scalar head saved with a reward or value adapter.

    Raises:
        AdapterRefused: if there is none or it has other tensors; never a fresh random head.
    """
    if files.head_path is None or not files.head_path.is_file():
        message = f"{files.adapter_id} has no {HEAD_NAME}: publish the head with its adapter."
        raise AdapterRefused("missing_head", message)
    tensors = _load(files.head_path)
    if tensors.keys() != {"weight", "bias"} or tensors["weight"].dim() != 1:
        message = f"{HEAD_NAME} of {files.adapter_id} needs a flat weight and bias []."
        raise AdapterRefused("shape_mismatch", message)
    head = ScalarHead(tensors["weight"].numel())
    head.load_state_dict(tensors)
    return head.requires_grad_(False)


def _load(path: Path) -> dict[str, Tensor]:
    read_tensor_header(path)  # refuses with a reason what the library would only choke on
    return load_file(path)


def _save(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Save float32 copies: parameters may share storage, which safetensors refuses."""
    copies = {key: tensor.detach().float().clone().contiguous() for key, tensor in tensors.items()}
    save_file(copies, path, metadata=_METADATA)
