"""Read safetensors files by header, checking every offset; knows neither adapters nor torch."""

import hashlib
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# The limit of the reference implementation; it also tells a zip or pickle from a header length.
_MAX_HEADER_BYTES = 100_000_000
FLOAT_DTYPES = ("F32", "F16", "BF16")


class TensorFileError(ValueError):
    """Not a whole safetensors file; `is_truncated` tells a short one from a foreign one."""

    def __init__(self, message: str, *, is_truncated: bool = False) -> None:
        super().__init__(message)
        self.is_truncated = is_truncated


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor: safetensors' dtype name, its shape, and its byte range in the file."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def read_header(path: Path) -> dict[str, TensorInfo]:
    """Return every tensor of the file by name, sorted by name.

    Raises TensorFileError when the header is not safetensors', when byte ranges overlap, leave
    holes or disagree with the shape, or when the file is shorter or longer than they say.
    """
    with path.open("rb") as file:
        prefix = file.read(8)
        size_bytes = path.stat().st_size
        if len(prefix) < 8:
            raise TensorFileError(f"{path.name} has only {size_bytes} bytes", is_truncated=True)
        header_bytes = int.from_bytes(prefix, "little")
        payload = file.read(min(header_bytes, _MAX_HEADER_BYTES))
        if header_bytes > _MAX_HEADER_BYTES or not b"{".startswith(payload[:1]):
            raise TensorFileError(f"{path.name} does not start with a safetensors header")
        if len(payload) < header_bytes:
            raise TensorFileError(f"{path.name} ends inside its header", is_truncated=True)
        header = _parse_header(path.name, payload)
    tensors = {
        name: _parse_entry(path.name, name, header[name], 8 + header_bytes)
        for name in sorted(header)
        if name != "__metadata__"
    }
    _check_layout(path.name, tensors, 8 + header_bytes, size_bytes)
    return tensors


def tensor_digest(path: Path, info: TensorInfo) -> str:
    """Return the SHA-256 of one tensor's bytes."""
    return hashlib.sha256(_map_bytes(path, info).data).hexdigest()


def read_tensor(path: Path, info: TensorInfo) -> NDArray[np.float32]:
    """Return one floating-point tensor as float32 in its own shape.

    Raises TensorFileError for a dtype outside FLOAT_DTYPES.
    """
    raw = _map_bytes(path, info)
    if info.dtype == "BF16":  # numpy has no bfloat16: it is the upper half of a float32
        floats = (raw.view("<u2").astype(np.uint32) << 16).view(np.float32)
    elif info.dtype in FLOAT_DTYPES:
        floats = raw.view("<f4" if info.dtype == "F32" else "<f2").astype(np.float32)
    else:
        raise TensorFileError(f"dtype {info.dtype} is not one of {', '.join(FLOAT_DTYPES)}")
    return floats.reshape(info.shape)


def _map_bytes(path: Path, info: TensorInfo) -> NDArray[np.uint8]:
    if info.end == info.begin:  # an empty range cannot be mapped
        return np.zeros(0, dtype=np.uint8)
    size_bytes = info.end - info.begin
    return np.memmap(path, dtype=np.uint8, mode="r", offset=info.begin, shape=(size_bytes,))


def _parse_header(file_name: str, payload: bytes) -> dict[str, Any]:
    try:
        header = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise TensorFileError(f"{file_name} has no JSON header: {error}") from error
    if not isinstance(header, dict):
        raise TensorFileError(f"{file_name} has a header that is not a JSON object")
    return header


def _parse_entry(file_name: str, name: str, entry: Any, data_start: int) -> TensorInfo:
    try:
        begin, end = (int(offset) for offset in entry["data_offsets"])
        shape = tuple(int(size) for size in entry["shape"])
        info = TensorInfo(str(entry["dtype"]), shape, data_start + begin, data_start + end)
    except (TypeError, KeyError, ValueError) as error:
        raise TensorFileError(f"{file_name} describes tensor {name} wrongly") from error
    if begin < 0 or any(size < 0 for size in shape):
        raise TensorFileError(f"{file_name} gives tensor {name} a negative size")
    if 8 * (end - begin) != math.prod(shape) * _dtype_bits(info.dtype):
        raise TensorFileError(f"{file_name} gives tensor {name} a byte range unlike its shape")
    return info


def _dtype_bits(dtype: str) -> int:
    """Read the width from safetensors' own names: F32 -> 32, BF16 -> 16, F8_E4M3 -> 8."""
    digits = re.search(r"\d+", dtype)
    return int(digits.group()) if digits else 8  # BOOL takes one byte


def _check_layout(
    file_name: str, tensors: dict[str, TensorInfo], data_start: int, size_bytes: int
) -> None:
    position = data_start
    for info in sorted(tensors.values(), key=lambda info: (info.begin, info.end)):
        if info.begin != position:
            raise TensorFileError(f"{file_name} has overlapping tensors or holes between them")
        position = info.end
    if size_bytes < position:
        message = f"{file_name} has {size_bytes} of the {position} bytes its header promises"
        raise TensorFileError(message, is_truncated=True)
    if size_bytes > position:
        raise TensorFileError(f"{file_name} has {size_bytes - position} bytes after its tensors")
