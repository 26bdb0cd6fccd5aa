"""Checkpoints and exports: the only file that imports Orbax.

    <workdir>/checkpoints/<step>/   the whole TrainState, saved asynchronously, the newest `keep` of them
    <workdir>/export/               parameters and memory's exported parts only, with `meta.json`: what downstream loads

A save is visible only when it is whole. A checkpoint that cannot be read is set aside, loudly, and the one before it is used; a
checkpoint of *another model* is an error, never a reason to fall back.
"""

import contextlib
import functools
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from orbax.checkpoint import multihost
from orbax.checkpoint.checkpoint_managers import preservation_policy, save_decision_policy

from vssl_jax.errors import UserError
from vssl_jax.train.sharding import path_name

EXPORT = "export"  # the folder in a workdir
SHARE, WRITERS = 2**20, 8  # bytes; how many replicas: on hundreds of devices no share would be large enough

log = logging.getLogger(__name__)


def _first_line(error: BaseException) -> str:
    return " ".join(str(error).split("\n")[0].split())[:200] or type(error).__name__


def _differences(saved: Mapping[str, tuple], wanted: Mapping[str, tuple]) -> list[str]:
    """What differs between two {path: shape}, most telling first."""
    out = [f"{k} has shape {saved[k]} there and {wanted[k]} here" for k in wanted if k in saved and saved[k] != wanted[k]]
    out += [f"{k} is only in the checkpoint" for k in saved if k not in wanted]
    out += [f"{k} is not in the checkpoint" for k in wanted if k not in saved]
    return out


def _is_key(leaf: Any) -> bool:
    """Whether it is a typed PRNG key."""
    return leaf.dtype is not None and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _plain(tree: Any) -> Any:
    """As it stands in a file, or its shapes do: keys as their integers."""

    def one(leaf: Any) -> Any:
        if not _is_key(leaf):
            return leaf
        if isinstance(leaf, jax.Array):
            return jax.random.key_data(leaf)
        data = jax.eval_shape(jax.random.key_data, jax.ShapeDtypeStruct(leaf.shape, leaf.dtype))
        return jax.ShapeDtypeStruct(data.shape, data.dtype, sharding=leaf.sharding)

    return jax.tree.map(one, tree)


def _shapes(tree: Any) -> dict[str, tuple]:
    """{path: shape}"""
    return {path_name(path): tuple(leaf.shape) for path, leaf in jax.tree_util.tree_leaves_with_path(_plain(tree))}


def _writer() -> ocp.PyTreeCheckpointHandler:
    """Writes a tree of arrays. What several devices hold alike up to `WRITERS` of them write a share of, if that is `SHARE` or more: of everything, as by
    default, a program for every shape and a call for every array and device keep the first save seconds and each save tenths of a second.
    """
    arrays = ocp.type_handlers.ArrayHandler(min_slice_bytes_for_replica_parallel=SHARE, max_replicas_for_replica_parallel=WRITERS)
    usual = [(kind, ocp.type_handlers.get_type_handler(kind)) for kind in (np.number, np.ndarray)]
    return ocp.PyTreeCheckpointHandler(type_handler_registry=ocp.type_handlers.create_type_handler_registry(*usual, (jax.Array, arrays)))


class _Manager(ocp.CheckpointManager):
    """Leaves it to the loop to stop. Orbax asks too, in process 0 alone and of a step that is past: that sets back the count by which the processes agree
    on the step to stop at.
    """

    def reached_preemption(self, step: int) -> bool:
        return False


