"""Tensors are read as the reference implementation wrote them, and damage never passes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from feedback.tensor_file import TensorFileError, read_header, read_tensor, tensor_digest

reusing_the_directory = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def write(path: Path, header: dict[str, Any], data: bytes) -> Path:
    encoded = json.dumps(header).encode()
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + data)
    return path


def entry(dtype: str, shape: list[int], begin: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_what_safetensors_wrote_is_read_back(tmp_path: Path, dtype: type) -> None:
    generator = np.random.default_rng(0)
    shapes = {"matrix": (3, 5), "vector": (4,), "scalar": (), "empty": (0, 2)}
    tensors = {name: generator.normal(size=s).astype(dtype) for name, s in shapes.items()}
    path = tmp_path / "file"
    save_file({name: np.asarray(value) for name, value in tensors.items()}, path)
    header = read_header(path)
    assert list(header) == sorted(tensors)
    for name, tensor in tensors.items():
        read = read_tensor(path, header[name])
        assert read.dtype == np.float32
        assert np.array_equal(read, tensor.astype(np.float32))


def test_bfloat16_is_the_upper_half_of_float32(tmp_path: Path) -> None:
    values = np.array([0.0, 1.0, -2.5, np.inf, 3.140625], np.float32)  # exact in bfloat16
    data = (values.view(np.uint32) >> 16).astype("<u2").tobytes()
    path = write(tmp_path / "file", {"t": entry("BF16", [5], 0, 10)}, data)
    assert np.array_equal(read_tensor(path, read_header(path)["t"]), values)


def test_integers_have_a_header_but_no_float_values(tmp_path: Path) -> None:
    path = tmp_path / "file"
    save_file({"t": np.ones(3, np.int8)}, path)
    info = read_header(path)["t"]
    assert (info.dtype, info.shape) == ("I8", (3,))
    with pytest.raises(TensorFileError, match="dtype I8"):
        read_tensor(path, info)


def test_equal_bytes_have_equal_digests(tmp_path: Path) -> None:
    path = tmp_path / "file"
    ones = np.ones((2, 2), np.float32)
    save_file({"a": ones, "b": ones.copy(), "c": 2 * ones}, path)
    digests = {name: tensor_digest(path, info) for name, info in read_header(path).items()}
    assert digests["a"] == digests["b"] != digests["c"]


@pytest.mark.parametrize(
    ("header", "size_bytes"),
    [
        ({"t": entry("F32", [2], 0, 4)}, 4),  # range unlike the shape
        ({"t": entry("F32", [1], 4, 8)}, 8),  # hole in front
        ({"t": entry("F32", [1], 0, 4), "u": entry("F32", [1], 0, 4)}, 4),  # overlap
        ({"t": entry("F32", [1], 0, 4), "u": entry("F32", [1], 8, 12)}, 12),  # hole between
        ({"t": entry("F32", [1], 0, 4)}, 9),  # trailing bytes
        ({"t": entry("F32", [-1], 0, -4)}, 0),
        ({"t": entry("F32", [1], -4, 0)}, 0),
        ({"t": {"dtype": "F32"}}, 0),
        ({"t": 3}, 0),
    ],
)
def test_a_header_that_lies_about_its_bytes_is_refused(
    tmp_path: Path, header: dict[str, Any], size_bytes: int
) -> None:
    path = write(tmp_path / "file", header, bytes(size_bytes))
    with pytest.raises(TensorFileError) as caught:
        read_header(path)
    assert not caught.value.is_truncated


@reusing_the_directory
@given(st.integers(0, 10_000))
def test_every_shorter_file_is_called_truncated(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "file"
    save_file({"a": np.ones((8, 8), np.float32), "b": np.ones(3, np.float16)}, path)
    payload = path.read_bytes()
    path.write_bytes(payload[: kept % len(payload)])
    with pytest.raises(TensorFileError) as caught:
        read_header(path)
    assert caught.value.is_truncated


@reusing_the_directory
@given(st.binary(max_size=200), st.integers(0, 60))
def test_no_bytes_whatever_raise_anything_but_the_one_error(
    tmp_path: Path, noise: bytes, position: int
) -> None:
    path = tmp_path / "file"
    save_file({"a": np.ones(4, np.float32)}, path)
    payload = bytearray(path.read_bytes())
    payload[position : position + len(noise)] = noise
    path.write_bytes(payload)
    try:
        for info in read_header(path).values():
            tensor_digest(path, info)
            read_tensor(path, info)
    except TensorFileError:
        pass
