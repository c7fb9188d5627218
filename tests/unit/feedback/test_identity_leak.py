"""An answer that tells which model wrote it is found; one that only looks alike is not."""

from __future__ import annotations

import pytest

from feedback.identity_leak import leaks_identity

ADAPTERS = ["ppo-0123456789abcdef", "tiny", "a.b"]


@pytest.mark.parametrize(
    "text",
    [
        "I am ppo-0123456789abcdef",
        "I am PPO-0123456789ABCDEF!",
        "(rm-ffffffffffffffff)",
        "this is Tiny, hello",
        "my name is a.b.",
    ],
)
def test_a_name_is_found(text: str) -> None:
    assert leaks_identity(["clean", text], ADAPTERS)


@pytest.mark.parametrize(
    "text", ["", "ppo is an algorithm", "a tinyurl", "aXb", "ppo-0123", "a tiny-looking cat"]
)
def test_what_only_looks_like_a_name_is_not(text: str) -> None:
    assert not leaks_identity([text], ADAPTERS)


def test_without_names_only_adapter_ids_count() -> None:
    assert leaks_identity(["value-0123456789abcdef"], [])
    assert not leaks_identity(["anything else"], ["", ""])
