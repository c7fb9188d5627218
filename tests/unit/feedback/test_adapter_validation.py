"""Every way an adapter can be unfit has a reason of its own, and the incumbent stays."""

import contextlib
import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feedback.adapter_files import AdapterRefused
from feedback.adapter_validation import validate_adapter
from feedback.base_description import BaseDescription
from feedback.registry import Registry

MakeAdapter = Callable[..., str]
Q_A = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
Q_B = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight"


def all_tensors(rank: int, base: BaseDescription) -> dict[str, tuple[int, int]]:
    shapes = {}
    for module, (out_features, in_features) in base.modules.items():
        shapes[f"base_model.model.{module}.lora_A.weight"] = (rank, in_features)
        shapes[f"base_model.model.{module}.lora_B.weight"] = (out_features, rank)
    return shapes


def refusal_of(registry: Registry, adapter_id: str) -> AdapterRefused:
    """Promote, expect a refusal that leaves the incumbent, and return it."""
    before = registry.history("stable")
    with pytest.raises(AdapterRefused) as caught:
        registry.promote("stable", adapter_id, "admin", "try it")
    assert registry.history("stable") == before
    return caught.value


def assert_refused(registry: Registry, adapter_id: str, code: str, *words: str) -> None:
    refusal = refusal_of(registry, adapter_id)
    assert refusal.reason_code == code
    for word in (*words, ";"):  # what is wrong; what to do
        assert word in str(refusal)


def test_a_sound_adapter_of_every_kind_is_accepted(
    registry: Registry, make_adapter: MakeAdapter, tiny_base: BaseDescription
) -> None:
    for kind in ("sft", "init", "rm", "value", "ppo"):
        files = registry.adapter(make_adapter(kind=kind))
        validate_adapter(files, tiny_base, max_rank=4)


@pytest.mark.parametrize("file_name", ["adapter_model.safetensors", "head.safetensors"])
def test_a_changed_weight_byte_is_a_hash_mismatch(
    registry: Registry, make_adapter: MakeAdapter, tiny_base: BaseDescription, file_name: str
) -> None:
    files = registry.adapter(make_adapter(kind="rm"))
    path = files.path / file_name
    payload = bytearray(path.read_bytes())
    payload[-1] ^= 1
    path.write_bytes(payload)
    with pytest.raises(AdapterRefused) as caught:
        validate_adapter(files, tiny_base, max_rank=4)
    assert caught.value.reason_code == "hash_mismatch"
    assert "publish the adapter again" in str(caught.value)


def test_an_altered_config_is_a_hash_mismatch(
    registry: Registry, make_adapter: MakeAdapter
) -> None:
    adapter_id = make_adapter()
    path = registry.adapter(adapter_id).path / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"lora_alpha": 99}))
    assert_refused(registry, adapter_id, "hash_mismatch", adapter_id)


@pytest.mark.parametrize(
    "content", [None, "", "[]", "{", '{"r": NaN}', '{"r": 1e999}', "[" * 100_000]
)
def test_a_missing_or_unreadable_config_is_named(
    registry: Registry, make_adapter: MakeAdapter, content: str | None
) -> None:
    adapter_id = make_adapter()
    path = registry.adapter(adapter_id).path / "adapter_config.json"
    path.unlink() if content is None else path.write_text(content)
    assert_refused(registry, adapter_id, "missing_config", "adapter_config.json", "PEFT")


@pytest.mark.parametrize("kept_bytes", [0, 5, 40, -1])
def test_truncated_weights_are_named(
    registry: Registry, make_adapter: MakeAdapter, kept_bytes: int
) -> None:
    adapter_id = make_adapter()
    path = registry.adapter(adapter_id).path / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:kept_bytes])
    assert_refused(registry, adapter_id, "truncated_weights", path.name, "copy it again")


