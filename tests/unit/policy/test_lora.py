"""A routed layer adds exactly the low-rank update of each row's adapter."""

import itertools

import pytest
import torch
from tiny_llama import add_random_adapter, tiny_model
from torch.nn.functional import linear

from policy.lora import LowRankLinear, Route, RoutedLinear


def some_layer(dtype: torch.dtype = torch.float32) -> RoutedLinear:
    model = tiny_model(dtype=dtype)
    add_random_adapter(model, "a", 1)
    add_random_adapter(model, "b", 2)
    layer: RoutedLinear = model._network.model.layers[1].mlp.up_proj
    return layer


def expected(layer: RoutedLinear, x: torch.Tensor, name: str | None) -> torch.Tensor:
    weight = layer.get_base_layer().weight
    if name is not None:
        update = layer.lora_B[name].weight @ layer.lora_A[name].weight
        weight = weight + layer.scaling[name] * update
    return linear(x, weight)


def test_one_adapter_for_every_row_is_the_merged_weight() -> None:
    layer, x = some_layer(), torch.randn(2, 3, 32)
    for name in (None, "a", "b"):
        with layer.route.through(name):
            assert torch.allclose(layer(x), expected(layer, x, name), atol=1e-5)


def test_each_row_goes_through_its_own_adapter() -> None:
    layer, x = some_layer(), torch.randn(5, 2, 32)
    names = ["b", None, "a", "b", "a"]
    with layer.route.through_each(names), torch.no_grad():
        out = layer(x)
    for row, name in enumerate(names):
        assert torch.allclose(out[row], expected(layer, x[row], name), atol=1e-5)


def test_a_layer_without_the_adapter_is_the_bare_base() -> None:
    layer, x = some_layer(), torch.randn(2, 32)
    with layer.route.through("elsewhere"):
        assert torch.equal(layer(x), expected(layer, x, None))
    with layer.route.through_each(["elsewhere", "a"]), torch.no_grad():
        assert torch.allclose(layer(x)[0], expected(layer, x[0], None), atol=1e-6)


def test_leaving_a_block_restores_the_route_of_the_block_around_it() -> None:
    route = Route()
    with route.through("a"):
        with route.through_each(["b", None]):
            assert route.rows is not None
            with route.through(None):
                assert (route.adapter, route.rows) == (None, None)
            assert route.rows is not None
        assert (route.adapter, route.rows) == ("a", None)
    assert (route.adapter, route.rows) == (None, None)


def test_gradients_equal_those_of_the_plain_formula() -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(2, 3, 6), torch.randn(5, 6)
    down, up, bias = torch.randn(2, 6), torch.randn(5, 2), torch.randn(5)
    grad = torch.randn(2, 3, 5)
    for tensor in (x, down, up):
        tensor.requires_grad_(True)
    out = LowRankLinear.apply(x, weight, bias, down, up, 0.5)
    ours = torch.autograd.grad(out, (x, down, up), grad)
    plain = linear(x, weight, bias) + 0.5 * linear(linear(x, down), up)
    theirs = torch.autograd.grad(plain, (x, down, up), grad)
    assert torch.allclose(out, plain, atol=1e-5)
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_decoding_uses_the_weights_as_they_are_now_whoever_changed_them(
    dtype: torch.dtype,
) -> None:
    layer = some_layer(dtype)
    x = torch.randn(3, 32).to(dtype)
    up = layer.lora_B["a"].weight
    optimizer = torch.optim.AdamW([up], lr=0.1)

    def step() -> None:
        up.grad = torch.ones_like(up)
        optimizer.step()

    def copy() -> None:
        with torch.no_grad():
            up.copy_(torch.randn_like(up))

    def replace() -> None:
        up.data = torch.randn_like(up)

    seen = []
    for change in (lambda: None, step, copy, replace, step):
        change()
        with layer.route.through("a"):
            with torch.no_grad():
                quick = layer(x)
            slow = layer(x)
        with layer.route.through_each(["a", None, "a"]), torch.inference_mode():
            mixed = layer(x)
        assert torch.allclose(quick, slow, atol=1e-6, rtol=1e-2)
        assert torch.allclose(mixed[::2], slow[::2], atol=1e-6, rtol=1e-1)
        seen.append(quick)
    assert all(not torch.equal(one, other) for one, other in itertools.pairwise(seen))


def test_a_deleted_adapter_leaves_no_copy_behind() -> None:
    layer, x = some_layer(), torch.randn(2, 32)
    with layer.route.through_each(["a", "b"]), torch.no_grad():
        layer(x)
    assert set(layer._kept) == {"a", "b"}
    layer.delete_adapter("a")
    assert set(layer._kept) == {"b"}
