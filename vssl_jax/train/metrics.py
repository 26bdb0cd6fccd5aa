"""What a run says in numbers: metrics.jsonl and TensorBoard, written by process 0.

The idea: metrics.jsonl is the record and holds every logged step exactly once, whatever stops and restarts the run; TensorBoard is a copy
of it for the eye. So a line is written to the record before `write` returns (one small append, safe against SIGKILL), while TensorBoard,
whose files may lie on a slow disk, is fed from a thread of its own and never holds up a step.

metrics.jsonl is JSON Lines, one object per logged step: {"step": 100, "loss": 0.53, ...}. JSON has no NaN and no infinity, and which of
them a loss became is what one wants to know, so they are the strings "NaN", "Infinity" and "-Infinity": Python's float() and JavaScript's
Number() both read them back.
"""

import contextlib
import importlib.util
import json
import math
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from vssl_jax.errors import UserError
from vssl_jax.train import pictures

# The keys that the progress bar and the report know by name. Any other key is a scalar like the rest.
LOSS = "loss"
CLIPS_PER_SECOND = "clips_per_second"  # global clips trained on per second
MFU = "mfu"  # model FLOP/s over the devices' peak, 0 to 1
DATA_WAIT = "data_wait"  # share of time the step waited for data, 0 to 1

FILE = "metrics.jsonl"
TENSORBOARD_FOLDER = "tensorboard"


def tensorboard_installed() -> bool:
    """Whether tensorboardX, which writes TensorBoard's files, is installed: accelerator images often lack it."""
    return importlib.util.find_spec("tensorboardX") is not None


