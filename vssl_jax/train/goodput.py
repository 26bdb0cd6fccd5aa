"""Goodput: which share of a run's time, over all its starts and stops, went into steps that were kept.

The one idea: what a step was worth is known only afterwards, when the next start says from which checkpoint it goes on. So process 0 only
notes moments, one JSON object a line in WORKDIR/goodput.jsonl, and `account` reads them all:

    {"event": "begin", "step": 40, "time": ..., "started": ..., "compile": 8.1}                  the first step of a start is about to run
    {"event": "save",  "step": 80, "time": ..., "data": 0.3, "saving": 0.1, "jobs": 2.0}         a checkpoint was begun, or is on the disk
    {"event": "seen",  "step": 97, "time": ..., "data": ..., "saving": ..., "jobs": ...}         at logged steps, every SEEN_SECONDS at most

`time` and `started` (the process began, or its work for this run) are seconds since 1970; `data`, `saving` and `jobs` are seconds since "begin"
in which no step ran.
"""

import contextlib
import itertools
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vssl_jax.train.progress import format_seconds

FILE = "goodput.jsonl"
SEEN_SECONDS = 10.0
_IMPORTED = time.time()


def process_start() -> float:
    """When this process began; on systems without /proc, when this file was imported."""
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        uptime = float(Path("/proc/uptime").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return _IMPORTED
    return time.time() - uptime + ticks / os.sysconf("SC_CLK_TCK")


class Recorder:
    """Notes the moments of one start, which began at `started` (seconds since 1970; None: now). Without a workdir, and in every process but the
    first, it notes nothing.
    """

    def __init__(self, workdir: str | os.PathLike | None = None, started: float | None = None, clock: Callable[[], float] = time.time):
        self._path = None if workdir is None else Path(workdir) / FILE
        self._clock = clock
        self._started = clock() if started is None else started
        self._spent = {"saving": 0.0, "jobs": 0.0}
        self._waited: Callable[[], float] = lambda: 0.0
        self._noted = 0.0

    def begin(self, step: int, compile_seconds: float, waited: Callable[[], float]) -> None:
        """Step `step` is about to run. `waited` gives the seconds that the steps of this start have waited for data so far."""
        self._waited = waited
        moments = {"time": self._clock(), "started": self._started}
        self._note({"event": "begin", "step": step} | moments | {"compile": round(compile_seconds, 3)})

    @contextlib.contextmanager
    def spent(self, kind: str) -> Iterator[None]:
        """The body is 'saving' or 'jobs': no step runs meanwhile."""
        start = self._clock()
        try:
            yield
        finally:
            self._spent[kind] += self._clock() - start

    def save(self, step: int) -> None:
        """`step` steps are done, and a checkpoint of them is under way or on the disk."""
        self._moment("save", step)

    def seen(self, step: int) -> None:
        if self._clock() - self._noted >= SEEN_SECONDS:
            self._moment("seen", step)

    def _moment(self, event: str, step: int) -> None:
        spent = {"data": self._waited()} | self._spent
        self._note({"event": event, "step": step, "time": self._clock()} | {kind: round(seconds, 3) for kind, seconds in spent.items()})

    def _note(self, line: dict) -> None:
        self._noted = line["time"]
        if self._path is not None:
            with open(self._path, "a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")


@dataclass(frozen=True)
class Account:
    """Seconds since the first start. `kept`: steps that count. `again`: steps that a stop undid, and a later start did once more. `away`: no
    process ran, as far as the record shows.
    """

    starts: int
    kept: float
    starting: float  # imports, opening the data, compiling, reading the checkpoint
    data: float
    saving: float
    jobs: float
    again: float
    away: float

    @property
    def total(self) -> float:
        return self.kept + self.starting + self.data + self.saving + self.jobs + self.again + self.away

    @property
    def goodput(self) -> float:
        """0 to 1."""
        return self.kept / self.total if self.total > 0 else 0.0

    def __str__(self) -> str:
        spent = {"starting": self.starting, "waiting for data": self.data, "saving": self.saving, "jobs": self.jobs}
        spent |= {"steps done again": self.again, "away": self.away}
        parts = ", ".join(f"{name} {format_seconds(seconds)}" for name, seconds in spent.items())
        starts = f"{self.starts} start" + ("s" if self.starts > 1 else "")
        return f"goodput {self.goodput:.1%}: {format_seconds(self.kept)} of steps that were kept in {format_seconds(self.total)} ({starts}; {parts})"


def account(workdir: str | os.PathLike) -> Account | None:
    """The whole run in `workdir` so far; None where nothing was noted."""
    sessions = _sessions(_lines(Path(workdir) / FILE))
    if not sessions:
        return None
    sums = dict.fromkeys(("kept", "starting", "data", "saving", "jobs", "again", "away"), 0.0)
    for number, (begin, *moments) in enumerate(sessions):
        later = [session[0]["step"] for session in sessions[number + 1 :]]
        points = [(begin["step"], 0.0)] + [(m["step"], m["time"] - begin["time"] - _idle(m)) for m in moments]
        steps, seconds = zip(*points, strict=True)
        kept = float(np.interp(min([steps[-1], *later]), steps, seconds))
        sums["kept"] += kept
        sums["again"] += seconds[-1] - kept
        sums["starting"] += begin["time"] - begin["started"]
        if moments:
            for kind in ("data", "saving", "jobs"):
                sums[kind] += moments[-1][kind]
    for (before, *moments), (after, *_) in itertools.pairwise(sessions):
        sums["away"] += after["started"] - (moments[-1] if moments else before)["time"]
    return Account(starts=len(sessions), **sums)


def _idle(moment: dict) -> float:
    return moment["data"] + moment["saving"] + moment["jobs"]


def _sessions(lines: Sequence[dict]) -> list[list[dict]]:
    """One list of lines per start, each with its "begin" first."""
    sessions: list[list[dict]] = []
    for line in lines:
        if line["event"] == "begin":
            sessions.append([])
        if sessions:
            sessions[-1].append(line)
    return sessions


def _lines(path: Path) -> list[dict]:
    """What was noted; a line that a kill left half-written is left out."""
    out = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        with contextlib.suppress(json.JSONDecodeError):
            out.append(json.loads(text))
    return out
