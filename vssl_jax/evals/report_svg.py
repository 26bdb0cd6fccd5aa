"""Charts as inline SVG: a curve over steps and a labeled scatter.

The idea: a chart drawn here takes its colors from the page's style, so that one file reads well in light and dark, which a plotting
library's picture does not. Each carries a sentence that says what it shows, for whoever does not see it."""

import html
import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

_WIDTH, _HEIGHT = 360, 200
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 20, 12, 26
_MOST_POINTS = 400
_LOG_RATIO = 50  # a positive curve that spans more than this is drawn on a log scale
COLORS = 8  # --s0 .. --s7 in the style
SHAPES = ("circle", "square", "triangle", "diamond")


def nice_ticks(low: float, high: float, most: int = 5) -> list[float]:
    """At most `most` round values (1, 2, 2.5 or 5 times a power of ten apart) within [low, high]."""
    span = high - low
    if not span > 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(span / most))
    for factor in (1, 2, 2.5, 5, 10, 20, 25, 50):
        step = factor * power
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first < most:
            return [i * step for i in range(first, last + 1)]
    raise AssertionError(f"no ticks for {low} to {high}")


def short(value: float) -> str:
    """A number for an axis: 1200000 -> '1.2M', 0.00012 -> '1.2e-4'."""
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if suffix == 'k' else size):.4g}{suffix}"
    if 0 < abs(value) < 1e-3:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa.removesuffix('.0')}e{int(exponent)}"
    return f"{value:.4g}"


def line_chart(name: str, steps: Sequence[int], values: Sequence[float]) -> str:
    """A curve over steps. Points that are not finite leave a gap and a mark at the upper edge. A thick line, the running mean, follows
    noisy long curves."""
    steps_N, values_N = np.asarray(steps, np.float64), np.asarray(values, np.float64)
    good_N = np.isfinite(values_N)
    log = bool(good_N.any()) and values_N[good_N].min() > 0 and values_N[good_N].max() > _LOG_RATIO * values_N[good_N].min()
    y_N = np.full_like(values_N, np.nan)
    y_N[good_N] = np.log10(values_N[good_N]) if log else values_N[good_N]
    to_x, x_marks = _x_axis(steps_N)
    to_y, y_marks = _y_axis(y_N[good_N], log)
    raw = _path(*_thin(steps_N, y_N), to_x, to_y)
    mean_N = _mean_if_noisy(y_N)
    marks = [x_marks, y_marks, f'<path class="line{" raw" if mean_N is not None else ""}" d="{raw}"/>']
    if mean_N is not None:
        marks.append(f'<path class="line" d="{_path(*_thin(steps_N, mean_N), to_x, to_y)}"/>')
    if good_N.sum() == 1:
        marks.append(f'<circle class="dot" cx="{to_x(steps_N[good_N][0]):.1f}" cy="{to_y(y_N[good_N][0]):.1f}" r="3"/>')
    marks += [f'<path class="bad" d="M{to_x(step):.1f} {_TOP - 8}v8"/>' for step in steps_N[~good_N][:200]]
    return _svg("".join(marks), describe(name, steps_N, values_N) + (" Log scale." if log else ""), _WIDTH, _HEIGHT)


def describe(name: str, steps_N: np.ndarray, values_N: np.ndarray) -> str:
    """The curve in a sentence."""
    good_N = np.isfinite(values_N)
    text = f"{name}: "
    if good_N.any():
        v, s = values_N[good_N], steps_N[good_N]
        if v.min() == v.max():
            text += f"{v[0]:.4g} at every step from {s[0]:.0f} to {s[-1]:.0f}."
        else:
            text += f"{v[0]:.4g} at step {s[0]:.0f}, {v[-1]:.4g} at step {s[-1]:.0f}, lowest {v.min():.4g}, highest {v.max():.4g}."
    bad = int((~good_N).sum())
    return text + (f" {bad} of {len(values_N)} values are not finite." if bad else "")


def scatter(xy_Nx2: np.ndarray, labels_N: np.ndarray, names: Sequence[str], about: str) -> str:
    """Points [N, 2] with color and shape by class: the most frequent classes get one of 32 marks each, the rest are gray. `names` is by
    label; -1 is gray."""
    marks = class_marks(labels_N)
    low, high = xy_Nx2.min(axis=0), xy_Nx2.max(axis=0)
    size, pad = 480, 14
    scale = (size - 2 * pad) / max(float((high - low).max()), 1e-12)
    offset = (size - scale * (high - low)) / 2
    parts = []
    for (x, y), label in zip(offset + (xy_Nx2 - low) * scale, labels_N, strict=True):
        name = names[label] if 0 <= label < len(names) else "unlabeled" if label < 0 else f"class {label}"
        parts.append(_mark(marks.get(int(label)), x, y, 4.0, f"<title>{html.escape(name)}</title>"))
    return _svg("".join(parts), about, size, size)


def class_marks(labels_N: np.ndarray) -> dict[int, int]:
    """Label -> which of the 32 marks, by frequency, then by label."""
    counts = Counter(int(label) for label in labels_N if label >= 0)
    ranked = sorted(counts, key=lambda label: (-counts[label], label))[: COLORS * len(SHAPES)]
    return {label: i for i, label in enumerate(sorted(ranked))}


