"""One loop, for pretraining, probes and fine-tuning alike.

Each round, in this order:
    1) due jobs that change the state    2) a checkpoint, if due    3) leave, if asked to    4) due jobs that read it
    5) the next batch                    6) the step                7) the metrics of the last logged step
Metrics are read one log interval late, so the device never waits for the host. The host is at most two steps ahead of it, so that clocks
tell the truth and a stop that is asked for comes soon.
"""

import functools
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from vssl_jax import batch as batch_lib
from vssl_jax import chips
from vssl_jax.errors import UserError
from vssl_jax.objectives.protocol import Memory, Objective, Parts
from vssl_jax.train import fit, sharding
from vssl_jax.train import state as state_lib
from vssl_jax.train.alarms import Alarms
from vssl_jax.train.checkpoint import Checkpointer, load_into
from vssl_jax.train.feed import Feed
from vssl_jax.train.goodput import Recorder
from vssl_jax.train.guard import GuardRule
from vssl_jax.train.metrics import CLIPS_PER_SECOND, DATA_WAIT, LOSS, MFU, MetricsWriter
from vssl_jax.train.optimizer import Optimizer
from vssl_jax.train.preemption import Listener, Preempted
from vssl_jax.train.progress import Progress
from vssl_jax.train.state import TrainState
from vssl_jax.train.step import lower_steps, make_steps

log = logging.getLogger(__name__)

# On a GPU: matrix products by cuBLASLt, into which the compiler fuses biases and sums; with its own kernels in the choice (jax 0.11.2) it does not, and takes
# cuBLASLt's in the end. Products of one matrix are not put together: their parts would be copied apart.
COMPILER_OPTIONS = {"gpu": {"xla_gpu_enable_triton_gemm": False, "xla_gpu_dot_merger_threshold_mb": 0}}


@dataclass(frozen=True)
class Job:
    """Something done every `every` steps besides training: (state, step) -> (state, metrics). Evaluation, pictures; with `changes`, which is done before
    a save and of which alone the new state is kept, clustering.
    """

    every: int
    run: Callable[[TrainState, int], tuple[TrainState, Mapping[str, float]]]
    name: str = "job"
    changes: bool = False


@dataclass(frozen=True)
class Plan:
    """What a run is made of.

    `batches(start)` iterates over this process's host batches from step `start` on; `batch_shapes` are the global batch's. `initial` and
    `initial_memory` replace whole parts of the fresh parameters and memory (pretrained weights and their statistics). `host_metrics` adds
    scalars that only the host knows, such as counts of broken files.
    """

    objective: Objective
    optimizers: Mapping[str, Optimizer]  # by turn name
    steps: int
    batches: Callable[[int], Iterator[Mapping[str, np.ndarray]]]
    batch_shapes: Mapping[str, jax.ShapeDtypeStruct]
    mesh: Mesh
    seed: int = 0
    accumulation: int = 1
    guard: GuardRule = field(default_factory=GuardRule)
    log_every: int = 10
    initial: Parts = field(default_factory=dict)
    initial_memory: Memory = field(default_factory=dict)
    initial_source: str = "the given weights"
    jobs: Sequence[Job] = ()
    checkpointer: Checkpointer | None = None
    writer: MetricsWriter | None = None
    goodput: Recorder = field(default_factory=Recorder)
    progress: Callable[[int], Progress] | None = None  # start step -> progress display
    check: Callable[[TrainState], None] = lambda shapes: None  # of the state's shapes, before anything is compiled
    on_start: Callable[["Program"], None] | None = None
    host_metrics: Callable[[], Mapping[str, float]] = dict

    @property
    def batch_size(self) -> int:
        """Rows of the global batch: videos."""
        return next(iter(self.batch_shapes.values())).shape[0]

    @property
    def clips(self) -> int:
        """Clips of the global batch: K of every video."""
        extent = self.batch_shapes.get(batch_lib.EXTENT)
        return self.batch_size if extent is None else extent.shape[0] * extent.shape[1]