class Checkpointer:
    """Saves and restores TrainStates under `directory`, which comes to be at first use: a run that is refused before leaves no trace.

    Args:
      directory: <workdir>/checkpoints.
      every: steps between saves; 0 saves only at the end or on preemption.
      keep: how many of the newest stay.
    """

    def __init__(self, directory: str | os.PathLike, every: int, keep: int):
        self.directory = Path(directory).absolute()
        self.every = every
        self.keep = keep
        self._reader = ocp.StandardCheckpointHandler()

    @functools.cached_property
    def _manager(self) -> _Manager:
        options = ocp.CheckpointManagerOptions(
            save_decision_policy=save_decision_policy.SpecificStepsPolicy(steps=[]),  # the loop decides, and forces
            preservation_policy=preservation_policy.LatestN(self.keep),
            enable_async_checkpointing=True,
            cleanup_tmp_directories=True,
            async_options=ocp.AsyncOptions(timeout_secs=1200),
        )
        # Registered up front: a manager that has not saved yet could otherwise not read a checkpoint's metadata.
        registry = ocp.handlers.DefaultCheckpointHandlerRegistry()
        registry.add("state", ocp.args.PyTreeSave, _writer())
        registry.add("state", ocp.args.StandardRestore, self._reader)
        return _Manager(self.directory, options=options, handler_registry=registry)

    def due(self, step: int) -> bool:
        return self.every > 0 and step % self.every == 0

    def save(self, step: int, state: Any) -> None:
        """Starts an asynchronous save; the state may be donated right after. Raises UserError where it fails, or in one of several processes the one before
        it did.
        """
        self.lost_one()
        if step in self._manager.all_steps():
            return
        with self._write_errors():
            self._manager.save(step, args=ocp.args.Composite(state=ocp.args.PyTreeSave(_plain(state))), force=True)

    def lost_one(self) -> bool:
        """Whether a save has failed since it was asked for last; said loudly. Of several processes the others do not know of it, so there it raises
        UserError.
        """
        try:
            self._manager.check_for_errors()
        except Exception as error:
            if jax.process_count() > 1:
                raise self._not_written(error) from error
            log.error("A CHECKPOINT COULD NOT BE WRITTEN to %s (%s): the state is saved anew", self.directory, _first_line(error))
            self._manager.reload()  # it counts the lost one among those that are kept
            return True
        return False

    def _not_written(self, error: BaseException) -> UserError:
        return UserError(f"a checkpoint could not be written to {self.directory} ({_first_line(error)}): check its space and permissions")

    @contextlib.contextmanager
    def _write_errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # a full disk comes as OSError, ValueError or JaxRuntimeError, by who met it
            raise self._not_written(error) from error

    def restore_latest(self, abstract: Any) -> tuple[Any, int] | None:
        """(state, step) of the newest readable checkpoint; None if there is none at all.

        `abstract` holds ShapeDtypeStructs with shardings, so nothing is materialized twice. Raises UserError if the newest readable
        checkpoint is of another model, or if checkpoints exist and none can be read; nothing on disk is changed then, so that the same
        command cannot start from nothing.
        """
        damaged: dict[int, str] = {}
        for step in sorted(self._manager.all_steps(), reverse=True):
            state, problem = self._read(step, abstract)
            if problem is None:
                for bad, why in damaged.items():
                    name = self._set_aside(bad)
                    log.error(
                        "CHECKPOINT %s IS DAMAGED (%s): set aside as %s, going on from step %d", self.directory / str(bad), why, name, step
                    )
                return state, step
            damaged[step] = problem
        if damaged:
            raise UserError(
                f"none of the checkpoints in {self.directory} can be read (step {max(damaged)}: {damaged[max(damaged)]}): "
                "restore one from a backup, or use a new workdir"
            )
        return None

    def check_latest(self, abstract: Any) -> None:
        """Raises UserError where the newest checkpoint is of another model. One that cannot be read says nothing here."""
        for step in self.steps()[-1:]:
            try:
                self._refuse_other_model(step, abstract)
            except UserError:
                raise
            except Exception as error:
                log.info("the metadata of step %d cannot be read: %s", step, _first_line(error))

    def _read(self, step: int, abstract: Any) -> tuple[Any, str | None]:
        """(state, None), or (None, what is wrong with the files); the same answer in every process."""
        state, problem = None, None
        try:
            self._refuse_other_model(step, abstract)
            # Not by the manager, in which those that could read wait for all: one that could not is already where they say so.
            read = self._reader.restore(self.directory / str(step) / "state", args=ocp.args.StandardRestore(_plain(abstract)))
            state = jax.tree.map(
                lambda want, got: jax.random.wrap_key_data(got) if _is_key(want) and not _is_key(got) else got, abstract, read
            )
        except (UserError, MemoryError):
            raise
        except PermissionError as error:
            raise UserError(f"{self.directory / str(step)} may not be read ({error}): mend its permissions") from error
        except Exception as error:  # Orbax raises ValueError, OSError, JSON and TensorStore errors alike for damaged files
            if "RESOURCE_EXHAUSTED" in str(error):  # a full device says nothing about the files
                raise
            problem = _first_line(error)
        if jax.process_count() > 1 and multihost_utils.process_allgather(np.int32(problem is not None)).any():
            return None, problem if problem is not None else "another process cannot read it"
        return state, problem

    def _refuse_other_model(self, step: int, abstract: Any) -> None:
        saved = self._manager.item_metadata(step)["state"]
        if saved is None:
            raise OSError("its metadata is missing")
        tree = getattr(saved, "tree", saved)
        if differences := _differences(_shapes(tree), _shapes(abstract)):
            more = f" (and {len(differences) - 1} more differences)" if len(differences) > 1 else ""
            other = "optimizer" if all(difference.startswith("opt/") for difference in differences) else "model"
            raise UserError(
                f"{self.directory / str(step)} is a checkpoint of another {other}: {differences[0]}{more}; "
                "use a new workdir, or the config it came from"
            )

    def _set_aside(self, step: int) -> str:
        name = f"damaged-{step}"
        if jax.process_index() == 0:
            shutil.rmtree(self.directory / name, ignore_errors=True)
            os.replace(self.directory / str(step), self.directory / name)
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices(f"set aside {step}")
        self._manager.reload()
        return name

    def started(self) -> bool:
        """Whether there is any checkpoint, asked of the files: the manager would make their folder."""
        return self.directory.is_dir() and any(folder.name.isdigit() for folder in self.directory.iterdir())

    def steps(self) -> list[int]:
        return sorted(self._manager.all_steps())

    def wait(self) -> None:
        """Blocks until the saves under way are on disk; raises UserError where one failed."""
        with self._write_errors():
            self._manager.wait_until_finished()
            self._manager.check_for_errors()

    def close(self) -> None:
        if "_manager" in self.__dict__:
            self.wait()
            self._manager.close()


