"""A recipe -> a run: opens the data, builds the method, trains it, exports it."""

import contextlib
import dataclasses
import fcntl
import functools
import hashlib
import json
import logging
import math
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from vssl_jax import batch as batch_lib
from vssl_jax import config as config_lib
from vssl_jax import export as export_lib
from vssl_jax import folders, objectives
from vssl_jax import jobs as jobs_lib
from vssl_jax.data import pipeline
from vssl_jax.data.recipe import broken_record, build_input, preload
from vssl_jax.data.row import Input
from vssl_jax.data.source import Source
from vssl_jax.data.subset import Subset
from vssl_jax.errors import UserError
from vssl_jax.evals.knn import check_centering, check_neighbors
from vssl_jax.objectives.protocol import Objective
from vssl_jax.train import distributed, goodput, sharding
from vssl_jax.train import optimizer as optimizer_lib
from vssl_jax.train import state as state_lib
from vssl_jax.train.checkpoint import EXPORT, Checkpointer, check_place
from vssl_jax.train.guard import GuardRule
from vssl_jax.train.loop import Plan, Program, train
from vssl_jax.train.metrics import MetricsWriter
from vssl_jax.train.preemption import Preempted
from vssl_jax.train.progress import ParameterRow, Progress, parameter_table

log = logging.getLogger(__name__)


def check_needs(objective: Objective, keys: frozenset[str]) -> None:
    """Raises UserError where the objective needs what the data do not have."""
    if missing := [key for key in objective.needs if key not in keys]:
        raise UserError(
            f"{type(objective).__name__} needs {', '.join(missing)}, but this data has only {', '.join(sorted(keys))}: choose other data"
        )
    if batch_lib.FLOW in keys and not any("flow" in shown for shown in objective.shown().values()):
        raise UserError(f"{type(objective).__name__} looks at no flow: leave data.flow empty")


def check_classes(objective: Objective, classes: tuple[str, ...]) -> None:
    """Raises UserError where the objective learns from labels, and the data do not have as many classes."""
    wanted = objective.label_classes()
    if wanted is not None and wanted != len(classes):
        have = f"{len(classes)} classes" if classes else "no labels"
        raise UserError(f"objective.classes is {wanted}, but the data have {have}: set --config.objective.classes, or name other data")


def check_places(objective: Objective, videos: int) -> None:
    """Raises UserError where the objective remembers every video, and the data have more of them than it has places for."""
    places = objective.places()
    if places is not None and videos > places:
        raise UserError(
            f"objective.videos is {places}, but the data have {videos} videos: set --config.objective.videos={videos}, or name other data"
        )


def _count_epochs(config: ConfigDict, videos: int) -> None:
    """Says so where the recipe's steps were counted for a data set of another length, or a step has more videos than there are."""
    counted, batch_size = config.data.num_examples, config.train.batch_size
    if batch_size > videos:
        log.warning("train.batch_size=%d is more than the %d videos of the data: every step sees some of them twice", batch_size, videos)
    epochs, steps = config.train.epochs, config.train.steps
    by_epochs = steps > 0 and steps in (epochs * counted // batch_size, epochs * (counted // batch_size))  # and not set by hand
    if by_epochs and abs(videos - counted) > 0.05 * counted:
        seen = config.train.steps * batch_size / videos
        log.warning(
            "train.steps=%d were counted for %d videos, the data have %d: they are seen %.4g times each (for %g epochs set data.num_examples=%d)",
            config.train.steps, counted, videos, seen, config.train.epochs, videos,
        )  # fmt: skip


def _count_turns(objective: Objective, steps: int) -> None:
    """Says so where the run ends before the method has had all of its turns."""
    begins, at = {}, 0
    for turn in objective.turns:
        begins.setdefault(turn.name, at)
        at += turn.steps
    if left := {name: begin for name, begin in begins.items() if begin >= steps > 0}:
        log.warning(
            "train.steps=%d ends before %s: what is exported has not had them",
            steps, ", ".join(f"the turn {name!r} begins, at step {begin}" for name, begin in left.items()),
        )  # fmt: skip


def _keep_config(config: ConfigDict, workdir: Path, resumes: int | None) -> None:
    """Writes config.json; where a run goes on (`resumes`: from that step) says what differs from the config it began with, which stays, and adds a line to
    config_changes.jsonl.
    """
    path, new = workdir / "config.json", config_lib.to_dict(config)
    if resumes and path.exists():
        differences = config_lib.differences(json.loads(path.read_text()), new)
        for difference in differences:
            log.warning("resuming with another setting: %s", difference)
        with open(workdir / "config_changes.jsonl", "a") as file:
            file.write(json.dumps({"step": resumes, "differences": differences}) + "\n")
        return
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(new, indent=2, sort_keys=True) + "\n")
    os.replace(partial, path)


def _placement(spec: jax.sharding.PartitionSpec) -> str:
    """'-,fsdp,model', or 'replicated'."""
    return ",".join("-" if axis is None else str(axis) for axis in spec) if any(spec) else "replicated"