@dataclass(frozen=True)
class Lowered:
    """The run as the compiler gets it: shapes with shardings, `fresh` that draws a state of them, and one step per turn."""

    state_shapes: Any
    fresh: Callable[[], TrainState]
    batch_shapes: Any
    steps: Mapping[str, jax.stages.Lowered]

    @property
    def batch_bytes(self) -> int:
        """One batch's share of one device."""
        return _share_bytes(self.batch_shapes)

    @property
    def state_bytes(self) -> int:
        """The state's share of one device."""
        return _share_bytes(self.state_shapes)


def _share_bytes(shapes: Any) -> int:
    shares = [(s.sharding.shard_shape(s.shape), s.dtype.itemsize) for s in jax.tree.leaves(shapes)]
    return sum(math.prod(shape) * size for shape, size in shares)


@dataclass(frozen=True)
class Program:
    """The compiled run: shapes with shardings, `fresh` that draws a state of them, one compiled step per turn, and what compiling said.

    `flops` are the method's own of one step (`Objective.flops`), counted here once: of a convolution network it takes up to a second.
    """

    state_shapes: Any
    fresh: Callable[[], TrainState]
    batch_shapes: Any
    steps: Mapping[str, jax.stages.Compiled]
    needed_bytes: int | None
    compile_seconds: float
    flops: float | None


def lower_plan(plan: Plan) -> Lowered:
    """Shapes -> shardings -> steps for the compiler, before any array of the run exists, and for devices that need not be here."""
    sharding.check_batch_size(plan.batch_size, plan.accumulation, plan.mesh)
    with jax.set_mesh(plan.mesh):
        init = lambda: state_lib.init(plan.objective, plan.optimizers, plan.seed, plan.batch_shapes)  # noqa: E731
        shapes = jax.eval_shape(init)
        placed = sharding.shardings(shapes, plan.mesh)
        shapes = jax.tree.map(lambda s, h: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=h), shapes, placed)
        batch_sharding = sharding.batch_sharding(plan.mesh)
        batch_shapes = {k: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=batch_sharding) for k, s in plan.batch_shapes.items()}
        steps = make_steps(plan.objective, plan.optimizers, plan.guard, plan.accumulation)
        fresh = jax.jit(init, out_shardings=placed)  # of the function that gave the shapes: it is traced once
        return Lowered(shapes, fresh, batch_shapes, lower_steps(steps, shapes, batch_shapes, NamedSharding(plan.mesh, P())))


def compile_plan(plan: Plan, check: Callable[[TrainState], None] = lambda shapes: None) -> Program:
    """The run, compiled. Raises UserError where a step does not fit the device, and as `check` does, which sees the state's shapes before anything is
    compiled.
    """
    start = time.monotonic()
    lowered = lower_plan(plan)
    check(lowered.state_shapes)
    with jax.set_mesh(plan.mesh):
        options = COMPILER_OPTIONS.get(plan.mesh.devices.flat[0].platform)
        compiled = {name: step.compile(compiler_options=options) for name, step in lowered.steps.items()}
    needs = [fit.check(c, plan.mesh.local_devices[0], plan.batch_size, lowered.batch_bytes) for c in compiled.values()]
    needed = max((n for n in needs if n is not None), default=None)
    seconds, flops = time.monotonic() - start, plan.objective.flops(plan.clips)
    return Program(lowered.state_shapes, lowered.fresh, lowered.batch_shapes, compiled, needed, seconds, flops)


def _check(plan: Plan, shapes: TrainState) -> None:
    """Raises UserError as the plan's own check does, and where the weights that the run starts from, or the checkpoint that it goes on from, are another
    model's.
    """
    plan.check(shapes)
    if plan.checkpointer and plan.checkpointer.started():
        plan.checkpointer.check_latest(shapes)
        return
    load_into(shapes.params, plan.initial, plan.initial_source)
    load_into(shapes.memory, plan.initial_memory, plan.initial_source)


