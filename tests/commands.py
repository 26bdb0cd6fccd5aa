"""A command as a person types it, in this process: its exit code and what it printed."""

import contextlib
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from vssl_jax import cli, convert

CONFIGS = Path(__file__).parents[1] / "configs"
SMOKE = f"--config={CONFIGS / 'videomae_vitb.py'}:smoke"
NOISE = "--config.data.source=synthetic"
# The smallest run there is: its evaluation is off.
TINY = (SMOKE, NOISE, "--config.model.depth=1", "--config.train.steps=2", "--config.train.picture_every=0", "--config.eval.protocols=")


class Done(NamedTuple):
    code: int
    out: str
    err: str


def run(main: Callable, *argv: str) -> Done:
    """`python -m vssl_jax.COMMAND argv...`."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with mock.patch.object(sys, "argv", ["command", *argv]), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(argv) if main is convert.main else cli.run(main)
        except SystemExit as leaving:
            code = leaving.code
    return Done(code or 0, out.getvalue(), err.getvalue())


def error_line(done: Done, before: tuple[str, ...] = ("compiling ", "world: ")) -> str:
    """The one line that says what is wrong; of what may stand before it, `before` is how the lines begin."""
    assert done.code == 1, done.err
    *others, last = done.err.splitlines()
    assert last.startswith("error: ") and len(last) > 20, done.err
    assert all(line.startswith(before) for line in others), done.err
    assert not done.out, "the result of a command that failed"
    return last


def files(folder: Path) -> list[str]:
    """All that is in a folder, folders too."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
