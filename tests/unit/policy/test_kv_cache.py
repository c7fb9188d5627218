"""The cache returns to each sequence exactly what was stored for it."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from policy.kv_cache import KeyValueCache


def new_cache(num_slots: int = 4, num_layers: int = 2) -> KeyValueCache:
    return KeyValueCache(num_layers, num_slots, 2, 8, 3, torch.float32)


def random_pair(batch: int, num_positions: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(batch, 2, num_positions, 3), torch.randn(batch, 2, num_positions, 3)


def test_a_prefill_attends_to_itself_and_later_steps_see_it() -> None:
    cache = new_cache()
    key, value = random_pair(2, 3)
    cache.begin_prefill(0)
    assert cache.update(key, value, 1)[0] is key
    new_key, new_value = random_pair(2, 1)
    cache.begin_step(torch.tensor([3, 2]))
    keys, values = cache.update(new_key, new_value, 1)
    assert keys.shape == (2, 2, 4, 3)
    assert torch.equal(keys[0], torch.cat([key[0], new_key[0]], dim=1))
    assert torch.equal(values[0], torch.cat([value[0], new_value[0]], dim=1))
    # The shorter sequence: its new token stands where its padding was.
    assert torch.equal(keys[1, :, :3], torch.cat([key[1, :, :2], new_key[1]], dim=1))


def test_a_prefill_beside_running_slots_leaves_them_alone() -> None:
    cache = new_cache()
    first, second = random_pair(1, 4), random_pair(2, 2)
    cache.begin_prefill(0)
    cache.update(*first, 0)
    cache.begin_prefill(1)
    cache.update(*second, 0)
    cache.begin_step(torch.tensor([4, 2, 2]))
    keys, _ = cache.update(*random_pair(3, 1), 0)
    assert torch.equal(keys[0, :, :4], first[0][0])
    assert torch.equal(keys[1:, :, :2], second[0])


@settings(max_examples=30)
@given(st.integers(0, 3), st.integers(0, 3), st.integers(1, 6))
def test_copying_a_slot_copies_every_layer_up_to_its_length(
    source: int, target: int, length: int
) -> None:
    cache = new_cache()
    stored = [random_pair(4, 6) for _ in range(2)]
    cache.begin_prefill(0)
    for layer, pair in enumerate(stored):
        cache.update(*pair, layer)
    cache.copy_slot(source, target, length)
    cache.begin_step(torch.full((4,), 6))
    for layer, (key, _) in enumerate(stored):
        keys, _ = cache.update(*random_pair(4, 1), layer)
        assert torch.equal(keys[target, :, :length], key[source, :, :length])
        untouched = [row for row in range(4) if row != target]
        assert torch.equal(keys[untouched, :, :6], key[untouched])