def _fresh_state(plan: Plan, program: Program) -> TrainState:
    state, out_shardings = program.fresh(), jax.tree.map(lambda s: s.sharding, program.state_shapes)
    for name, given in (("params", plan.initial), ("memory", plan.initial_memory)):
        if given:
            fresh, placed = getattr(state, name), getattr(out_shardings, name)
            load_into(fresh, given, plan.initial_source)  # or refuses them
            # Copied by a program: device_put may share the caller's buffers, and the step donates what it is given. The given parts alone:
            # of the fresh ones a process may hold but a shard.
            place = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree), out_shardings={part: placed[part] for part in given})
            state = state.replace(**{name: fresh | place({part: jax.tree.map(np.asarray, tree) for part, tree in given.items()})})
    if plan.initial:
        state = state.replace(memory=jax.jit(plan.objective.adopt, out_shardings=out_shardings.memory)(state.params, state.memory))
    return state


def train(plan: Plan) -> TrainState:
    """Runs the plan to its last step and returns the state.

    Raises Preempted after a signal and a save; UserError as `plan.check` does, and where the step does not fit, a checkpoint is of another model, or the guard
    refuses `guard.max_in_a_row` steps in a row.
    """
    program = compile_plan(plan, check=functools.partial(_check, plan))
    processes = {device.process_index for device in plan.mesh.devices.flat}
    with jax.set_mesh(plan.mesh), Listener(together=len(processes) > 1) as listener:
        restored = plan.checkpointer.restore_latest(program.state_shapes) if plan.checkpointer else None
        state, start = restored if restored else (_fresh_state(plan, program), 0)
        if restored:
            plan.objective.check_restored(state.memory)
            log.warning("resuming at step %d", start)
        if plan.on_start:
            plan.on_start(program)
        if plan.writer:
            plan.writer.resume_at(start)
        if start >= plan.steps:
            return state
        place = lambda batch: sharding.global_batch(batch, plan.mesh)  # noqa: E731
        with Feed(plan.batches(start), place) as feed:
            return _Run(plan, program, feed, listener).go(state, start)


