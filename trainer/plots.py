"""Two small drawings as inline SVG: a curve and an interval; they do not know what they show.

Colours come from the page's CSS variables, so that one drawing serves light and dark.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from markupsafe import Markup

WIDTH, HEIGHT = 220, 84
LEFT, RIGHT, TOP, BOTTOM = 40, 44, 8, 8
BAR_WIDTH, BAR_HEIGHT = 200, 16

_CURVE = Markup(
    '<svg class="curve" viewBox="0 0 {width} {height}" role="img" aria-label="{label}">'
    '<path class="frame" d="M{left} {top}V{bottom}H{right}"/>{lines}'
    '<text class="scale" x="{scale_x}" y="{top_y}">{most}</text>'
    '<text class="scale" x="{scale_x}" y="{bottom_y}">{least}</text>'
    '<circle class="dot" cx="{x}" cy="{y}" r="2.5"/>'
    '<text x="{text_x}" y="{text_y}">{last}</text></svg>'
)
_LINE = Markup('<polyline class="line" points="{}"/>')
_EMPTY = Markup('<p class="quiet">no figures</p>')
_INTERVAL = Markup(
    '<svg class="interval" viewBox="0 0 {width} {height}" role="img" aria-label="{label}">'
    '<path class="frame" d="M0 {middle}H{width}"/>'
    '<path class="reference" d="M{reference} 0V{height}"/>'
    '<path class="whisker" d="M{low} {middle}H{high}"/>'
    '<circle class="dot" cx="{estimate}" cy="{middle}" r="4"/></svg>'
)


def curve(values: Sequence[float | None], label: str) -> Markup:
    """Draw values over their index with its range and last one written out; None leaves a gap."""
    known = [value for value in values if value is not None]
    if not known:
        return _EMPTY
    least, most = min(known), max(known)
    points = _place(values, least, most)
    solid = (group for is_gap, group in groupby(points, lambda p: p is None) if not is_gap)
    lines = Markup().join(
        _LINE.format(" ".join(f"{x:.1f},{y:.1f}" for x, y in filter(None, group)))
        for group in solid
    )
    x, y = [point for point in points if point is not None][-1]
    return _CURVE.format(
        width=WIDTH,
        height=HEIGHT,
        label=f"{label}: {known[0]:.3g} to {known[-1]:.3g}",
        left=LEFT,
        right=WIDTH - RIGHT,
        top=TOP,
        bottom=HEIGHT - BOTTOM,
        scale_x=LEFT - 4,
        top_y=TOP + 6,
        bottom_y=HEIGHT - BOTTOM,
        most=f"{most:.3g}",
        least=f"{least:.3g}",
        lines=lines,
        x=f"{x:.1f}",
        y=f"{y:.1f}",
        text_x=f"{x + 6:.1f}",
        text_y=f"{y + 4:.1f}",
        last=f"{known[-1]:.3g}",
    )


def interval(estimate: float, low: float, high: float, reference: float = 0.5) -> Markup:
    """Draw an estimate in [0, 1] with its interval and a line at the reference."""
    places = {
        name: f"{BAR_WIDTH * value:.1f}"
        for name, value in [
            ("estimate", estimate),
            ("low", low),
            ("high", high),
            ("reference", reference),
        ]
    }
    label = f"{estimate:.3f}, interval {low:.3f} to {high:.3f}"
    sizes = {"width": BAR_WIDTH, "height": BAR_HEIGHT, "middle": BAR_HEIGHT // 2}
    return _INTERVAL.format(label=label, **sizes, **places)


def _place(
    values: Sequence[float | None], low: float, high: float
) -> list[tuple[float, float] | None]:
    """Map index and value to the drawing's coordinates; a flat curve runs through the middle."""
    step = (WIDTH - LEFT - RIGHT) / max(1, len(values) - 1)
    height = HEIGHT - TOP - BOTTOM
    span = high - low
    return [
        None
        if value is None
        else (
            LEFT + i * step,
            TOP + height * ((high - value) / span if span > 0 else 0.5),
        )
        for i, value in enumerate(values)
    ]
