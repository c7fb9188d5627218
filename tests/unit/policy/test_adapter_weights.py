"""Our adapters are PEFT's: the same files, the same logits, and a head that comes back exactly."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from tiny_llama import add_random_adapter, tiny_model, tiny_network

from feedback.adapter_files import AdapterFiles, AdapterManifest, AdapterRefused
from policy.adapter_weights import load_adapter, load_head, write_adapter
from policy.heads import ScalarHead
from policy.language_model import LanguageModel, LoraSettings

IDS_BT = torch.tensor([[5, 6, 7, 8, 9]])
MANIFEST = AdapterManifest(base_id="tiny", weights_hash="0" * 64, tokenizer_hash="1" * 64)


def logits(model: LanguageModel, adapter: str | None) -> torch.Tensor:
    with torch.no_grad():
        trunk = model.trunk(IDS_BT, torch.ones_like(IDS_BT, dtype=torch.bool), 0)
        return model.logits(model.hidden(trunk, adapter))


def files_at(directory: Path, kind: Any = "sft") -> AdapterFiles:
    config = json.loads((directory / "adapter_config.json").read_text())
    return AdapterFiles(f"{kind}-0123456789abcdef", kind, directory, config, MANIFEST)


def saved(directory: Path, head: ScalarHead | None = None, **settings: Any) -> torch.Tensor:
    model = tiny_model()
    add_random_adapter(model, "a", 1, LoraSettings(rank=4, **settings))
    directory.mkdir(exist_ok=True)
    write_adapter(model, "a", directory, "tiny", head)
    return logits(model, "a")


@pytest.mark.parametrize("first_layer", [0, 1])
def test_peft_loads_what_we_write_and_gives_the_same_logits(
    tmp_path: Path, first_layer: int
) -> None:
    ours = saved(tmp_path, first_layer=first_layer)
    network = tiny_network()
    network.set_attn_implementation("eager")
    theirs = PeftModel.from_pretrained(network, str(tmp_path))
    with torch.no_grad():
        assert torch.allclose(theirs(input_ids=IDS_BT).logits, ours, atol=1e-4)


def test_we_load_what_peft_writes_and_give_the_same_logits(tmp_path: Path) -> None:
    config = LoraConfig(
        r=3, lora_alpha=7, target_modules=["q_proj", "down_proj"], init_lora_weights=False
    )
    network = tiny_network()
    network.set_attn_implementation("eager")
    theirs = get_peft_model(network, config).eval()
    theirs.save_pretrained(str(tmp_path))
    model = tiny_model()
    name = load_adapter(model, files_at(tmp_path))
    with torch.no_grad():
        expected = theirs(input_ids=IDS_BT).logits
    assert torch.allclose(logits(model, name), expected, atol=1e-4)
    assert not torch.allclose(logits(model, None), expected, atol=1e-3)


def test_an_adapter_comes_back_bit_for_bit_and_frozen(tmp_path: Path) -> None:
    ours = saved(tmp_path)
    model = tiny_model()
    name = load_adapter(model, files_at(tmp_path))
    assert name == "sft-0123456789abcdef"
    assert torch.equal(logits(model, name), ours)
    assert not any(p.requires_grad for p in model.adapter_parameters(name).values())


def test_the_files_are_float32_and_name_the_base_by_its_id(tmp_path: Path) -> None:
    model = tiny_model(dtype=torch.bfloat16)
    add_random_adapter(model, "a", 1)
    write_adapter(model, "a", tmp_path, "smollm2-135m-instruct")
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "smollm2-135m-instruct"
    assert config["inference_mode"] is True
    assert model.adapter_config("a").base_model_name_or_path is None


@pytest.mark.parametrize(
    ("change", "reason_code"),
    [
        (lambda tensors: tensors.popitem(), "unmatched_keys"),
        (lambda tensors: tensors.update(extra=torch.zeros(1)), "unmatched_keys"),
        (lambda tensors: tensors.update({min(tensors): torch.zeros(2, 2)}), "unmatched_keys"),
    ],
)
def test_weights_that_do_not_fit_are_refused_and_the_model_is_as_before(
    tmp_path: Path, change: Any, reason_code: str
) -> None:
    saved(tmp_path)
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    change(tensors)
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    model = tiny_model()
    bare = logits(model, None)
    with pytest.raises(AdapterRefused) as refused:
        load_adapter(model, files_at(tmp_path))
    assert refused.value.reason_code == reason_code
    assert model.adapters == ()
    assert torch.equal(logits(model, None), bare)


def test_target_modules_that_the_base_lacks_are_refused(tmp_path: Path) -> None:
    saved(tmp_path)
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"target_modules": ["nowhere"]}))
    with pytest.raises(AdapterRefused) as refused:
        load_adapter(tiny_model(), files_at(tmp_path))
    assert refused.value.reason_code == "unknown_module"


def test_a_head_comes_back_exactly(tmp_path: Path) -> None:
    head = ScalarHead(32, seed=4)
    with torch.no_grad():
        head.bias.fill_(-1.25)
    saved(tmp_path, head)
    loaded = load_head(files_at(tmp_path, "rm"))
    hidden = torch.randn(2, 3, 32)
    assert torch.equal(loaded(hidden), head(hidden))


def test_a_missing_or_foreign_head_is_an_error_never_a_random_one(tmp_path: Path) -> None:
    saved(tmp_path)  # CASES D7
    for kind in ("rm", "value", "sft"):
        with pytest.raises(AdapterRefused) as refused:
            load_head(files_at(tmp_path, kind))
        assert refused.value.reason_code == "missing_head"
    save_file({"weight": torch.zeros(32)}, tmp_path / "head.safetensors")
    with pytest.raises(AdapterRefused) as refused:
        load_head(files_at(tmp_path, "rm"))
    assert refused.value.reason_code == "shape_mismatch"


def test_pickled_or_torn_weights_are_refused(tmp_path: Path) -> None:
    saved(tmp_path)
    weights = tmp_path / "adapter_model.safetensors"
    whole = weights.read_bytes()
    torn = whole[: len(whole) // 2]
    for content, reason in ((b"\x80\x04" * 8, "not_safetensors"), (torn, "truncated_weights")):
        weights.write_bytes(content)
        with pytest.raises(AdapterRefused) as refused:
            load_adapter(tiny_model(), files_at(tmp_path))
        assert refused.value.reason_code == reason
