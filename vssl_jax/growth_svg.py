"""The curves of vssl_jax.growth as one SVG file that stands alone: a panel an axis, both of its scales logarithmic.

The idea: every curve starts at 1, its own first value, so that one panel holds FLOPs and bytes alike; the dashed line is linear growth, and what
rises above it grows faster. Curves that meet are told apart by color and by mark, and the slopes stand over each panel in the same colors.
"""

import html
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from vssl_jax.growth import Axis, Curve

COLORS = ("#3060c0", "#c05020", "#208050", "#8040a0")
MARKS = ("circle", "square", "triangle", "diamond")
_PANEL, _HEIGHT, _COLUMNS = 320, 280, 3
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 22, 48, 48
_HEAD = 30


def draw(axes: Sequence["Axis"], meanings: Mapping[str, str], title: str) -> str:
    """The file. `meanings` say what stands along each axis."""
    names = list(dict.fromkeys(curve.name for axis in axes for curve in axis.curves))
    rows = -(-(len(axes) + 1) // _COLUMNS)  # the last place is the legend's
    width, height = _PANEL * _COLUMNS, _HEAD + _HEIGHT * rows
    parts = [f'<text x="{width / 2}" y="20" text-anchor="middle" font-size="14">{html.escape(title)}</text>']
    for place, content in enumerate([*(_panel(axis, meanings[axis.name], names) for axis in axes), _legend(names)]):
        x, y = _PANEL * (place % _COLUMNS), _HEAD + _HEIGHT * (place // _COLUMNS)
        parts.append(f'<g transform="translate({x} {y})">{content}</g>')
    style = 'font-family="sans-serif" font-size="11" fill="#222"'
    said = html.escape(describe(axes))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" {style} role="img">'
    return f'{head}<title>{said}</title><rect width="{width}" height="{height}" fill="#fff"/>{"".join(parts)}</svg>\n'


def two_digits(slope: float) -> str:
    """'1.20'; never '-0.00'."""
    return f"{round(slope, 2) + 0.0:.2f}"


def describe(axes: Sequence["Axis"]) -> str:
    """The picture in words."""
    slopes = (f"with {axis.name}: " + ", ".join(f"{curve.name} {two_digits(curve.slope)}" for curve in axis.curves) for axis in axes)
    return "Slopes of growth " + "; ".join(slopes)


def _panel(axis: "Axis", meaning: str, names: Sequence[str]) -> str:
    x_N = axis.curves[0].x_N
    ratios = [curve.y_N / curve.y_N[0] for curve in axis.curves]
    across, low, high = x_N[-1] / x_N[0], min(r.min() for r in ratios), max(r.max() for r in ratios)
    to_x = _log_scale(x_N[0], x_N[-1], _LEFT, _PANEL - _RIGHT)
    to_y = _log_scale(min(0.9, low / 1.1), max(1.2 * high, 2.0), _HEIGHT - _BOTTOM, _TOP)
    parts = [f'<text x="{_LEFT}" y="14" font-size="12" font-weight="bold">{html.escape(axis.name)}</text>', _slopes(axis, names)]
    for tick in ticks(min(0.9, low / 1.1), max(1.2 * high, 2.0)):
        y = to_y(tick)
        parts.append(f'<path d="M{_LEFT} {y:.1f}H{_PANEL - _RIGHT}" stroke="#ddd"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}x</text>')
    for x, label in zip(x_N, axis.labels, strict=True):
        parts.append(f'<text x="{to_x(x):.1f}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">{html.escape(label)}</text>')
    parts.append(
        f'<text x="{(_LEFT + _PANEL - _RIGHT) / 2}" y="{_HEIGHT - 14}" text-anchor="middle" fill="#666">{html.escape(meaning)}</text>'
    )
    reach = min(across, max(1.2 * high, 2.0))  # of the line of linear growth, inside the panel
    parts.append(
        f'<path d="M{to_x(x_N[0]):.1f} {to_y(1):.1f}L{to_x(x_N[0] * reach):.1f} {to_y(reach):.1f}" stroke="#999" stroke-dasharray="4 3"/>'
    )
    parts += [_curve(curve, ratio_N, to_x, to_y, names) for curve, ratio_N in zip(axis.curves, ratios, strict=True)]
    return "".join(parts)


def _slopes(axis: "Axis", names: Sequence[str]) -> str:
    """Over the panel, each in its color."""
    words = [f'<tspan fill="{_color(curve, names)}">{two_digits(curve.slope)}</tspan>' for curve in axis.curves]
    return f'<text x="{_LEFT}" y="32">slopes ' + '<tspan fill="#666">, </tspan>'.join(words) + "</text>"


def _curve(curve: "Curve", ratio_N: np.ndarray, to_x: Callable, to_y: Callable, names: Sequence[str]) -> str:
    color, mark = _color(curve, names), MARKS[names.index(curve.name) % len(MARKS)]
    spots = [(to_x(x), to_y(y)) for x, y in zip(curve.x_N, ratio_N, strict=True)]
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in spots)
    return f'<path d="M{path}" fill="none" stroke="{color}" stroke-width="1.6"/>' + "".join(_mark(mark, x, y, color) for x, y in spots)


def _color(curve: "Curve", names: Sequence[str]) -> str:
    return COLORS[names.index(curve.name) % len(COLORS)]


def _mark(mark: str, x: float, y: float, color: str) -> str:
    if mark == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{color}"/>'
    points = {
        "square": [(-3, -3), (3, -3), (3, 3), (-3, 3)],
        "triangle": [(0, -4), (4, 3), (-4, 3)],
        "diamond": [(0, -4.5), (4.5, 0), (0, 4.5), (-4.5, 0)],
    }[mark]
    return f'<polygon points="{" ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in points)}" fill="{color}"/>'


def _legend(names: Sequence[str]) -> str:
    parts = ['<text x="48" y="70" fill="#666">each beside its first value</text>']
    for i, name in enumerate(names):
        y = 96 + 22 * i
        parts.append(f'<path d="M48 {y}h28" stroke="{COLORS[i % len(COLORS)]}" stroke-width="1.6"/>')
        parts.append(_mark(MARKS[i % len(MARKS)], 62, y, COLORS[i % len(COLORS)]) + f'<text x="86" y="{y + 4}">{html.escape(name)}</text>')
    y = 96 + 22 * len(names)
    return "".join([*parts, f'<path d="M48 {y}h28" stroke="#999" stroke-dasharray="4 3"/><text x="86" y="{y + 4}">linear growth</text>'])


def _log_scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    """From values to places: low -> start, high -> end."""
    span = math.log(high / low)
    return lambda value: start + (end - start) * math.log(value / low) / span


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """At most `most` values within [low, high], each 1, 2 or 5 times a power of ten, or powers of ten alone, or every second of them ..."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors, step in (((1, 2, 5), 1), ((1, 3), 1), *(((1,), n) for n in (1, 2, 3, 4, 6))):
        found = [factor * 10.0**power for power in powers if power % step == 0 for factor in factors]
        found = [value for value in found if low <= value <= high]
        if len(found) <= most:
            return found
    raise AssertionError(f"no ticks for {low} to {high}")