@pytest.mark.parametrize(
    "content",
    [
        b"PK\x03\x04" + bytes(64),  # torch.save's zip
        b"\x80\x02}q\x00." + bytes(64),  # a bare pickle
        struct.pack("<Q", 4) + b"oops",
        struct.pack("<Q", 2) + b"{}" + b"trailing",
    ],
)
def test_weights_of_another_format_are_named(
    registry: Registry, make_adapter: MakeAdapter, content: bytes
) -> None:
    adapter_id = make_adapter()
    (registry.adapter(adapter_id).path / "adapter_model.safetensors").write_bytes(content)
    assert_refused(registry, adapter_id, "not_safetensors", "safetensors")


def test_absent_weights_are_named(registry: Registry, make_adapter: MakeAdapter) -> None:
    adapter_id = make_adapter()
    (registry.adapter(adapter_id).path / "adapter_model.safetensors").unlink()
    assert_refused(registry, adapter_id, "not_safetensors", "adapter_model.safetensors")


@pytest.mark.parametrize("field", ["base_id", "weights_hash"])
def test_an_adapter_of_another_base_is_refused(
    registry: Registry, make_adapter: MakeAdapter, field: str
) -> None:
    adapter_id = make_adapter(manifest={field: "another-base-altogether"})
    assert_refused(registry, adapter_id, "base_mismatch", "another-base-altogether", "tiny-llama")


def test_an_adapter_of_another_tokenizer_is_refused(
    registry: Registry, make_adapter: MakeAdapter
) -> None:
    adapter_id = make_adapter(manifest={"tokenizer_hash": "other"})
    assert_refused(registry, adapter_id, "tokenizer_mismatch", "other")


@pytest.mark.parametrize(
    "arguments",
    [
        {"rank": 17},
        {"config": {"rank_pattern": {"q_proj": 64}}},  # above the engine's limit
        {"config": {"rank_pattern": {"q_proj": 8}}},  # above r
        {"tensors": {Q_A: np.ones((32, 8), np.float32), Q_B: np.ones((8, 32), np.float32)}},
    ],
)
def test_a_rank_above_the_limit_is_refused_wherever_it_hides(
    registry: Registry, make_adapter: MakeAdapter, arguments: dict[str, object]
) -> None:
    assert_refused(registry, make_adapter(**arguments), "rank_too_large", "rank")


@pytest.mark.parametrize("rank", [0, -1, None, "8"])
def test_a_rank_that_is_no_positive_integer_is_refused(
    registry: Registry, make_adapter: MakeAdapter, rank: object
) -> None:
    assert_refused(registry, make_adapter(config={"r": rank}), "shape_mismatch", "r=")


@pytest.mark.parametrize("alpha", [None, "16", True])
def test_a_scale_that_is_no_number_is_refused(
    registry: Registry, make_adapter: MakeAdapter, alpha: object
) -> None:
    assert_refused(
        registry, make_adapter(config={"lora_alpha": alpha}), "unsupported_part", "lora_alpha"
    )


def test_a_scale_of_zero_has_no_effect(registry: Registry, make_adapter: MakeAdapter) -> None:
    assert_refused(registry, make_adapter(config={"lora_alpha": 0}), "no_effect", "lora_alpha")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 20) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=4,
)
OPTIONS = [
    "r",
    "lora_alpha",
    "rank_pattern",
    "alpha_pattern",
    "target_modules",
    "bias",
    "peft_type",
]
OPTIONS += ["modules_to_save", "init_lora_weights", "layers_to_transform", "exclude_modules"]


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.dictionaries(st.sampled_from(OPTIONS), json_values, min_size=1))
def test_whatever_a_config_says_the_answer_is_yes_or_a_named_reason(
    registry: Registry,
    make_adapter: MakeAdapter,
    tiny_base: BaseDescription,
    options: dict[str, object],
) -> None:
    with contextlib.suppress(AdapterRefused):
        files = registry.adapter(make_adapter(config=options))
        validate_adapter(files, tiny_base, max_rank=16)


def test_a_target_module_that_the_base_lacks_is_refused(
    registry: Registry, make_adapter: MakeAdapter
) -> None:
    adapter_id = make_adapter(config={"target_modules": ["q_proj", "c_attn"]})
    assert_refused(registry, adapter_id, "unknown_module", "c_attn")


