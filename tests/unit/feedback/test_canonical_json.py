"""Equal values have one byte form and one digest."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback.canonical_json import canonical_json, digest, readable_json

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(values)
def test_both_forms_read_back_equal(value: Any) -> None:
    assert json.loads(canonical_json(value)) == value
    assert json.loads(readable_json(value)) == value


@given(st.dictionaries(st.text(), values, max_size=5))
def test_the_order_of_keys_does_not_count(value: dict[str, Any]) -> None:
    assert digest(dict(reversed(value.items()))) == digest(value)


def test_other_values_have_other_digests() -> None:
    cases: list[list[Any]] = [[], [0], [False], [None], [""], ["0"], [[0]], [{}], [0, 0], [0.5]]
    assert len({digest(case) for case in cases}) == len(cases)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_json_cannot_carry_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical_json([value])