def show_parameters(objective: Objective, program: Program, optimizer: ConfigDict) -> str:
    """The table of parameters: name, shape, sharding, weight decay by the settings `optimizer`."""
    rows = []
    params = program.state_shapes.params
    decayed, frozen = optimizer_lib.decayed(params, optimizer), optimizer_lib.frozen(params, optimizer.frozen)
    trained = set().union(*[turn.trains or params.keys() for turn in objective.turns])
    leaves = zip(jax.tree_util.tree_leaves_with_path(params), jax.tree.leaves(decayed), jax.tree.leaves(frozen), strict=True)
    for (path, leaf), mask, still in leaves:
        name = sharding.path_name(path)
        factor = None if still or name.split("/")[0] not in trained else float(mask)
        rows.append(ParameterRow(name, leaf.shape, _placement(leaf.sharding.spec), factor, math.prod(leaf.shape)))
    return parameter_table(rows)


def _on_start(objective: Objective, config: ConfigDict, workdir: Path, checkpointer: Checkpointer) -> Callable[[Program], None]:
    """Nothing is written before this: a run that does not fit, or whose checkpoints are of another model, leaves the workdir as it was."""

    def say(program: Program) -> None:
        if jax.process_index() != 0:
            return
        _keep_config(config, workdir, resumes=max(checkpointer.steps(), default=None))
        needs = "unknown memory" if program.needed_bytes is None else f"{program.needed_bytes / 2**20:,.0f} MiB"
        work = "" if program.flops is None else f", {program.flops / 1e9:.3g} GFLOP a step"
        print(show_parameters(objective, program, config.optimizer), file=sys.stderr)
        if config.mesh.model > 1 and not any("model" in leaf.sharding.spec for leaf in jax.tree.leaves(program.state_shapes.params)):
            log.warning(
                "mesh.model=%d splits nothing of %s: those devices all compute the same, set it to 1", config.mesh.model, config.model.name
            )
        print(
            f"{jax.device_count()} x {jax.devices()[0].device_kind}; the step needs {needs} per device{work}; compiled in {program.compile_seconds:.1f} s",
            file=sys.stderr,
        )

    return say


def _process() -> tuple[int, int]:
    return jax.process_index(), jax.process_count()


def _check_hosts(source: Source) -> None:
    """Raises UserError, in every process, where one of them has other videos: shares of an epoch are of one list, so they would overlap and leave others
    out. Told apart by their files' names, since hosts may have them in other places.
    """
    if jax.process_count() == 1:
        return
    names = "\n".join((*source.classes, *(Path(source.name(i)).name for i in range(len(source)))))
    digest = hashlib.sha256(os.fsencode(names)).digest()
    found = multihost_utils.process_allgather(np.array([len(source), int.from_bytes(digest[:4], "big")], np.uint32))
    if len({tuple(row) for row in found.tolist()}) > 1:
        counts = ", ".join(f"{count:,}" for count in found[:, 0].tolist())
        raise UserError(f"the processes find other videos (each so many: {counts}): give all hosts the same files and classes")


def _validation_input(config: ConfigDict, objective: Objective, training: Input, workdir: Path) -> Input:
    """The videos of eval.test, in batches of as many as training has: one clip of each for a method that tells their labels; for one that asks
    something of its own, as many and as long clips as training has.
    """
    data = config_lib.to_dict(config.eval)["test"] if config.eval else None
    if data is None:
        raise UserError("train.validate_every needs test data: set eval.test, or train.validate_every=0")
    if objective.label_classes() is None:
        data["sampler"] = config_lib.to_dict(config.data)["sampler"]
    else:
        data["sampler"]["clips"] = 1
    broken = broken_record(data, workdir, data="validation", group="eval.test", process=_process())
    try:
        made = build_input(data, training.spec.batch_size, 0, broken, shuffle=False)
        _check_hosts(made.source)
        return made
    except UserError as error:
        raise UserError(f"the data of validation (eval.test.* of its settings): {config_lib.named_in('eval.test', str(error))}") from error


def _labeled_inputs(config: ConfigDict, workdir: Path) -> tuple[Input, Input]:
    """eval.train, or train.knn_videos of it drawn by the seed, and eval.test: what online kNN reads."""
    if not config.eval:
        raise UserError("train.knn_every needs the data eval.train and eval.test: set them, or train.knn_every=0")
    made = []
    for split in ("train", "test"):
        data = config.eval[split]
        broken = broken_record(data, workdir, data=f"knn.{split}", group=f"eval.{split}", process=_process())
        try:
            made.append(build_input(data, config.train.batch_size, 0, broken, shuffle=False))
            _check_hosts(made[-1].source)
        except UserError as error:
            raise UserError(
                f"the data of online kNN (eval.{split}.* of its settings): {config_lib.named_in(f'eval.{split}', str(error))}"
            ) from error
    gallery, few = made[0], config.train.knn_videos
    if 0 < few < len(gallery.source):
        members = np.sort(np.random.default_rng(config.seed).permutation(len(gallery.source))[:few])
        made[0] = dataclasses.replace(gallery, source=Subset(gallery.source, tuple(map(int, members))))
    check_neighbors(config.eval.knn.k, len(made[0].source))
    check_centering(config.eval.knn.center)
    return tuple(made)


