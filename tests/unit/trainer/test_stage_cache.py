"""A finished stage is found again by all that decided it, and by nothing less."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from trainer.stage_cache import StageCache, StageResult, fingerprint

RESULT = StageResult("sft-0123456789abcdef", {"sft/loss": 0.25, "history": [{"a": 1.5}]})
IDENTITY = {"inputs": {"epochs": 2, "rate": 0.1}, "parents": {"sft": "sft-1"}, "seeds": {"rm": 0}}


def test_what_was_kept_is_found_by_a_later_process_and_nothing_else_is(tmp_path: Path) -> None:
    StageCache(tmp_path).keep("a" * 64, RESULT)
    later = StageCache(tmp_path)
    assert later.find("a" * 64) == RESULT
    assert later.find("b" * 64) is None
    assert StageCache(tmp_path / "elsewhere").find("a" * 64) is None


def test_the_latest_result_of_a_fingerprint_counts(tmp_path: Path) -> None:
    cache = StageCache(tmp_path)
    cache.keep("a" * 64, RESULT)
    cache.keep("a" * 64, StageResult("sft-fedcba9876543210", {}))
    assert cache.find("a" * 64) == StageResult("sft-fedcba9876543210", {})


def test_a_fingerprint_is_64_hex_digits_that_do_not_depend_on_the_order_of_keys() -> None:
    found = fingerprint(IDENTITY)
    assert len(found) == 64
    assert set(found) <= set("0123456789abcdef")
    assert fingerprint(dict(reversed(IDENTITY.items()))) == found


@given(st.sampled_from(["inputs", "parents", "seeds"]), st.text(min_size=1), st.integers())
def test_any_part_of_the_identity_changes_the_fingerprint(part: str, key: str, value: int) -> None:
    changed = {**IDENTITY, part: {**IDENTITY[part], key: value}}
    assert (fingerprint(changed) == fingerprint(IDENTITY)) == (changed == IDENTITY)