def legend_mark(mark: int | None) -> str:
    """The mark alone, for a legend; None is the gray one."""
    return f'<svg class="key" viewBox="0 0 12 12" width="12" height="12" aria-hidden="true">{_mark(mark, 6, 6, 5.0)}</svg>'


def _mark(mark: int | None, x: float, y: float, r: float, inside: str = "") -> str:
    color = "rest" if mark is None else f"s{mark % COLORS}"
    shape = SHAPES[0] if mark is None else SHAPES[mark // COLORS]
    if shape == "circle":
        return f'<circle class="{color}" cx="{x:.1f}" cy="{y:.1f}" r="{r:g}">{inside}</circle>'
    points = {
        "square": [(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)],
        "triangle": [(0, -1.1), (1.05, 0.8), (-1.05, 0.8)],
        "diamond": [(0, -1.2), (1.2, 0), (0, 1.2), (-1.2, 0)],
    }[shape]
    text = " ".join(f"{x + r * dx:.1f},{y + r * dy:.1f}" for dx, dy in points)
    return f'<polygon class="{color}" points="{text}">{inside}</polygon>'


def _svg(content: str, about: str, width: int, height: int) -> str:
    return f'<svg class="chart" role="img" aria-label="{html.escape(about)}" viewBox="0 0 {width} {height}">{content}</svg>'


def _x_axis(steps_N: np.ndarray):
    low, high = float(steps_N.min()), float(steps_N.max())
    span = max(high - low, 1e-9)
    y = _HEIGHT - _BOTTOM

    def to_x(step: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (step - low) / span

    marks = [f'<path class="axis" d="M{_LEFT} {y}H{_WIDTH - _RIGHT}"/>']
    for tick in nice_ticks(low, high):
        marks.append(f'<text x="{to_x(tick):.1f}" y="{y + 16}" text-anchor="middle">{short(tick)}</text>')
    return to_x, "".join(marks)


def _y_axis(y_N: np.ndarray, log: bool):
    low, high = (float(y_N.min()), float(y_N.max())) if len(y_N) else (0.0, 1.0)
    pad = 0.05 * (high - low) if high > low else max(abs(high) * 0.1, 0.5)
    low, high = low - (0.0 if low == 0 and not log else pad), high + pad  # a curve that touches zero stands on the axis

    def to_y(y: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * (y - low) / (high - low)

    ticks = nice_ticks(low, high)
    if log and high - low >= 1.5:
        ticks = [float(t) for t in range(math.ceil(low), math.floor(high) + 1)]
        ticks = ticks[:: math.ceil(len(ticks) / 6)]
    marks = []
    for tick in ticks:
        label = short(10.0**tick if log else tick)
        marks.append(f'<path class="grid" d="M{_LEFT} {to_y(tick):.1f}H{_WIDTH - _RIGHT}"/>')
        marks.append(f'<text x="{_LEFT - 6}" y="{to_y(tick) + 4:.1f}" text-anchor="end">{label}</text>')
    return to_y, "".join(marks)


def _path(steps_N: np.ndarray, y_N: np.ndarray, to_x, to_y) -> str:
    text, pen_down = [], False
    for step, y in zip(steps_N, y_N, strict=True):
        if np.isfinite(y):
            text.append(f"{'L' if pen_down else 'M'}{to_x(step):.1f} {to_y(y):.1f}")
        pen_down = bool(np.isfinite(y))
    return "".join(text)


def _thin(steps_N: np.ndarray, y_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most _MOST_POINTS of a long curve: the lowest and the highest of each stretch, so that no spike is lost."""
    if len(y_N) <= _MOST_POINTS:
        return steps_N, y_N
    keep = {0, len(y_N) - 1}
    for rows in np.array_split(np.arange(len(y_N)), _MOST_POINTS // 2):
        finite = rows[np.isfinite(y_N[rows])]
        keep |= {int(finite[y_N[finite].argmin()]), int(finite[y_N[finite].argmax()])} if len(finite) else {int(rows[0])}
    rows = np.array(sorted(keep))
    return steps_N[rows], y_N[rows]


def _mean_if_noisy(y_N: np.ndarray) -> np.ndarray | None:
    """The running mean of a long curve that strays from it by half a percent of its range or more. A smooth one, such as a schedule, is
    shown as it is."""
    if len(y_N) < 80 or not np.isfinite(y_N).any():
        return None
    mean_N = _running_mean(y_N, len(y_N) // 40)
    return mean_N if np.nanmedian(np.abs(y_N - mean_N)) > 0.005 * (np.nanmax(y_N) - np.nanmin(y_N)) else None


def _running_mean(y_N: np.ndarray, width: int) -> np.ndarray:
    """Centered mean over 2 * width + 1 points, over what is finite and inside the curve."""
    good_N = np.isfinite(y_N)
    window = np.ones(2 * width + 1)
    count_N = np.convolve(good_N.astype(np.float64), window, mode="full")[width:-width]
    total_N = np.convolve(np.where(good_N, y_N, 0.0), window, mode="full")[width:-width]
    return np.where(good_N, total_N / np.maximum(count_N, 1), np.nan)