def meet(name: str, seconds: int) -> None:
    """Waits until every process has come here. Unlike a collective it keeps no device busy. Every meeting needs a name of its own."""
    multihost.get_barrier_sync_fn()(key=name, timeout_ms=1000 * seconds)


def check_place(path: str | os.PathLike) -> None:
    """Raises UserError where `path` is a file, or a folder that holds something else than an export, which an export would take the place of."""
    path = Path(path)
    others = {entry.name for entry in path.iterdir()} - {"meta.json", "params"} if path.is_dir() else set()
    if others:
        raise UserError(f"{path} holds {', '.join(sorted(others)[:3])}, and an export would take its place: name an empty or new folder")
    if path.exists() and not path.is_dir():
        raise UserError(f"{path} is a file, and an export is a folder: name another")


def save_export(path: str | os.PathLike, params: Mapping[str, Any], meta: Mapping[str, Any]) -> None:
    """Writes parameters (a dict of parts) and `meta` (JSON) to `path`, replacing an export that is there only when the new one is whole. Raises UserError
    as `check_place` does, and where it cannot be written.
    """
    check_place(path)
    path = Path(path).absolute()
    fresh = path.with_name(path.name + ".new")
    if jax.process_index() == 0:
        shutil.rmtree(fresh, ignore_errors=True)
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("export")
    try:
        with ocp.AsyncCheckpointer(_writer()) as checkpointer:
            checkpointer.save(fresh / "params", args=ocp.args.PyTreeSave(dict(params)))
    except Exception as error:  # as of checkpoints
        raise UserError(f"the export could not be written to {path} ({_first_line(error)}): check its space and permissions") from error
    if jax.process_index() == 0:
        (fresh / "meta.json").write_text(json.dumps(meta, indent=2, sort_keys=True) + "\n")
        if path.exists():
            shutil.rmtree(path)
        os.replace(fresh, path)
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("export is in place")


