"""Line charts as inline SVG, styled by the page's CSS so that they follow light and dark."""

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from markupsafe import Markup

WIDTH, HEIGHT = 360, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 14, 12, 30
_MOST_MARKERS = 24

Points = Sequence[tuple[int, float]]


class Series(NamedTuple):
    """One line of a chart.

    Attributes:
        title: Said by the tooltip.
        points: (step, value), sorted by step.
        colour: Number of the colour and dash pattern in ``report.css``.
        is_thin: A single seed beside the mean of its group.
    """

    title: str
    points: Points
    colour: int = 0
    is_thin: bool = False


class _Scale(NamedTuple):
    """Linear map of data to pixels, with its ticks."""

    ticks: list[float]
    low: float
    high: float
    start: int
    end: int

    def __call__(self, value: float | int) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)


def line_chart(title: str, series: Sequence[Series], *, from_zero: bool = True) -> Markup:
    """Return an SVG element with every series over steps.

    Args:
        title: Name of the value; it and the last values are the chart's text alternative.
        series: Empty ones are left out.
        from_zero: Whether the vertical axis begins at 0.

    Raises:
        ValueError: If no series has a point.
    """
    series = [one._replace(points=_finite(one.points)) for one in series]
    series = [one for one in series if one.points]
    if not series:
        raise ValueError(f"the chart of {title} has no points.")
    steps = [step for one in series for step, _ in one.points]
    values = [value for one in series for _, value in one.points]
    first, last = float(min(0, *steps)), float(max(steps))
    x = _scale(first, last, start=_LEFT, end=WIDTH - _RIGHT, is_tight=True)
    low = min(0.0, *values) if from_zero else min(values)
    y = _scale(low, max(values), start=HEIGHT - _BOTTOM, end=_TOP)
    parts = [_grid(x, y), *(_line(one, x, y) for one in series)]
    label = escape(_description(title, series), quote=True)
    return Markup(
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">'
        + "".join(parts)
        + "</svg>"
    )


def mean_series(series: Sequence[Points]) -> list[tuple[int, float]]:
    """Return the mean over the steps that all series have."""
    values = [dict(points) for points in series]
    shared = set.intersection(*(set(one) for one in values)) if values else set()
    return [(step, sum(one[step] for one in values) / len(values)) for step in sorted(shared)]


def nice_ticks(low: float, high: float, *, count: int = 4) -> list[float]:
    """Return round numbers, about ``count`` steps apart, that enclose low and high.

    >>> nice_ticks(0.0, 72.0)
    [0.0, 20.0, 40.0, 60.0, 80.0]
    """
    is_flat = high - low <= 1e-6 * max(abs(low), abs(high), 1e-6)
    span = max(abs(high), 1.0) if is_flat else high - low
    raw = span / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil((low + span) / step - 1e-9)
    return [float(f"{number * step:.10g}") for number in range(first, last + 1)]


def _finite(points: Points) -> list[tuple[int, float]]:
    return [(step, value) for step, value in points if math.isfinite(value)]


def _scale(low: float, high: float, *, start: int, end: int, is_tight: bool = False) -> _Scale:
    ticks = nice_ticks(low, high)
    if is_tight and high > low:
        ticks = [tick for tick in ticks if low <= tick <= high]
        return _Scale(ticks, low, high, start, end)
    return _Scale(ticks, ticks[0], ticks[-1], start, end)


def _grid(x: _Scale, y: _Scale) -> str:
    right, bottom = WIDTH - _RIGHT, HEIGHT - _BOTTOM
    lines = [
        f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y(tick)}" y2="{y(tick)}"/>'
        f'<text x="{_LEFT - 6}" y="{y(tick) + 4}" text-anchor="end">{_short(tick)}</text>'
        for tick in y.ticks
    ]
    lines += [
        f'<line class="tick" x1="{x(tick)}" x2="{x(tick)}" y1="{bottom}" y2="{bottom + 4}"/>'
        f'<text x="{x(tick)}" y="{HEIGHT - 10}" text-anchor="middle">{_short(tick)}</text>'
        for tick in x.ticks
    ]
    return "".join(lines)


def _line(series: Series, x: _Scale, y: _Scale) -> str:
    points = [(x(step), y(value)) for step, value in series.points]
    path = " ".join(f"{left},{top}" for left, top in points)
    kind = f"line c{series.colour}{' thin' if series.is_thin else ''}"
    drawn = f'<polyline class="{kind}" points="{path}"/>'
    if series.is_thin:
        return drawn
    every = 1 + len(points) // (2 * _MOST_MARKERS)
    mark = "mark" if len(points) <= _MOST_MARKERS else "mark hidden"
    for index in sorted({*range(0, len(points), every), len(points) - 1}):
        step, value = series.points[index]
        left, top = points[index]
        note = escape(f"{series.title}, step {step}: {value:.4g}")
        drawn += (
            f'<circle class="{mark} c{series.colour}" cx="{left}" cy="{top}" r="3">'
            f"<title>{note}</title></circle>"
        )
    return drawn


def _description(title: str, series: Sequence[Series]) -> str:
    last = "; ".join(
        f"{one.title} ends at {one.points[-1][1]:.4g}" for one in series if not one.is_thin
    )
    return f"{title} over training steps: {last}"


def _short(value: float) -> str:
    if abs(value) >= 1000:
        return f"{value / 1000:g}k"
    return f"{value:g}"
