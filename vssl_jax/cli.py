"""What the commands share: the config from the command line, one line for an error that a person can mend, and the exit codes."""

import logging
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import jax
from absl import flags
from ml_collections import ConfigDict, config_flags

from vssl_jax import config as config_lib
from vssl_jax.errors import UserError
from vssl_jax.train.preemption import EXIT_CODE, Preempted

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "vssl_jax"


def parse(argv: list[str], usage: str, define: Callable[[flags.FlagValues], None] | None = None) -> tuple[ConfigDict, flags.FlagValues]:
    """(the locked config, the flags) of `--config=FILE[:variant] --config.key=value ... --workdir=DIR`; `define` adds flags of the command's own.

    Raises UserError for a file that is not there, an unknown key (naming the nearest) or a value of the wrong type.
    """
    values = flags.FlagValues()
    holder = config_flags.DEFINE_config_file("config", None, "The recipe, FILE[:variant].", lock_config=True, flag_values=values)
    flags.DEFINE_string("workdir", None, "Where the run is kept; the same command in the same workdir resumes.", flag_values=values)
    flags.DEFINE_bool("debug", False, "Show tracebacks.", flag_values=values)
    flags.DEFINE_bool("help", False, "Show this.", flag_values=values)
    if define is not None:
        define(values)
    if "--help" in argv or "-h" in argv:
        print(usage)
        raise SystemExit(0)
    recipe = _recipe_file(argv)
    # Recipes import what they share from beside them: `from configs import videomae`.
    sys.path.insert(0, str(recipe.resolve().parent.parent))
    try:
        rest = values(["vssl_jax", *argv])
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        _explain(argv, recipe)
        raise UserError(f"{' '.join(str(error).split())}") from error
    if len(rest) > 1:
        raise UserError(f"unexpected argument {rest[1]!r}: settings are written --config.key=value")
    return holder.value, values


def _recipe_file(argv: list[str]) -> Path:
    given = [a.split("=", 1)[1] for a in argv if a.startswith(("--config=", "-config="))]
    if not given:
        raise UserError("no recipe: give --config=configs/NAME.py (see configs/)")
    path = Path(given[-1].split(":")[0])
    if not path.is_file():
        near = [str(p) for p in sorted(path.parent.glob("*.py")) if p.stem.startswith(path.stem[:6]) and not p.stem.startswith("_")]
        raise UserError(f"no recipe {path}: " + (f"did you mean {near[0]}?" if near else "see configs/"))
    return path


def _explain(argv: list[str], recipe: Path) -> None:
    """Raises the UserError that names the nearest key, if an unknown key was the mistake."""
    values = flags.FlagValues()
    holder = config_flags.DEFINE_config_file("config", None, "", lock_config=True, flag_values=values)
    values(["vssl_jax", *[a for a in argv if a.startswith(("--config=", "-config="))]])
    config_lib.check_overrides(holder.value, argv)


def run(main: Callable[[list[str]], None]) -> None:
    """Runs a command to its exit code: 0 done, 42 preempted after a save, 1 with one line that says why.

    `--debug` (or a bug, which is anything but a UserError) shows the traceback.
    """
    argv = sys.argv[1:]
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        main(argv)
    except Preempted as stop:
        print(f"preempted: {stop}", file=sys.stderr)
        _leave(EXIT_CODE)
    except UserError as error:
        if "--debug" in argv:
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        _leave(1)
    except Exception:
        traceback.print_exc()
        _leave(1)


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
        jax.config.update("jax_compilation_cache_dir", str(CACHE / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)