class _Run:
    """The rounds of one run: what changes from round to round, besides the state, is what has been measured."""

    def __init__(self, plan: Plan, program: Program, feed: Feed, listener: Listener):
        self.plan, self.program, self.feed, self.listener = plan, program, feed, listener
        self.pending: tuple[int, dict[str, jax.Array], dict[str, float]] | None = None
        self.before: dict[str, jax.Array] = {}  # metrics of the step before
        self.latest: dict[str, dict[str, jax.Array]] = {}  # by turn, since the last log
        self.since = (time.monotonic(), 0, 0.0)  # time, step and waited seconds at the last log
        self.progress: Progress | None = None
        self.alarms = Alarms(log.warning if jax.process_index() == 0 else lambda line: None)

    def go(self, state: TrainState, start: int) -> TrainState:
        plan = self.plan
        self.progress = plan.progress(start) if plan.progress else None
        self.since = (time.monotonic(), start, 0.0)
        plan.goodput.begin(start, self.program.compile_seconds, lambda: self.feed.waited)
        try:
            for step in range(start, plan.steps):
                if step > start:  # what was due at the start was done before the checkpoint it starts from
                    state = self._jobs(state, step, changes=True)
                self._save_or_leave(state, step, start)
                if step > 0:  # and what reads that state may not have been
                    self._jobs(state, step, changes=False)
                batch = next(self.feed, None)
                if batch is None:
                    raise RuntimeError(f"the input ended at step {step} of {plan.steps}: Plan.batches must go on for as long as the run")
                turn = state_lib.turn_at(plan.objective, step)
                state, metrics = self.program.steps[turn.name](state, batch)
                jax.block_until_ready(self.before)
                self.before = metrics
                self._log(step + 1, turn.name, metrics)
            state = self._jobs(state, plan.steps, changes=True)
            self._save(plan.steps, state)
            self._wait(plan.steps)
            asked = self.listener.asked(plan.steps)
            if not asked:
                self._jobs(state, plan.steps, changes=False)
            if asked or self.listener.heard:
                raise Preempted(f"stopped at step {plan.steps} of {plan.steps}; the same command does what follows training")
            return state
        finally:
            if self.progress:
                self.progress.close()

    def _jobs(self, state: TrainState, step: int, changes: bool) -> TrainState:
        """Those that change the state, or those that read it."""
        for job in self.plan.jobs:
            if job.changes == changes and (step == self.plan.steps or (job.every > 0 and step % job.every == 0)):
                with self.plan.goodput.spent("jobs"):
                    made, metrics = job.run(state, step)
                state = made if changes else state
                if metrics and self.plan.writer:
                    self.plan.writer.write(step, {k: float(v) for k, v in metrics.items()})
        return state

    def _save(self, step: int, state: TrainState) -> None:
        """Metrics first: a run that goes on from this checkpoint keeps the lines up to it, and logs none of them again."""
        self._flush()
        counts = jax.device_get([guard.in_a_row for guard in state.guard.values()])
        if max(counts) >= self.plan.guard.max_in_a_row:
            raise UserError(_refused(max(counts), f"at step {step}"))
        if self.plan.checkpointer:
            with self.plan.goodput.spent("saving"):
                self.plan.checkpointer.save(step, state)
        self.plan.goodput.save(step)

    def _wait(self, step: int) -> None:
        """Until what was saved at `step` is on the disk."""
        if self.plan.checkpointer:
            with self.plan.goodput.spent("saving"):
                self.plan.checkpointer.wait()
            self.plan.goodput.save(step)

    def _save_or_leave(self, state: TrainState, step: int, start: int) -> None:
        checkpointer = self.plan.checkpointer
        asked = self.listener.asked(step)
        if checkpointer and checkpointer.lost_one() and not (asked or checkpointer.due(step)):
            self._save(step, state)
            self._wait(step)
        if step > start and (asked or (checkpointer and checkpointer.due(step))):
            self._save(step, state)
        if asked:
            if checkpointer:
                self._wait(step)
                raise Preempted(f"stopped at step {step} of {self.plan.steps}; the same command goes on from there")
            raise Preempted(f"stopped at step {step} of {self.plan.steps}; nothing was saved, this run keeps no checkpoints")

    def _log(self, step: int, turn: str, metrics: dict[str, jax.Array]) -> None:
        self.latest[turn] = metrics
        if step % self.plan.log_every == 0 or step == self.plan.steps:
            rates = self._rates(step)
            self._flush()
            if len(self.plan.objective.turns) > 1:  # the logged steps may all be of one turn
                each = {f"{name}/{k}": v for name, own in self.latest.items() for k, v in own.items() if not k.startswith("guard/")}
                metrics = metrics | each
            self.latest.clear()  # of a turn that has ended there is nothing more to say
            self.pending = (step, metrics, rates)

    def _flush(self) -> None:
        """Reads and writes the pending metrics."""
        if self.pending is None:
            return
        step, metrics, rates = self.pending
        self.pending = None
        scalars = {k: float(v) for k, v in jax.device_get(metrics).items()}
        scalars |= rates | {k: float(v) for k, v in self.plan.host_metrics().items()}
        if self.plan.writer:
            self.plan.writer.write(step, scalars)
        self.plan.goodput.seen(step)
        if self.progress:
            self.progress.update(step, scalars)
        self.alarms.update(step, scalars)
        if scalars["guard/in_a_row"] >= self.plan.guard.max_in_a_row:
            last = f"last loss {scalars[LOSS]:.4g}, gradient norm {scalars['grad_norm']:.4g} at step {step}"
            raise UserError(_refused(int(scalars["guard/in_a_row"]), last))

    def _rates(self, step: int) -> dict[str, float]:
        """Since the last logged step, jobs and saves included."""
        then, old_step, old_waited = self.since
        now, waited = time.monotonic(), self.feed.waited
        self.since = (now, step, waited)
        seconds = max(now - then, 1e-9)
        rate = (step - old_step) / seconds
        out = {CLIPS_PER_SECOND: rate * self.plan.clips, DATA_WAIT: min((waited - old_waited) / seconds, 1.0)}
        flops, top = self.program.flops, chips.peak_flops(jax.devices()[0])
        if flops is not None and top is not None:
            out[MFU] = flops * rate / (top * jax.device_count())
        return out


def _refused(count: int, last: str) -> str:
    advice = "lower optimizer.learning_rate, or set optimizer.clip_norm; nothing was saved since"
    return f"{count} steps in a row were not finite or spiked ({last}): {advice}"
