"""What the commands share: the config from the command line, one line for an error that a person can mend, and the exit codes."""

import contextlib
import difflib
import errno
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType

import jax
from absl import flags
from ml_collections import ConfigDict, config_flags

from vssl_jax import cache, limits, overrides
from vssl_jax import config as config_lib
from vssl_jax.errors import UserError
from vssl_jax.train import lost
from vssl_jax.train.preemption import EXIT_CODE, Preempted

TRAINING = ("model", "objective", "optimizer", "train", "checkpoint")  # settings of a recipe that main and bench run


def parse(
    argv: list[str], usage: str, define: Callable[[flags.FlagValues], None] | None = None, keys: Sequence[str] = TRAINING
) -> tuple[ConfigDict, flags.FlagValues]:
    """(the locked config, the flags) of `--config=FILE[:variant] --config.key=value ... --workdir=DIR`; `define` adds flags of the command's own,
    and `keys` are settings that its recipes have.

    Raises UserError for a file that is not there or a recipe of another command, an unknown key (naming the nearest), a value of the wrong
    type, or a setting that would change nothing (limits.check_counts, data.check_given).
    """
    values = flags.FlagValues()
    flags.DEFINE_string("workdir", None, "Where the run is kept; the same command in the same workdir resumes.", flag_values=values)
    flags.DEFINE_bool("debug", False, "Show tracebacks.", flag_values=values)
    flags.DEFINE_bool("help", False, "Show this.", flag_values=values)
    if define is not None:
        define(values)
    if "--help" in argv or "-h" in argv:
        print(usage)
        raise SystemExit(0)
    recipe = recipe_of(argv)
    path = _recipe_file(recipe)
    # Recipes import what they share by the folder's name, `from configs import videomae`, from its sub-folders too.
    folder = next((parent for parent in path.resolve().parents if parent.name == "configs"), path.resolve().parent)
    sys.path.insert(0, str(folder.parent))
    alone = _recipe_alone(recipe)
    if lacking := [key for key in keys if key not in alone]:
        raise UserError(f"{recipe} is a recipe of another command: it has no setting {lacking[0]!r}, which this one needs")
    # sys_argv: it would read the overrides from the process's own command line, whatever argv is.
    own = ["vssl_jax", *overrides.read(alone, _joined(argv))]
    holder = config_flags.DEFINE_config_file("config", None, "The recipe, FILE[:variant].", values, lock_config=True, sys_argv=own)
    try:
        rest = values(own)
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        hint = "; settings are written --config.key=value" if isinstance(error, flags.UnrecognizedFlagError) else ""
        raise UserError(" ".join(str(error).split()) + hint) from error
    if len(rest) > 1:
        raise UserError(f"unexpected argument {rest[1]!r}: settings are written --config.key=value")
    if "://" in (values.workdir or ""):
        raise UserError(f"--workdir={values.workdir} is a URL, and a run is kept in a folder: give the one where its bucket is mounted")
    try:
        limits.check_values(holder.value)
        given = overrides.names(own)
        limits.check_counts(alone, holder.value, given)
        _check_sources(holder.value, given)
    except ZeroDivisionError as error:  # what recipes count by it is computed where it is read
        raise UserError("train.batch_size is 0: it must be 1 or more") from error
    return holder.value, values


def _check_sources(config: ConfigDict, given: Sequence[str]) -> None:
    """Raises UserError as data.check_given does, for each group of data."""
    for group, settings in config_lib.groups_of_data(config).items():
        if names := [key.rpartition(".")[2] for key in given if key.rpartition(".")[0] == group]:
            from vssl_jax import data  # what reads no data, such as a benchmark of the step, does without the room

            data.check_given(settings, names, group)


def recipe_of(argv: list[str]) -> str:
    """FILE[:variant], as the command line names it. Raises UserError where it names none."""
    given = [a.split("=", 1)[1] for a in _joined(argv) if a.startswith(("--config=", "-config="))]
    if not given:
        raise UserError("no recipe: give --config=configs/NAME.py (see configs/)")
    return given[-1]


def _joined(argv: list[str]) -> list[str]:
    """`--config FILE`, as shells complete it, becomes `--config=FILE`."""
    if "--config" not in argv[:-1]:
        return list(argv)
    i = argv.index("--config")
    return [*argv[:i], f"--config={argv[i + 1]}", *argv[i + 2 :]]


def _recipe_file(recipe: str) -> Path:
    """The file of FILE[:variant]. Raises UserError where it is no recipe, naming the nearest that is."""
    path = Path(recipe.split(":")[0])
    if path.is_file() and _is_recipe(path):
        return path
    folders = [path.parent, *([Path("configs")] if path.parent == Path(".") else [])]
    recipes = {p.stem: p for folder in folders for p in sorted(folder.glob("*.py")) if _is_recipe(p)}
    near = difflib.get_close_matches(path.stem, recipes, n=1)
    why = f"{path} is no recipe, it has no get_config(arg)" if path.is_file() else f"no recipe {path}"
    raise UserError(f"{why}: " + (f"did you mean {recipes[near[0]]}?" if near else "see configs/"))