def test_weights_for_a_module_that_the_base_lacks_are_refused(
    registry: Registry, make_adapter: MakeAdapter
) -> None:
    extra = {Q_A.replace("layers.0", "layers.7"): np.ones((4, 8), np.float32)}
    adapter_id = make_adapter(tensors=extra)
    assert_refused(registry, adapter_id, "unknown_module", "model.layers.7.self_attn.q_proj")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("base_model.model.", "base_model.model._orig_mod."),
        ("base_model.model.", "transformer."),
        (".lora_A.weight", ".lora_A.default.weight"),
    ],
)
def test_renamed_keys_that_would_load_as_nothing_are_refused(
    registry: Registry,
    make_adapter: MakeAdapter,
    tiny_base: BaseDescription,
    old: str,
    new: str,
) -> None:
    shapes = all_tensors(4, tiny_base)
    renamed = {name.replace(old, new): np.ones(shape, np.float32) for name, shape in shapes.items()}
    removed = {name: None for name in shapes if name not in renamed}
    adapter_id = make_adapter(tensors=removed | renamed)
    refusal = refusal_of(registry, adapter_id)
    assert refusal.reason_code == "unmatched_keys"
    if "lora_A" not in old:
        assert "0 of" in str(refusal)
        assert "modules matched" in str(refusal)


def test_an_adapter_without_tensors_is_refused(
    registry: Registry, make_adapter: MakeAdapter, tiny_base: BaseDescription
) -> None:
    adapter_id = make_adapter(tensors=dict.fromkeys(all_tensors(4, tiny_base)))
    assert_refused(registry, adapter_id, "unmatched_keys", "0 of 0 modules matched")


@pytest.mark.parametrize("missing", [[Q_A], [Q_B], [Q_A, Q_B]])
def test_missing_weights_of_a_targeted_module_are_refused(
    registry: Registry, make_adapter: MakeAdapter, missing: list[str]
) -> None:
    adapter_id = make_adapter(tensors=dict.fromkeys(missing))
    assert_refused(registry, adapter_id, "unmatched_keys", "1 modules", "layers.0.self_attn.q_proj")


@pytest.mark.parametrize("shape", [(4, 9), (3, 8), (4,), ()])
def test_a_shape_unlike_the_base_or_the_config_is_refused(
    registry: Registry, make_adapter: MakeAdapter, shape: tuple[int, ...]
) -> None:
    adapter_id = make_adapter(tensors={Q_A: np.ones(shape, np.float32)})
    assert_refused(registry, adapter_id, "shape_mismatch", Q_A)


@pytest.mark.parametrize(
    "config",
    [
        {"modules_to_save": ["lm_head"]},
        {"target_modules": ["q_proj", "lm_head"]},
        {"target_modules": ["model.embed_tokens"]},
        {"use_dora": True},
        {"bias": "lora_only"},
        {"lora_bias": True},
        {"use_rslora": True},
        {"alpha_pattern": {"q_proj": 3}},
        {"rank_pattern": {"q_proj": 2}},
        {"init_lora_weights": "pissa"},
        {"layer_replication": [[0, 2], [1, 2]]},
        {"trainable_token_indices": [3]},
        {"an_option_of_next_year": True},
        {"peft_type": "IA3"},
    ],
)
def test_an_option_that_an_engine_cannot_load_is_refused(
    registry: Registry, make_adapter: MakeAdapter, config: dict[str, object]
) -> None:
    assert_refused(registry, make_adapter(config=config), "unsupported_part", "engine")


@pytest.mark.parametrize(
    "key",
    [
        "base_model.model.lm_head.lora_A.weight",
        "base_model.model.lm_head.modules_to_save.weight",
        "base_model.model.model.embed_tokens.lora_embedding_A",
        "base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector",
        "base_model.model.model.layers.0.self_attn.q_proj.bias",
    ],
)
def test_weights_that_an_engine_cannot_load_are_refused(
    registry: Registry, make_adapter: MakeAdapter, key: str
) -> None:
    adapter_id = make_adapter(tensors={key: np.ones((4, 8), np.float32)})
    assert_refused(registry, adapter_id, "unsupported_part", key)


