"""Adapters on one base: attached, told apart, taken off again; the trunk is shared truthfully."""

import threading

import pytest
import torch
from peft import LoraConfig
from tiny_llama import SMALL, add_random_adapter, tiny_model
from torch import nn

from policy.language_model import LanguageModel, LoraSettings

IDS_BT = torch.tensor([[5, 6, 7, 8], [9, 10, 0, 0]])
IS_TOKEN_BT = torch.tensor([[True] * 4, [True, True, False, False]])


def logits(model: LanguageModel, adapter: str | None, depth: int = 0) -> torch.Tensor:
    with torch.no_grad():
        return model.logits(model.hidden(model.trunk(IDS_BT, IS_TOKEN_BT, depth), adapter))


def test_a_new_adapter_changes_nothing() -> None:
    model = tiny_model()
    bare = logits(model, None)
    model.add_adapter("new", SMALL)
    assert torch.equal(logits(model, "new"), bare)


def test_the_seed_decides_a_new_adapters_weights() -> None:
    model = tiny_model()
    for name, seed in (("one", 1), ("same", 1), ("other", 2)):
        model.add_adapter(name, SMALL, seed=seed)
    one, same, other = (model.adapter_parameters(name) for name in ("one", "same", "other"))
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert any(not torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_adapters_are_frozen_float32_on_any_base_until_training_says_otherwise(
    dtype: torch.dtype,
) -> None:
    model = tiny_model(dtype=dtype)
    model.add_adapter("a", SMALL)
    parameters = model.adapter_parameters("a").values()
    assert {parameter.dtype for parameter in parameters} == {torch.float32}
    assert not any(parameter.requires_grad for parameter in parameters)
    assert model.dtype == dtype


def test_an_adapter_of_the_upper_layers_shares_the_trunk_below() -> None:
    model = tiny_model()
    add_random_adapter(model, "upper", 1, LoraSettings(rank=4, first_layer=2))
    add_random_adapter(model, "all", 2)
    assert model.shared_depth("upper", None) == 2
    assert model.shared_depth("upper", "all") == 0
    assert torch.equal(logits(model, "upper", depth=2), logits(model, "upper"))
    with pytest.raises(ValueError, match="'all' changes layers below 2"):
        logits(model, "all", depth=2)
    assert all(".layers.2." in key for key in model.adapter_parameters("upper"))


def test_padding_on_the_right_changes_no_real_position() -> None:
    model = tiny_model()
    with torch.no_grad():
        trunk = model.trunk(IDS_BT[1:, :2], IS_TOKEN_BT[1:, :2], 0)
        alone = model.logits(model.hidden(trunk, None))
    assert torch.allclose(logits(model, None)[1, :2], alone[0], atol=1e-5)


def test_removing_an_adapter_leaves_the_others_and_frees_its_name() -> None:
    model = tiny_model()
    add_random_adapter(model, "a", 1)
    add_random_adapter(model, "b", 2)
    expected = logits(model, "b")
    model.remove_adapter("a")
    assert model.adapters == ("b",)
    assert torch.equal(logits(model, "b"), expected)
    add_random_adapter(model, "a", 3)  # CASES B14: the name's old weights are gone
    fresh = tiny_model()
    add_random_adapter(fresh, "a", 3)
    assert torch.allclose(logits(model, "a"), logits(fresh, "a"), atol=1e-5)


def test_the_base_answers_as_before_after_the_last_adapter_is_gone() -> None:
    model = tiny_model()
    bare = logits(model, None)
    add_random_adapter(model, "a", 1)
    model.remove_adapter("a")
    assert model.adapters == ()
    assert torch.equal(logits(model, None), bare)
    add_random_adapter(model, "b", 1)
    assert not torch.equal(logits(model, "b"), bare)


def test_a_name_is_attached_once() -> None:
    model = tiny_model()
    model.add_adapter("a", SMALL)
    with pytest.raises(ValueError, match="already attached"):
        model.add_adapter("a", SMALL)


@pytest.mark.parametrize("has_other", [False, True])
def test_an_adapter_of_modules_that_do_not_exist_is_refused_and_leaves_nothing(
    has_other: bool,
) -> None:
    model = tiny_model()
    if has_other:
        add_random_adapter(model, "a", 1)
    with pytest.raises(ValueError, match="nowhere"):
        model.attach("b", LoraConfig(target_modules=["nowhere"]))
    assert "b" not in model.adapters
    add_random_adapter(model, "b", 2)
    assert "b" in model.adapters


def test_weights_of_other_keys_or_shapes_are_refused_and_nothing_is_written() -> None:
    model = tiny_model()
    add_random_adapter(model, "a", 1)
    weights = {key: value.clone() for key, value in model.adapter_parameters("a").items()}
    expected = logits(model, "a")
    zeros = {key: torch.zeros_like(value) for key, value in weights.items()}
    first, last = min(weights), max(weights)
    for broken in (
        {key: value for key, value in zeros.items() if key != last},
        zeros | {"base_model.model._orig_mod.lora_A.weight": torch.zeros(1)},
        zeros | {last: torch.zeros(1, 1)},
    ):
        with pytest.raises(ValueError, match="'a'"):
            model.set_weights("a", broken)
        assert torch.equal(logits(model, "a"), expected)
    model.set_weights("a", zeros)
    assert torch.equal(model.adapter_parameters("a")[first], zeros[first])


def test_linear_modules_are_named_as_in_adapter_files_before_and_after_wrapping() -> None:
    model = tiny_model()
    names = sorted(model.linear_modules())
    assert len(names) == 3 * 7
    assert names[0] == "model.layers.0.mlp.down_proj"
    add_random_adapter(model, "a", 1)
    assert sorted(model.linear_modules()) == names
    files = {f"base_model.model.{name}.lora_A.weight" for name in names}
    assert files < set(model.adapter_parameters("a"))


def test_attaching_from_two_threads_leaves_torch_as_it_was() -> None:
    model = tiny_model()  # CASES B11
    names = [f"adapter-{i}" for i in range(6)]
    threads = [
        threading.Thread(target=add_random_adapter, args=(model, name, i))
        for i, name in enumerate(names)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(model.adapters) == set(names)
    assert nn.Linear(2, 2).weight.device.type == "cpu"
    for i, name in enumerate(names):
        fresh = tiny_model()
        add_random_adapter(fresh, name, i)
        assert torch.allclose(logits(model, name), logits(fresh, name), atol=1e-5)