class MetricsWriter:
    """Writes scalars to WORKDIR/metrics.jsonl and, with pictures, to WORKDIR/tensorboard.

    With `enabled` False (every process but the first) all methods do nothing. A failure of the TensorBoard thread, such as a full disk, is
    raised by the next call of any method. Call `resume_at` once before the first `write`, in a fresh workdir too. Not thread-safe.

    Raises UserError where TensorBoard is wanted and tensorboardX is not installed.
    """

    def __init__(self, workdir: str | os.PathLike, enabled: bool, tensorboard: bool = True):
        self._path = Path(workdir) / FILE
        self._enabled = enabled
        self._last_step = -1
        self._file = None
        self._board = None
        if not enabled:
            return
        if tensorboard and not tensorboard_installed():
            raise UserError("TensorBoard is on but tensorboardX is not installed: pip install tensorboardX")
        self._last_step = max((line["step"] for line in _lines(self._path)), default=-1)
        if tensorboard:
            self._board = _Board(Path(workdir) / TENSORBOARD_FOLDER)

    def resume_at(self, step: int) -> None:
        """Removes what a stopped run logged after `step`, the step of the checkpoint it goes on from (0: nothing done yet), in one atomic
        replacement.

        Also removes a line that the stop left half-written. TensorBoard is told to hide its points after `step`.
        """
        if not self._enabled:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._path.exists():
            kept = [line for line in _lines(self._path) if line["step"] <= step]
            _replace_text(self._path, "".join(json.dumps(line) + "\n" for line in kept))
            self._last_step = max((line["step"] for line in kept), default=-1)
        if self._board is not None:
            self._board.put(lambda board: board.purge_after(step))

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Logs scalars of a step. A step that was written before keeps its one line: new scalars join it, those of the same name are
        replaced.

        A loop that reads its metrics late may write an older step after a job's newer one: the lines are always in order of steps.
        """
        if not self._enabled:
            return
        values = {name: float(value) for name, value in scalars.items()}
        if "step" in values:
            raise ValueError("'step' cannot be the name of a metric: it is the step's own key")
        line = {"step": int(step)} | {name: _to_json(value) for name, value in values.items()}
        if step > self._last_step:
            self._append(line)
            self._last_step = int(step)
        else:
            self._insert(line)
        if self._board is not None:
            self._board.put(lambda board: board.scalars(step, values))

    def _append(self, line: dict) -> None:
        if self._file is None:
            self._file = open(self._path, "a", encoding="utf-8")
        self._file.write(json.dumps(line, allow_nan=False) + "\n")
        self._file.flush()

    def _insert(self, line: dict) -> None:
        """Rare (as often as jobs run), so the whole file is written anew: a crash leaves the old one or the new one."""
        if self._file is not None:
            self._file.close()
            self._file = None
        by_step = {old["step"]: old for old in _lines(self._path)}
        by_step[line["step"]] = by_step.get(line["step"], {}) | line
        _replace_text(self._path, "".join(json.dumps(by_step[step]) + "\n" for step in sorted(by_step)))

    def write_video(self, step: int, videos: Mapping[str, np.ndarray]) -> None:
        """Sends clips to TensorBoard, each name as one animated picture of its clips side by side. `videos`: {name: float [B,T,H,W,3] in
        [0, 1]}.
        """
        if self._board is None:
            return
        frames = {name: pictures.side_by_side(pictures.to_uint8(clip_BxTxHxWx3)) for name, clip_BxTxHxWx3 in videos.items()}
        self._board.put(lambda board: board.videos(step, frames))

    def flush(self) -> None:
        """Returns when everything handed over so far is on its way to the disk."""
        if self._board is not None:
            self._board.flush()

    def close(self) -> None:
        """Writes out what is left and closes the files. May be called twice."""
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._board is not None:
            board, self._board = self._board, None
            board.close()

    def __enter__(self) -> "MetricsWriter":
        return self

    def __exit__(self, *_) -> None:
        self.close()


class _Board:
    """TensorBoard's event files, written in order by one daemon thread. The queue has no bound: a disk that hangs costs memory, never a
    step.

    Events go straight to tensorboardX's EventsWriter. Its SummaryWriter has a thread of its own that dies of a full disk without a word,
    after which every call blocks for good.
    """

    _CLOSE_SECONDS = 60.0

    def __init__(self, folder: Path):
        self._folder = folder
        self._purge_from: int | None = None
        self._writer = None
        self._error: BaseException | None = None
        self._queue: queue.Queue[Callable[[_Board], None] | None] = queue.Queue()
        self._thread = threading.Thread(target=self._run, name="tensorboard", daemon=True)
        self._thread.start()

    def put(self, work: Callable[["_Board"], None]) -> None:
        self._raise_error()
        self._queue.put(work)

    def flush(self) -> None:
        self._queue.join()
        self._raise_error()

    def close(self) -> None:
        self._queue.put(None)
        self._thread.join(self._CLOSE_SECONDS)
        if self._thread.is_alive():
            raise RuntimeError(f"TensorBoard's files in {self._folder} were not written within {self._CLOSE_SECONDS:g} s: the disk hangs")
        self._raise_error()

    def _raise_error(self) -> None:
        if self._error is not None:
            error, self._error = self._error, None
            raise RuntimeError(f"writing TensorBoard's files in {self._folder} failed: {error}") from error

    def _run(self) -> None:
        while True:
            work = self._queue.get()
            try:
                if work is not None:
                    work(self)
                if self._queue.empty() and self._writer is not None:
                    self._writer.flush()
                if work is None and self._writer is not None:
                    self._writer.close()
            except BaseException as error:  # handed to the main thread by its next call
                self._error = error
            finally:
                self._queue.task_done()
            if work is None:
                return

    # What follows runs in the thread.

    def purge_after(self, step: int) -> None:
        self._purge_from = step + 1

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        from tensorboardX.proto.summary_pb2 import Summary

        self._add(step, summary=Summary(value=[Summary.Value(tag=name, simple_value=value) for name, value in values.items()]))

    def videos(self, step: int, frames: Mapping[str, np.ndarray]) -> None:
        """An image summary that holds an animated GIF plays in TensorBoard; tensorboardX's own add_video needs moviepy for it."""
        from tensorboardX.proto.summary_pb2 import Summary

        for name, frames_TxHxWx3 in frames.items():
            height, width = frames_TxHxWx3.shape[1:3]
            image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=pictures.encode_gif(frames_TxHxWx3))
            self._add(step, summary=Summary(value=[Summary.Value(tag=name, image=image)]))

    def _add(self, step: int, **content) -> None:
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        if self._writer is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            # Its file names count whole seconds: without the suffix a quick restart would overwrite the file before.
            self._writer = EventsWriter(str(self._folder / "events"), filename_suffix=f".{time.time_ns()}")
            if self._purge_from is not None:  # a session that starts at a step hides what older files hold from that step on
                start = SessionLog(status=SessionLog.START)
                self._writer.write_event(Event(wall_time=time.time(), step=self._purge_from, session_log=start))
        self._writer.write_event(Event(wall_time=time.time(), step=step, **content))


def read_metrics(workdir: str | os.PathLike) -> list[dict[str, float]]:
    """The lines of metrics.jsonl in file order, "NaN" and the infinities as floats. An empty list where there is no file."""
    return [{name: value if name == "step" else float(value) for name, value in line.items()} for line in _lines(Path(workdir) / FILE)]


def _lines(path: Path) -> Iterator[dict]:
    """Each line of the file as it stands. A last line without an end is what SIGKILL or a full disk cut off: it is left out. Any other
    bad line is an error.
    """
    if not path.exists():
        return
    for number, text in enumerate(path.read_text(encoding="utf-8").split("\n")[:-1], start=1):
        try:
            yield json.loads(text)
        except json.JSONDecodeError as error:
            raise UserError(
                f"{path} line {number} is not JSON ({error.msg}): remove that line, or move the file away to start a new one"
            ) from error


def _to_json(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _replace_text(path: Path, text: str) -> None:
    """Writes a file so that a reader, or a crash at any moment, finds either the old content or the new."""
    name = path.with_name(path.name + ".partial")  # not tempfile's, which only the owner may read
    try:
        with open(name, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise
