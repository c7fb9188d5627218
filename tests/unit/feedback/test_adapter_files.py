"""An adapter's id is its content: nothing more changes it, nothing less escapes it."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from feedback.adapter_files import (
    AdapterRefused,
    canonical_config,
    content_id,
    is_adapter_id,
    is_base_adapter_id,
    kind_of,
)
from feedback.registry import Registry

MakeAdapter = Callable[..., str]
TARGETS = ["q_proj", "v_proj", "down_proj"]


def test_the_id_is_kind_and_sixteen_hex_digits(make_adapter: MakeAdapter) -> None:
    for kind in ("sft", "init", "rm", "value", "ppo"):
        adapter_id = make_adapter(kind=kind)
        assert is_adapter_id(adapter_id)
        assert kind_of(adapter_id) == kind
        assert len(adapter_id) == len(kind) + 1 + 16


def test_order_path_and_manifest_do_not_change_the_id(make_adapter: MakeAdapter) -> None:
    """Lists in any order, dictionaries in any order, any local path, any provenance: one id."""
    reference = make_adapter()
    for seed in range(5):
        shuffled = random.Random(seed).sample(TARGETS, len(TARGETS))
        config = {"target_modules": shuffled, "base_model_name_or_path": f"/home/{seed}/model"}
        reversed_config = dict(reversed(list(config.items())))
        manifest = {"metrics": {"loss": seed}, "seeds": {"sft": seed}, "code_version": str(seed)}
        assert make_adapter(config=config, manifest=manifest) == reference
        assert make_adapter(config=reversed_config) == reference
    assert make_adapter(config={"peft_version": "0.1", "inference_mode": False}) == reference


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"rank": 5},
        {"config": {"lora_alpha": 9}},
        {"config": {"target_modules": ["q_proj"]}},
        {"manifest": {"base_id": "another"}},
        {"manifest": {"weights_hash": "f" * 64}},
    ],
)
def test_any_content_changes_the_id(make_adapter: MakeAdapter, change: dict[str, Any]) -> None:
    assert make_adapter(**change) != make_adapter()


def test_every_bit_of_the_tensors_and_of_the_head_counts(
    registry: Registry, make_adapter: MakeAdapter, tmp_path: Path
) -> None:
    source = registry.adapter(make_adapter(kind="rm")).path
    reference = content_id("rm", source)
    for name in ("adapter_model.safetensors", "head.safetensors"):
        payload = (source / name).read_bytes()
        data_start = 8 + int.from_bytes(payload[:8], "little")
        positions = range(data_start, len(payload), 97 if len(payload) > 200 else 1)
        copy = tmp_path / name
        shutil.copytree(source, copy)
        for position in [*positions, len(payload) - 1]:
            changed = bytearray(payload)
            changed[position] ^= 1 << (position % 8)
            (copy / name).write_bytes(changed)
            assert content_id("rm", copy) != reference


def test_the_order_of_tensors_in_the_file_and_its_metadata_do_not_count(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    tensors = {f"t{n}": np.full((2, n + 1), n, np.float32) for n in range(4)}
    for directory in (first, second):
        directory.mkdir()
        (directory / "adapter_config.json").write_text("{}")
    save_file(tensors, first / "adapter_model.safetensors", metadata={"format": "pt"})
    _write_reversed(tensors, second / "adapter_model.safetensors")
    assert content_id("sft", first) == content_id("sft", second)


def test_a_renamed_or_reshaped_tensor_changes_the_id(tmp_path: Path) -> None:
    values = np.arange(6, dtype=np.float32)
    ids = set()
    for name, shape in (("a", (2, 3)), ("a", (3, 2)), ("b", (2, 3)), ("a", (6,))):
        (tmp_path / "adapter_config.json").write_text("{}")
        save_file({name: values.reshape(shape)}, tmp_path / "adapter_model.safetensors")
        ids.add(content_id("sft", tmp_path))
    assert len(ids) == 4


def test_a_scoring_kind_has_no_id_without_its_head(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    save_file({"a": np.ones(1, np.float32)}, tmp_path / "adapter_model.safetensors")
    assert content_id("sft", tmp_path)
    for kind in ("rm", "value"):
        with pytest.raises(AdapterRefused, match=r"head\.safetensors is missing") as caught:
            content_id(kind, tmp_path)
        assert caught.value.reason_code == "missing_head"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=5), json_values))
def test_a_canonical_config_is_already_canonical(config: dict[str, Any]) -> None:
    once = canonical_config(config, "base", "hash")
    assert canonical_config(once, "base", "hash") == once
    json.dumps(once)


@given(st.permutations(["q", "k", "v", "o"]), st.permutations([0, 1, 2, 3]))
def test_sets_saved_in_any_order_are_one_config(names: list[str], layers: list[int]) -> None:
    config = {"target_modules": names, "layers_to_transform": layers}
    canonical = canonical_config(config, "base", "hash")
    assert canonical["target_modules"] == sorted(names)
    assert canonical["layers_to_transform"] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sft",
        "../../etc",
        "org/repo",
        "/etc/passwd",
        "sft-0123456789abcdeF",
        "sft-0123456789abcde",
        "sft-0123456789abcdef0",
        "sft-0123456789abcdef\n",
        "sft-0123456789abcdef/..",
        "lora-0123456789abcdef",
        "base-0123456789abcdef",
    ],
)
def test_nothing_but_an_id_is_an_id(text: str) -> None:
    assert not is_adapter_id(text)
    with pytest.raises(AdapterRefused, match="16 hex digits") as caught:
        kind_of(text)
    assert caught.value.reason_code == "unknown_adapter"


def test_the_bare_base_has_an_id_of_its_own_form() -> None:
    assert is_base_adapter_id("base-0123456789abcdef")
    assert not is_base_adapter_id("base-0123456789abcdef/..")


def _write_reversed(tensors: dict[str, Any], path: Path) -> None:
    """Write a safetensors file whose tensors lie in the opposite order."""
    header, data = {}, b""
    for name in sorted(tensors, reverse=True):
        payload = tensors[name].tobytes()
        offsets = [len(data), len(data) + len(payload)]
        header[name] = {
            "dtype": "F32",
            "shape": list(tensors[name].shape),
            "data_offsets": offsets,
        }
        data += payload
    encoded = json.dumps(header).encode()
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + data)