def _export_in(path: str | os.PathLike) -> Path:
    """The export's folder: `path`, or of a workdir the one in it. Raises UserError where there is none."""
    if "://" in str(path):
        raise UserError(f"{path} is a URL, and an export is a folder: give the one where its bucket is mounted")
    path = Path(path).absolute()
    if not (path / "meta.json").exists() and (path / EXPORT / "meta.json").exists():
        path = path / EXPORT
    if not (path / "meta.json").exists():
        what = f"{path} is a file, and holds" if path.is_file() else f"{path} holds"
        raise UserError(f"{what} no export (no meta.json): give a workdir of a finished run, or its export/ folder")
    return path


def load_meta(path: str | os.PathLike) -> dict[str, Any]:
    """An export's meta.json. Raises UserError as `load_export` does."""
    path = _export_in(path)
    try:
        return json.loads((path / "meta.json").read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"the export {path} cannot be read ({_first_line(error)}): export again from its checkpoints") from error


def load_export(path: str | os.PathLike) -> tuple[dict[str, Any], dict[str, Any]]:
    """(params as numpy arrays, meta) from an export, or from a workdir that holds one. Raises UserError where there is none or it is
    damaged.
    """
    path = _export_in(path)
    place = jax.process_index()
    # Alone: Orbax would wait for the other processes, and evaluation reads in one of them.
    alone = ocp.options.MultiprocessingOptions(primary_host=place, active_processes={place}, barrier_sync_key_prefix=f"alone-{place}")
    try:
        meta = json.loads((path / "meta.json").read_text())
        with ocp.StandardCheckpointer(multiprocessing_options=alone) as checkpointer:
            tree = checkpointer.metadata(path / "params")
            tree = getattr(tree, "item_metadata", tree)
            tree = getattr(tree, "tree", tree)
            device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
            abstract = jax.tree.map(lambda m: jax.ShapeDtypeStruct(m.shape, m.dtype, sharding=device), tree)
            params = checkpointer.restore(path / "params", abstract)
    except Exception as error:
        raise UserError(f"the export {path} cannot be read ({_first_line(error)}): export again from its checkpoints") from error
    return jax.tree.map(np.asarray, params), meta


def load_into(params: Mapping[str, Any], loaded: Mapping[str, Any], source: str) -> dict[str, Any]:
    """`params` with the parts of `loaded` in place of its own. Raises UserError where a part's paths or shapes differ."""
    for part in loaded:
        if part not in params:
            raise UserError(f"{source} has a part {part!r}, but this model's parts are {', '.join(sorted(params))}")
        if differences := _differences(_shapes(loaded[part]), _shapes(params[part])):
            more = f" (and {len(differences) - 1} more differences)" if len(differences) > 1 else ""
            raise UserError(f"{source} is of another model: in {part!r}, {differences[0]}{more}")
    return {**params, **loaded}


def leave_out(params: Mapping[str, Any], names: Sequence[str], key: str, source: str) -> dict[str, Any]:
    """`params` without the entries `names`, which the setting `key` asks for: the final norm, for one, where a head brings its own.

    Raises UserError for a name that is not there.
    """
    if missing := [name for name in names if name not in params]:
        raise UserError(f"{key} names {', '.join(missing)}, which {source} does not have: leave it out of {key}")
    return {name: value for name, value in params.items() if name not in names}