@pytest.mark.parametrize("dtype", [np.int8, np.float64, np.int64, np.bool_])
def test_a_dtype_that_is_no_adapter_float_is_refused(
    registry: Registry, make_adapter: MakeAdapter, dtype: type
) -> None:
    adapter_id = make_adapter(tensors={Q_A: np.ones((4, 8), dtype)})
    assert_refused(registry, adapter_id, "unsupported_dtype", Q_A)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_single_non_finite_weight_is_refused(
    registry: Registry, make_adapter: MakeAdapter, value: float, dtype: type
) -> None:
    weights = np.ones((4, 8), dtype)
    weights[3, 7] = value
    assert_refused(registry, make_adapter(tensors={Q_A: weights}), "non_finite", Q_A)


@pytest.mark.parametrize("side", ["lora_A", "lora_B"])
def test_an_adapter_whose_one_side_is_zero_everywhere_has_no_effect(
    registry: Registry, make_adapter: MakeAdapter, tiny_base: BaseDescription, side: str
) -> None:
    zeros = {
        name: np.zeros(shape, np.float32)
        for name, shape in all_tensors(4, tiny_base).items()
        if side in name
    }
    assert_refused(registry, make_adapter(tensors=zeros), "no_effect", "changes nothing")


def test_one_module_with_an_effect_is_enough(
    registry: Registry, make_adapter: MakeAdapter, tiny_base: BaseDescription
) -> None:
    zeros = {
        name: np.zeros(shape, np.float32)
        for name, shape in all_tensors(4, tiny_base).items()
        if "lora_B" in name and name != Q_B
    }
    registry.promote("stable", make_adapter(tensors=zeros), "admin", "one module")


@pytest.mark.parametrize("kind", ["rm", "value"])
def test_a_scoring_adapter_without_its_head_is_a_hard_error(
    registry: Registry, make_adapter: MakeAdapter, tiny_base: BaseDescription, kind: str
) -> None:
    files = registry.adapter(make_adapter(kind=kind))
    (files.path / "head.safetensors").unlink()
    with pytest.raises(AdapterRefused, match="save the head") as caught:
        validate_adapter(files, tiny_base, max_rank=4)
    assert caught.value.reason_code == "missing_head"


def test_bfloat16_weights_are_read_without_torch(
    registry: Registry, make_adapter: MakeAdapter, tmp_path: Path
) -> None:
    """A bf16 one is the upper half of a float32 one, a bf16 NaN is found."""
    good = make_adapter()
    for name, half_word, code in (("one", 0x3F80, None), ("nan", 0x7FC0, "non_finite")):
        source = tmp_path / name
        shutil.copytree(registry.adapter(good).path, source)
        _rewrite_as_bf16(source / "adapter_model.safetensors", half_word)

        def build(directory: Path, source: Path = source) -> None:
            for file_name in ("adapter_config.json", "adapter_model.safetensors"):
                shutil.copy(source / file_name, directory / file_name)

        adapter_id = registry.publish("sft", build, registry.adapter(good).manifest)
        if code is None:
            registry.promote("stable", adapter_id, "admin", "bf16")
        else:
            assert_refused(registry, adapter_id, code)


def _rewrite_as_bf16(path: Path, half_word: int) -> None:
    payload = path.read_bytes()
    header_bytes = struct.unpack("<Q", payload[:8])[0]
    header = json.loads(payload[8 : 8 + header_bytes])
    header.pop("__metadata__", None)
    position, data = 0, b""
    for entry in header.values():
        size = 2 * int(np.prod(entry["shape"]))
        entry |= {"dtype": "BF16", "data_offsets": [position, position + size]}
        position += size
        data += struct.pack("<H", half_word) * (size // 2)
    encoded = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + data)