def _is_recipe(path: Path) -> bool:
    return path.suffix == ".py" and "def get_config" in path.read_text(encoding="utf-8", errors="replace")


def _recipe_alone(recipe: str) -> ConfigDict:
    """The recipe's config without any override."""
    values, argv = flags.FlagValues(), ["vssl_jax", f"--config={recipe}"]
    holder = config_flags.DEFINE_config_file("config", None, "", values, lock_config=True, sys_argv=argv)
    try:
        values(argv)
    except UserError:
        raise
    except Exception as error:  # a recipe is a program that its user may have written
        raise UserError(
            f"the recipe {recipe} fails ({type(error).__name__}: {' '.join(str(error).split())}): --debug shows where"
        ) from error
    return holder.value


# What a disk or its rights say, wherever it is met.
STORAGE = frozenset(
    (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ENOTDIR, errno.EISDIR, errno.EEXIST)
)


def run(main: Callable[[list[str]], None], interrupted: str = "nothing of it was kept") -> None:
    """Runs a command to its exit code: 0 done, 42 preempted after a save, 134 another process was lost, 1 with one line that says why, 130
    interrupted by Ctrl-C.

    `--debug` (or a bug, which is anything but a UserError or a place that cannot be written) shows the traceback. `interrupted` says what a person has left
    after Ctrl-C.
    """
    argv = sys.argv[1:]
    log_plainly()
    if "--debug" not in argv:  # of a failed write it shows the traceback of every task; the error itself is raised
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    try:
        main(argv)
    except Preempted as stop:
        print(f"preempted: {stop}", file=sys.stderr)
        _leave(EXIT_CODE)
    except UserError as error:
        if "--debug" in argv:
            traceback.print_exc()
        _leave_if_lost(error)
        print(f"error: {error}", file=sys.stderr)
        _leave(1)
    except KeyboardInterrupt:  # where the loop does not listen to it
        if "--debug" in argv:
            traceback.print_exc()
        print(f"interrupted: {interrupted}", file=sys.stderr)
        _leave(130)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in STORAGE and "--debug" not in argv:
            where = f"{error.filename}: " if error.filename else ""
            print(
                f"error: {where}{os.strerror(error.errno)}: make room or mend it, or name another place (--debug shows where it was met)",
                file=sys.stderr,
            )
        elif lost.sign(error) is None or "--debug" in argv:
            traceback.print_exc()
        _leave_if_lost(error)
        _leave(1)


@contextlib.contextmanager
def stoppable(what: str, loops: bool = True) -> Iterator[None]:
    """SIGTERM ends the body with Preempted(what), as does a loop in it that was told to stop: `what` says how the whole goes on. Without `loops` what a
    loop says of itself stays.
    """
    asked = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)  # a second one ends the process at once
        asked.set()
        raise Preempted(what)

    listens = threading.current_thread() is threading.main_thread()
    old = signal.signal(signal.SIGTERM, handle) if listens else None
    try:
        yield
    except Exception as error:
        if asked.is_set() or (loops and isinstance(error, Preempted)):  # what was running may have taken it for a failure of its own
            raise Preempted(what) from error
        raise
    finally:
        if listens:
            signal.signal(signal.SIGTERM, signal.SIG_DFL if old is None else old)


def log_plainly() -> None:
    """Our own warnings as plain lines; of the libraries that log through absl (Orbax, TFDS) only errors: what they warn of is how they save."""
    logging.basicConfig(level=logging.WARNING)
    for handler in logging.root.handlers:
        if type(handler) is logging.StreamHandler:  # an import may have made it before: Orbax's does
            handler.setFormatter(logging.Formatter("%(message)s"))
    logging.getLogger("absl").setLevel(logging.ERROR)


def _leave_if_lost(error: Exception) -> None:
    if (sign := lost.sign(error)) is not None:
        print(f"error: another process of the run was lost ({sign}): the same command goes on from the last checkpoint", file=sys.stderr)
        _leave(lost.EXIT_CODE)


def _leave(code: int) -> None:
    """Exits at once where others wait for this process: an orderly shutdown would wait for them in turn."""
    sys.stdout.flush()
    sys.stderr.flush()
    if jax.distributed.is_initialized() and code != EXIT_CODE:  # not process_count: it would start the accelerator for a typing error
        os._exit(code)
    raise SystemExit(code)


def use_compilation_cache() -> None:
    """Compiled programs are kept between runs, unless JAX_COMPILATION_CACHE_DIR says where, or is set empty."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(cache.FOLDER / "xla"))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)
