"""Broken videos are skipped, counted once each, named in a file, and stop the run when they are too many: nothing is lost without a trace.

One record serves all threads of a run. The batch goes on with a substitute that is drawn from the position (see row.py), so what a run
sees depends on the files only, never on which thread met the broken one first.
"""

import json
import threading
from collections import Counter
from pathlib import Path

from vssl_jax.data.index import TOO_SHORT, BrokenVideo
from vssl_jax.errors import UserError


class BrokenRecord:
    """What has been found broken so far. Thread-safe.

    Appends a line {"name", "cause", "detail"} per broken video to `<workdir>/broken_videos.jsonl` (host p > 0: `broken_videos.p.jsonl`; of
    other `data` than "data", such as "test": `broken_videos.test.jsonl`); no video is written twice, over restarts either. The counts are of
    this process since it started. `workdir` None keeps them in memory only.

    Args:
      max_fraction: of the videos that may be broken: `max_broken_fraction` of the settings' `group` (None: of `data`).
      max_short: of the videos that may be too short for a clip: `max_short_fraction` there. None: they count as broken.
      processes: each of them reads a part of the videos, and judges by what it has read.
    """

    def __init__(
        self,
        max_fraction: float,
        workdir: str | Path | None = None,
        process_index: int = 0,
        data: str = "data",
        *,
        max_short: float | None = None,
        processes: int = 1,
        group: str | None = None,
    ):
        group = data if group is None else group
        self._limits = {f"{group}.max_broken_fraction": max_fraction}
        if max_short is not None:
            self._limits[f"{group}.max_short_fraction"] = max_short
        for name, limit in self._limits.items():
            if not 0 <= limit <= 1:
                raise UserError(f"{name} is {limit}: it must be from 0 to 1")
        self._processes = processes
        self.path = None
        self._lock = threading.Lock()
        self._causes: dict[str, str] = {}
        self._met: set[int] = set()
        self._written: set[str] = set()
        if workdir is not None:
            which = "" if data == "data" else f".{data}"
            self.path = Path(workdir) / (
                f"broken_videos{which}.jsonl" if process_index == 0 else f"broken_videos{which}.{process_index}.jsonl"
            )
            self._written = _names_in(self.path)

    def meet(self, i: int) -> None:
        """Says that this process reads video i."""
        with self._lock:
            self._met.add(i)

    def add(self, name: str, error: BrokenVideo, videos: int) -> None:
        """Counts the video once. Raises UserError where too many are broken, or too short, of `videos` (the length of the source): of as many as this
        process has met, and no fewer than an epoch holds for it.
        """
        with self._lock:
            if name in self._causes:
                return
            self._causes[name] = error.cause
            if self.path is not None and name not in self._written:
                self._written.add(name)
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"name": name, "cause": error.cause, "detail": error.detail}) + "\n")
            of = max(len(self._met), videos / self._processes)
            short = sum(cause == TOO_SHORT for cause in self._causes.values())
            counts = (len(self._causes),) if len(self._limits) == 1 else (len(self._causes) - short, short)
            for (limit, most), count in zip(self._limits.items(), counts, strict=True):
                if count > most * of:
                    raise self.error(videos, f"more than {limit}={most:g} allows; mend or remove them, or raise it")

    def counts(self) -> dict[str, int]:
        """Cause -> how many videos."""
        return dict(Counter(list(self._causes.values())))

    def metrics(self) -> dict[str, int]:
        """{"data/broken/<cause>": how many videos}, of this host."""
        return {f"data/broken/{cause}": n for cause, n in sorted(self.counts().items())}

    def error(self, videos: int, why: str) -> UserError:
        """What stops the run, and why, with the counts by cause and the file to look at."""
        causes = ", ".join(f"{n} {cause}" for cause, n in sorted(self.counts().items()))
        of = f"{videos}" if self._processes == 1 else f"the {len(self._met)} that this process has read of {videos}"
        where = f"they are listed in {self.path}" if self.path is not None else f"the first is {next(iter(self._causes))}"
        return UserError(f"{len(self._causes)} of {of} videos are broken ({causes}), {why}: {where}")


def _names_in(path: Path) -> set[str]:
    """The videos an earlier start of the run wrote. A last line cut short by a kill is taken away: its video is written again when it is
    met."""
    if not path.exists():
        return set()
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole, encoding="utf-8")
    return {json.loads(line)["name"] for line in whole.splitlines()}
