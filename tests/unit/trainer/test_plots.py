"""Drawings stay inside their frame, say what they show, and leave gaps where nothing is known."""

import re
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from trainer.plots import BAR_WIDTH, HEIGHT, WIDTH, curve, interval

finite = st.floats(-1e6, 1e6)


def points_of(drawing: str) -> list[tuple[float, float]]:
    lines = re.findall(r'points="([^"]*)"', drawing)
    pairs = [pair.split(",") for line in lines for pair in line.split()]
    return [(float(x), float(y)) for x, y in pairs]


@given(st.lists(finite, min_size=1, max_size=60))
def test_every_point_of_a_curve_lies_in_its_frame(values: list[float]) -> None:
    points = points_of(curve(values, "score"))
    assert len(points) == len(values)
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in points)


@given(st.lists(finite, min_size=2, max_size=60))
def test_a_larger_value_is_never_drawn_lower(values: list[float]) -> None:
    heights = [y for _, y in points_of(curve(values, "score"))]
    order = sorted(range(len(values)), key=lambda i: values[i])
    assert all(heights[a] >= heights[b] for a, b in pairwise(order))


def test_an_unknown_value_leaves_a_gap() -> None:
    drawing = curve([1.0, 2.0, None, 3.0], "score")
    assert drawing.count("<polyline") == 2
    assert len(points_of(drawing)) == 3


def test_without_a_value_there_is_no_drawing() -> None:
    assert "<svg" not in curve([], "score")
    assert "<svg" not in curve([None], "score")


def test_labels_are_escaped() -> None:
    assert "<b>" not in curve([1.0], "<b>")


@given(st.tuples(*[st.floats(0, 1)] * 3).map(sorted))
def test_an_interval_lies_within_its_bar_in_order(bounds: list[float]) -> None:
    low, estimate, high = bounds
    drawing = interval(estimate, low, high)
    found = re.search(r'whisker" d="M([\d.]+) \d+H([\d.]+)".*cx="([\d.]+)"', drawing)
    assert found is not None
    left, right, dot = map(float, found.groups())
    assert 0 <= left <= dot <= right <= BAR_WIDTH
