"""Broken videos are skipped, counted once each, named in a file, and stop the run when they are too many: nothing is lost without a trace.

One record serves all threads of a run. The batch goes on with a substitute that is drawn from the position (see pipeline.py), so what a run
sees depends on the files only, never on which thread met the broken one first.
"""

import json
import threading
from collections import Counter
from pathlib import Path

from vssl_jax.data.index import BrokenVideo
from vssl_jax.errors import UserError

FILE_NAME = "broken_videos.jsonl"


class BrokenRecord:
    """What has been found broken so far. Thread-safe.

    Appends a line {"name", "cause", "detail"} per broken video to `<workdir>/broken_videos.jsonl` (host p > 0: `broken_videos.p.jsonl`; of
    other `data` than "data", such as "test": `broken_videos.test.jsonl`); no video is written twice, over restarts either. The counts are of
    this process since it started. `workdir` None keeps them in memory only.
    """

    def __init__(self, max_fraction: float, workdir: str | Path | None = None, process_index: int = 0, data: str = "data"):
        if not 0 <= max_fraction <= 1:
            raise UserError(f"{data}.max_broken_fraction is {max_fraction}: it must be from 0 to 1")
        self.max_fraction, self.data = max_fraction, data
        self.path = None
        self._lock = threading.Lock()
        self._causes: dict[str, str] = {}
        self._written: set[str] = set()
        if workdir is not None:
            which = "" if data == "data" else f".{data}"
            self.path = Path(workdir) / (
                f"broken_videos{which}.jsonl" if process_index == 0 else f"broken_videos{which}.{process_index}.jsonl"
            )
            self._written = _names_in(self.path)

    def add(self, name: str, error: BrokenVideo, videos: int) -> None:
        """Counts the video once. Raises UserError where more than `max_fraction` of `videos` (the length of the source) are broken."""
        with self._lock:
            if name in self._causes:
                return
            self._causes[name] = error.cause
            if self.path is not None and name not in self._written:
                self._written.add(name)
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"name": name, "cause": error.cause, "detail": error.detail}) + "\n")
            if len(self._causes) > self.max_fraction * videos:
                raise self.error(
                    videos, f"more than {self.data}.max_broken_fraction={self.max_fraction:g} allows; mend or remove them, or raise it"
                )

    def counts(self) -> dict[str, int]:
        """Cause -> how many videos."""
        return dict(Counter(list(self._causes.values())))

    def metrics(self) -> dict[str, int]:
        """{"data/broken/<cause>": how many videos}, of this host."""
        return {f"data/broken/{cause}": n for cause, n in sorted(self.counts().items())}

    def error(self, videos: int, why: str) -> UserError:
        """What stops the run, and why, with the counts by cause and the file to look at."""
        causes = ", ".join(f"{n} {cause}" for cause, n in sorted(self.counts().items()))
        where = f"they are listed in {self.path}" if self.path is not None else f"the first is {next(iter(self._causes))}"
        return UserError(f"{len(self._causes)} of {videos} videos are broken ({causes}), {why}: {where}")


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
