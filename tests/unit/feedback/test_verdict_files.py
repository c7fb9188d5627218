"""Verdicts can be renewed, cards cannot; neither takes a path for a name."""

from collections.abc import Callable

import pytest

from feedback.registry import Registry

MakeAdapter = Callable[..., str]


def test_a_later_verdict_replaces_the_earlier(
    registry: Registry, make_adapter: MakeAdapter
) -> None:
    adapter_id = make_adapter()
    assert registry.verdict(adapter_id, "offline") is None
    for passed in (True, False):
        registry.write_verdict(adapter_id, "offline", {"passed": passed, "win_rate": 0.5})
        assert registry.verdict(adapter_id, "offline") == {"passed": passed, "win_rate": 0.5}


@pytest.mark.parametrize("verdict", [{}, {"passed": "yes"}, {"passed": 1}, {"pased": True}])
def test_a_verdict_says_passed_or_not(
    registry: Registry, make_adapter: MakeAdapter, verdict: dict[str, object]
) -> None:
    with pytest.raises(ValueError, match="`passed`"):
        registry.write_verdict(make_adapter(), "offline", verdict)


def test_a_damaged_verdict_is_an_error_not_a_pass(
    registry: Registry, make_adapter: MakeAdapter
) -> None:
    adapter_id = make_adapter()
    registry.write_verdict(adapter_id, "live", {"passed": True})
    (registry.data_dir / "verdicts" / adapter_id / "live.json").write_text('{"passed": tr')
    with pytest.raises(ValueError, match="judge the adapter again"):
        registry.promote("stable", adapter_id, "gate", "")


@pytest.mark.parametrize("name", ["", "..", "a/b", "../offline", "Offline", ".hidden"])
def test_a_verdict_name_is_no_path(
    registry: Registry, make_adapter: MakeAdapter, name: str
) -> None:
    with pytest.raises(ValueError, match="not allowed"):
        registry.write_verdict(make_adapter(), name, {"passed": True})


def test_a_card_is_written_whole_and_never_changed(registry: Registry) -> None:
    files = {"card.json": b"{}", "card.html": b"<html>"}
    path = registry.write_card("refresh-1", files)
    assert {file.name: file.read_bytes() for file in path.iterdir()} == files
    assert registry.write_card("refresh-1", files) == path
    with pytest.raises(ValueError, match="take a new card_id"):
        registry.write_card("refresh-1", {"card.json": b"[]"})
    assert (path / "card.json").read_bytes() == b"{}"
    assert list(registry.incoming_directory.iterdir()) == []


@pytest.mark.parametrize("name", ["", "..", "a/b", "/etc/x", ".hidden"])
def test_a_card_name_is_no_path(registry: Registry, name: str) -> None:
    for card_id, file_name in ((name, "card.json"), ("card", name)):
        with pytest.raises(ValueError, match="not allowed"):
            registry.write_card(card_id, {file_name: b""})
