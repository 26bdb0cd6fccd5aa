"""What a run shows while it trains: one line that stays in place on a terminal, plain lines everywhere else.

The idea: the display never asks the device for anything. It shows the newest metrics it was given and its own clock, so it may be updated
at every step while metrics come only at logged steps. Rate and time left come from the last updates only, so compiling and a resumed run's
past do not distort them.
"""

import os
import shutil
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, TextIO

from vssl_jax.train.metrics import CLIPS_PER_SECOND, DATA_WAIT, LOSS, MFU

_WINDOW = 50  # updates from which the time left is computed
_DRAW_SECONDS = 0.1  # a terminal line is redrawn at most this often
_BLOCKS = " ▏▎▍▌▋▊▉█"


class Progress:
    """Shows step, loss, clips/s, MFU, share of time waiting for data, and the time left.

    On a terminal one line is redrawn in place; where `stream` is no terminal (a file, a pipe, TERM=dumb), one plain line comes at the first
    update, then at most every `plain_seconds`, and at the last step. `enabled` False (every process but the first) shows nothing. `clock`
    gives seconds.
    """

    def __init__(
        self,
        total_steps: int,
        start_step: int = 0,
        stream: TextIO | None = None,
        enabled: bool = True,
        plain_seconds: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._total = total_steps
        self._step = start_step
        self._stream = sys.stderr if stream is None else stream
        self._enabled = enabled
        self._clock = clock
        self._terminal = self._stream.isatty() and os.environ.get("TERM") != "dumb"
        self._interval = _DRAW_SECONDS if self._terminal else plain_seconds
        self._metrics: dict[str, float] = {}
        self._times: deque[tuple[float, int]] = deque(maxlen=_WINDOW)
        self._shown_at: float | None = None
        self._shown_step: int | None = None
        self._line_open = False

    def update(self, step: int, metrics: Mapping[str, float] | None = None) -> None:
        """`step` steps are done. `metrics` are newly known ones, by the names in train/metrics.py; others than those are not shown, old
        ones stay.
        """
        if not self._enabled:
            return
        now = self._clock()
        self._step = step
        self._metrics |= {name: float(value) for name, value in ({} if metrics is None else metrics).items()}
        self._times.append((now, step))
        if self._shown_at is None or now - self._shown_at >= self._interval or step >= self._total:
            self._show(now)

    def close(self) -> None:
        """Shows the newest state and ends the line. May be called twice."""
        if not self._enabled:
            return
        if self._shown_at is not None and self._shown_step != self._step:
            self._show(self._clock())
        if self._line_open:
            self._write("\n")
            self._line_open = False

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def eta_seconds(self) -> float | None:
        """Seconds until the last step at the rate of the last updates; None before there is a rate."""
        if len(self._times) < 2:
            return None
        (start, first), (end, last) = self._times[0], self._times[-1]
        return (end - start) / (last - first) * (self._total - last) if last > first else None

    def _show(self, now: float) -> None:
        self._shown_at, self._shown_step = now, self._step
        if not self._terminal:
            self._write("  ".join(self._fields()) + "\n")
            return
        columns = shutil.get_terminal_size().columns - 1  # the last column would make some terminals wrap
        self._write("\r\x1b[K" + self._line(columns))
        self._line_open = True

    def _fields(self) -> list[str]:
        """In order of importance: on a narrow terminal the last ones go first."""
        eta, m = self.eta_seconds(), self._metrics
        fields = [f"step {self._step}/{self._total}"]
        if LOSS in m:
            fields.append(f"loss {m[LOSS]:.4g}")
        if self._step < self._total:
            fields.append(f"ETA {'--:--' if eta is None else format_seconds(eta)}")
        if CLIPS_PER_SECOND in m:
            fields.append(f"{m[CLIPS_PER_SECOND]:.4g} clips/s")
        if MFU in m:
            fields.append(f"MFU {m[MFU]:.1%}")
        if DATA_WAIT in m:
            fields.append(f"data wait {m[DATA_WAIT]:.0%}")
        return fields

    def _line(self, columns: int) -> str:
        fields = self._fields()
        while len(fields) > 1 and len("  ".join(fields)) > columns:
            fields.pop()
        text = "  ".join(fields)
        room = min(columns - len(text) - 3, 30)
        share = self._step / self._total if self._total > 0 else 1.0
        bar = f"{self._bar(min(max(share, 0.0), 1.0), room)} " if room >= 5 else ""
        return (bar + text)[: max(columns, 0)]

    def _bar(self, share: float, width: int) -> str:
        try:
            _BLOCKS.encode(getattr(self._stream, "encoding", None) or "utf-8")
        except UnicodeEncodeError:
            return f"[{'#' * int(share * width):<{width}}]"
        eighths = int(share * width * 8)
        full = _BLOCKS[-1] * (eighths // 8)
        return f"|{(full + _BLOCKS[eighths % 8])[:width]:<{width}}|"

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def format_seconds(seconds: float) -> str:
    """59 -> '0:59', 3700 -> '1:01:40', 200000 -> '2d 7h'."""
    whole = round(seconds)
    if whole >= 86400:
        return f"{whole // 86400}d {whole % 86400 // 3600}h"
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"


class ParameterRow(NamedTuple):
    """One parameter array: `weight_decay` is the factor (0: none), or None where it is not trained."""

    name: str
    shape: tuple[int, ...]
    sharding: str
    weight_decay: float | None
    count: int


def parameter_table(rows: Iterable[ParameterRow | tuple]) -> str:
    """The table shown at start: a line per array in the fields of ParameterRow, then the totals (all, decayed, frozen)."""
    rows = [ParameterRow(*row) for row in rows]
    cells = [("parameter", "shape", "sharding", "decay", "count")]
    for row in rows:
        decay = "frozen" if row.weight_decay is None else f"{row.weight_decay:g}"
        cells.append((row.name, "x".join(map(str, row.shape)) if row.shape else "scalar", str(row.sharding), decay, f"{row.count:,}"))
    widths = [max(len(line[i]) for line in cells) for i in range(5)]
    lines = [
        "  ".join(cell.ljust(w) if i < 3 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))) for line in cells
    ]
    rule = "-" * len(lines[0])
    total = sum(row.count for row in rows)
    decayed = sum(row.count for row in rows if row.weight_decay)
    frozen = sum(row.count for row in rows if row.weight_decay is None)
    summary = f"{total:,} parameters in {len(rows)} arrays; {decayed:,} with weight decay"
    return "\n".join([lines[0], rule, *lines[1:], rule, summary + (f"; {frozen:,} frozen" if frozen else "")])
