"""Promotion asks for proof, rollback goes back, and the base is named like everything else."""

from collections.abc import Callable
from pathlib import Path

import pytest

from feedback.adapter_files import AdapterRefused
from feedback.base_description import BaseDescription
from feedback.channels import ChannelError
from feedback.registry import Registry

MakeAdapter = Callable[..., str]


def test_sequence_zero_of_stable_names_the_base(
    registry: Registry, tiny_base: BaseDescription
) -> None:
    registry.bind_base(tiny_base)  # a second start changes nothing
    assert [entry.sequence for entry in registry.history("stable")] == [0]
    assert registry.current("stable").adapter_id == "base-0123456789abcdef"
    assert registry.base() == tiny_base


def test_another_base_is_refused_by_name(registry: Registry, tiny_base: BaseDescription) -> None:
    other = tiny_base.model_copy(update={"base_id": "other", "weights_hash": "f" * 64})
    with pytest.raises(ValueError, match=r"belongs to base tiny-llama .* not other") as caught:
        registry.bind_base(other)
    assert "base_id, weights_hash" in str(caught.value)
    assert registry.base() == tiny_base


def test_without_a_base_nothing_is_promoted(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no base yet"):
        Registry.open(tmp_path).promote("stable", "base-0123456789abcdef", "ann", "x")


def test_a_promotion_is_recorded_with_who_and_why(
    registry: Registry, make_adapter: MakeAdapter
) -> None:
    entry = registry.promote("stable", make_adapter(), "ann", " it is better ")
    assert registry.current("stable") == entry
    assert (entry.sequence, entry.by, entry.reason) == (1, "ann", "it is better")


def test_stable_needs_a_live_verdict_or_a_reason(
    registry: Registry, make_adapter: MakeAdapter
) -> None:
    adapter_id = make_adapter()
    for verdict in (None, {"passed": False}):
        if verdict:
            registry.write_verdict(adapter_id, "live", verdict)
        registry.write_verdict(adapter_id, "offline", {"passed": True})
        with pytest.raises(AdapterRefused, match="live verdict or a reason") as caught:
            registry.promote("stable", adapter_id, "ann", "  ")
        assert caught.value.reason_code == "no_verdict"
    registry.write_verdict(adapter_id, "live", {"passed": True})
    assert registry.promote("stable", adapter_id, "gate", "").adapter_id == adapter_id


def test_candidate_needs_an_offline_verdict_and_no_reason_replaces_it(
    registry: Registry, make_adapter: MakeAdapter, tiny_base: BaseDescription
) -> None:
    adapter_id = make_adapter()
    registry.write_verdict(adapter_id, "live", {"passed": True})
    for name in (adapter_id, tiny_base.adapter_id):
        with pytest.raises(AdapterRefused, match="run the gate") as caught:
            registry.promote("candidate", name, "ann", "I want it")
        assert caught.value.reason_code == "no_verdict"
    registry.write_verdict(adapter_id, "offline", {"passed": True, "win_rate_low": 0.6})
    assert registry.promote("candidate", adapter_id, "gate", "").sequence == 0


def test_another_channel_needs_a_reason(registry: Registry, make_adapter: MakeAdapter) -> None:
    adapter_id = make_adapter()
    with pytest.raises(AdapterRefused, match="needs a reason"):
        registry.promote("shadow", adapter_id, "ann", "")
    registry.promote("shadow", adapter_id, "ann", "compare")
    assert registry.list_channels() == ["shadow", "stable"]


@pytest.mark.parametrize("kind", ["rm", "value"])
def test_an_adapter_that_scores_cannot_be_served(
    registry: Registry, make_adapter: MakeAdapter, kind: str
) -> None:
    with pytest.raises(AdapterRefused, match="scores text") as caught:
        registry.promote("stable", make_adapter(kind=kind), "ann", "x")
    assert caught.value.reason_code == "not_servable"


@pytest.mark.parametrize("adapter_id", ["../../etc", "org/repo", "/etc/passwd", "sft-" + "0" * 16])
def test_an_id_that_is_not_published_is_refused_before_any_path_is_made(
    registry: Registry, adapter_id: str
) -> None:
    before = sorted(registry.data_dir.rglob("*"))
    attempts: list[Callable[[], object]] = [
        lambda: registry.promote("stable", adapter_id, "ann", "x"),
        lambda: registry.adapter(adapter_id),
        lambda: registry.verify(adapter_id),
        lambda: registry.write_verdict(adapter_id, "live", {"passed": True}),
    ]
    for attempt in attempts:
        with pytest.raises(AdapterRefused) as caught:
            attempt()
        assert caught.value.reason_code == "unknown_adapter"
    assert sorted(registry.data_dir.rglob("*")) == before


def test_the_base_of_another_directory_is_refused(registry: Registry) -> None:
    with pytest.raises(AdapterRefused) as caught:
        registry.promote("stable", "base-" + "f" * 16, "ann", "x")
    assert caught.value.reason_code == "base_mismatch"


def test_rollback_returns_to_the_last_other_adapter_and_says_why(
    registry: Registry, make_adapter: MakeAdapter, tiny_base: BaseDescription
) -> None:
    first, second = make_adapter(seed=1), make_adapter(seed=2)
    for adapter_id in (first, second, second):
        registry.promote("stable", adapter_id, "ann", "better")
    entry = registry.rollback("stable", "bob", "complaints")
    assert (entry.adapter_id, entry.by, entry.sequence) == (first, "bob", 4)
    assert "complaints" in entry.reason
    assert len(registry.history("stable")) == 5  # history is never rewritten


def test_rollback_of_the_first_adapter_returns_to_the_base(
    registry: Registry, make_adapter: MakeAdapter, tiny_base: BaseDescription
) -> None:
    registry.promote("stable", make_adapter(), "ann", "better")
    assert registry.rollback("stable", "bob", "worse").adapter_id == tiny_base.adapter_id


def test_rollback_needs_a_reason_and_somewhere_to_go(registry: Registry) -> None:
    with pytest.raises(ChannelError, match="never named another"):
        registry.rollback("stable", "bob", "worse")
    with pytest.raises(ValueError, match="needs a reason"):
        registry.rollback("stable", "bob", " ")


def test_rollback_to_a_damaged_adapter_is_refused(
    registry: Registry, make_adapter: MakeAdapter
) -> None:
    first, second = make_adapter(seed=1), make_adapter(seed=2)
    for adapter_id in (first, second):
        registry.promote("stable", adapter_id, "ann", "better")
    (registry.adapter(first).path / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(AdapterRefused):
        registry.rollback("stable", "bob", "worse")
    assert registry.current("stable").adapter_id == second


def test_the_rank_limit_of_promotion_is_the_registry_s(
    registry: Registry, make_adapter: MakeAdapter
) -> None:
    adapter_id = make_adapter(rank=8)
    strict = Registry.open(registry.data_dir, max_rank=4)
    with pytest.raises(AdapterRefused, match="takes 4 at most"):
        strict.promote("stable", adapter_id, "ann", "x")
    registry.promote("stable", adapter_id, "ann", "x")