def build_plan(config: ConfigDict, workdir: Path, writer: MetricsWriter, moments: goodput.Recorder) -> tuple[Plan, tuple[str, ...]]:
    """Everything of a run but the running of it, and the names of the classes that it learns from labels (none: ()). Raises UserError for bad
    data, names or sizes.
    """
    objective = objectives.build(config)
    broken = broken_record(config.data, workdir, process=_process())
    input = build_input(config.data, config.train.batch_size, config.seed, broken)
    _check_hosts(input.source)
    check_needs(objective, input.source.keys)
    check_classes(objective, input.source.classes)
    check_places(objective, len(input.source))
    objective.check_run(len(input.source), config.train.steps, config_lib.to_dict(config.data)["sampler"])
    _count_turns(objective, config.train.steps)
    _count_epochs(config, len(input.source))
    if config.train.steps < 1:
        raise UserError(f"train.steps is {config.train.steps}: it must be 1 or more (epochs x data.num_examples / batch_size, or set it)")
    jobs = []
    if objective.refresh_every > 0:
        jobs.append(jobs_lib.refresh(objective))
    if config.train.picture_every > 0:
        jobs.append(jobs_lib.pictures(objective, input, workdir, writer, config.train.picture_every))
    if config.train.validate_every > 0:
        jobs.append(
            jobs_lib.validation(objective, input, _validation_input(config, objective, input, workdir), config.train.validate_every)
        )
    if config.train.knn_every > 0:
        given, settings = _labeled_inputs(config, workdir), config_lib.to_dict(config.eval)["knn"]
        jobs.append(jobs_lib.neighbors(objective, *given, settings, config.train.knn_every, config.eval.features))
    main = jax.process_index() == 0
    checkpointer = Checkpointer(workdir / "checkpoints", config.checkpoint.every, config.checkpoint.keep)
    # A run that goes on has its weights, and may have outlived what it began from.
    params, memory = ({}, {}) if checkpointer.started() else export_lib.initial(config.initial, config_lib.to_dict(config)["model"])
    plan = Plan(
        objective=objective,
        optimizers=state_lib.build_optimizers(objective, config.optimizer, config.train.steps, config.train.batch_size),
        steps=config.train.steps,
        batches=lambda start: pipeline.batches(input, start, jax.process_index(), jax.process_count()),
        batch_shapes=input.spec.shapes(),
        mesh=sharding.make_mesh(config.mesh),
        seed=config.seed,
        accumulation=config.train.grad_accumulation,
        initial=params,
        initial_memory=memory,
        initial_source=config.initial.checkpoint,
        guard=GuardRule(**config.guard),
        log_every=config.train.log_every,
        jobs=jobs,
        checkpointer=checkpointer,
        writer=writer,
        goodput=moments,
        progress=lambda start: Progress(config.train.steps, start, enabled=main),
        check=functools.partial(export_lib.check, objective),
        on_start=_on_start(objective, config, workdir, checkpointer),
        host_metrics=broken.metrics,
    )
    return plan, () if objective.label_classes() is None else input.source.classes


@contextlib.contextmanager
def _alone(workdir: Path) -> Iterator[None]:
    """Holds the folder's lock, which goes when the process does. File systems that know no locks have none."""
    folder = os.open(workdir, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"another run is writing to {workdir}: stop it and wait until it has ended, or give another --workdir=DIR"
            ) from error
        except OSError as error:
            logging.info("no lock on %s: %s", workdir, error.strerror)
        yield
    finally:
        os.close(folder)


def _say_goodput(workdir: Path, main: bool) -> None:
    if main and (account := goodput.account(workdir)) is not None:
        print(account, file=sys.stderr)


def pretrain(
    config: ConfigDict, workdir: Path, before: Callable[[tuple[str, ...]], None] = lambda classes: None, started: float | None = None
) -> Path:
    """Runs the recipe in `workdir` (resuming what is there) and returns the export's path. `before` is called with the names of the classes
    that the run learns (none: ()) when the plan is built, and may refuse it. Goodput counts from `started`, in seconds since 1970 (None: now).
    Raises as train.loop.train does.
    """
    main = jax.process_index() == 0
    moments = goodput.Recorder(workdir if main else None, started)
    preload(config.data)
    alone = _alone(workdir) if main else contextlib.nullcontext()
    with folders.writable(workdir, "the workdir", "--workdir=DIR"), alone, MetricsWriter(workdir, enabled=main) as writer:
        distributed.check_shared(workdir)
        check_place(workdir / EXPORT)  # not after the training
        plan, classes = build_plan(config, workdir, writer, moments)
        before(classes)
        if main:
            print(
                f"compiling {config.objective.name} with {config.model.name} for {jax.device_count()} device(s); the run is kept in {workdir}",
                file=sys.stderr,
            )
        try:
            state = train(plan)
        except Preempted:
            _say_goodput(workdir, main)
            raise
        finally:
            plan.checkpointer.close()
        _say_goodput(workdir, main)
        return export_lib.export(plan.objective, state, config, classes, workdir)
