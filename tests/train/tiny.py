"""Tiny methods, data and runs that the tests of train/ share: everything compiles in seconds on one CPU."""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from vssl_jax import batch as batch_lib
from vssl_jax import config as config_lib
from vssl_jax.models.cnn import CNN
from vssl_jax.models.heads import LinearHead
from vssl_jax.models.mae_decoder import MAEDecoder
from vssl_jax.models.vit import ViT
from vssl_jax.objectives.classify import Classify
from vssl_jax.objectives.protocol import Objective, Turn
from vssl_jax.objectives.videomae import VideoMAE
from vssl_jax.perturb.masks import Tube
from vssl_jax.perturb.view import EvalView, RandomView
from vssl_jax.train import optimizer as optimizer_lib
from vssl_jax.train import sharding
from vssl_jax.train import state as state_lib
from vssl_jax.train.checkpoint import Checkpointer
from vssl_jax.train.loop import Plan, Program, compile_plan

SPEC = batch_lib.Spec(batch_size=8, clips=1, frames=4, height=32, width=32)


def optimizer(steps: int = 100, batch_size: int = 8, **changes: Any) -> optimizer_lib.Optimizer:
    """The house's defaults with absolute rates and `changes`."""
    return optimizer_lib.build(ConfigDict(config_lib.optimizer() | {"lr_batch": 0} | changes), steps, batch_size)


@functools.cache
def sgd() -> optimizer_lib.Optimizer:
    """Plain gradient descent with momentum: after the first step its trace is the gradient itself."""
    return optimizer(name="sgd", learning_rate=0.1, schedule="none", weight_decay=0.0)


def batches(count: int, spec: batch_lib.Spec = SPEC, seed: int = 0) -> list[dict[str, np.ndarray]]:
    made = [batch_lib.fake(spec, jax.random.fold_in(jax.random.key(seed), i)) for i in range(count)]
    return jax.device_get(made)


def videomae(cls: type[VideoMAE] = VideoMAE, **changes: Any) -> VideoMAE:
    """Grid (2,4,4), patches of 2x8x8: 8 visible and 24 masked tokens."""
    fields = dict(
        encoder=ViT(width=16, depth=2, heads=2, tubelet=(2, 8, 8), frames=4, size=32),
        decoder=MAEDecoder(width=8, depth=1, heads=2, out=3 * 2 * 8 * 8),
        mask=Tube(0.75),
        view=RandomView(size=32, flip=0.5),
        eval_view=EvalView(size=32),
    )
    return cls(**(fields | changes))


def classifier(cls: type[Classify] = Classify, **changes: Any) -> Classify:
    view, eval_view = RandomView(size=16, flip=0.5), EvalView(size=16)
    return cls(**(dict(encoder=CNN(width=8), head=LinearHead(2), classes=2, frames=4, view=view, eval_view=eval_view) | changes))


@dataclass(frozen=True)
class Regression(Objective):
    """The least there is: y = x @ kernel by least squares on {"x": [B,3], "y": [B]}; memory counts updates and keeps a running mean."""

    needs: ClassVar[tuple[str, ...]] = ("x", "y")

    def init(self, rng, batch):
        return {"model": {"kernel": jax.random.normal(rng, (3,))}}, {"ema": {"kernel": jnp.zeros(3)}, "updates": jnp.zeros((), jnp.int32)}

    def loss(self, params, memory, batch, rng, turn):
        error = batch["x"] @ params["model"]["kernel"] - batch["y"]
        return jnp.mean(error**2), (memory, {"mean_error": jnp.mean(error)})

    def after_update(self, params, memory, step):
        ema = jax.tree.map(lambda old, new: 0.9 * old + 0.1 * new, memory["ema"], params["model"])
        return {"ema": ema, "updates": memory["updates"] + 1}


@dataclass(frozen=True)
class Adversaries(Objective):
    """Two networks that take turns, as a GAN's: "disc" for two steps, then "gen" for one. The loss touches both in both turns."""

    needs: ClassVar[tuple[str, ...]] = ("x", "y")
    turns: ClassVar[tuple[Turn, ...]] = (Turn("disc", ("disc",), steps=2), Turn("gen", ("gen",)))

    def init(self, rng, batch):
        keys = jax.random.split(rng)
        return {name: {"kernel": jax.random.normal(k, (3,))} for name, k in zip(("gen", "disc"), keys, strict=True)}, {}

    def loss(self, params, memory, batch, rng, turn):
        margin = jnp.mean((batch["x"] @ params["gen"]["kernel"] - batch["y"]) * (batch["x"] @ params["disc"]["kernel"]))
        return margin if turn.name == "gen" else -margin, (memory, {})


def rows(count: int, seed: int = 0, size: int = 8) -> list[dict[str, np.ndarray]]:
    """Batches of Regression and Adversaries."""
    rng = np.random.default_rng(seed)
    return [{"x": rng.normal(size=(size, 3)).astype(np.float32), "y": rng.normal(size=size).astype(np.float32)} for _ in range(count)]


def plan(objective: Objective, given: list[dict[str, np.ndarray]], mesh: dict[str, int] | None = None, **changes: Any) -> Plan:
    """A plan over `given` batches; without `mesh`, on one device."""
    devices = jax.devices()[:1] if mesh is None else jax.devices()
    changes.setdefault("optimizers", {turn.name: sgd() for turn in objective.turns})
    return Plan(
        objective=objective,
        steps=changes.pop("steps", len(given)),
        batches=changes.pop("batches", lambda start: iter(given[start:])),
        batch_shapes={k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in given[0].items()},
        mesh=sharding.make_mesh({"data": 1} if mesh is None else mesh, devices),
        **changes,
    )


def fresh(plan: Plan) -> state_lib.TrainState:
    """The state that a run begins with: drawn once for all meshes that a test compares, then placed on the plan's."""
    shapes = tuple((name, s.shape, s.dtype) for name, s in plan.batch_shapes.items())
    drawn = _fresh(plan.objective, tuple(plan.optimizers.items()), plan.seed, shapes)
    with jax.set_mesh(plan.mesh):
        placed = sharding.shardings(drawn, plan.mesh)
        return jax.jit(lambda tree: jax.tree.map(jnp.copy, tree), out_shardings=placed)(drawn)  # copies: the step donates what it is given


@functools.lru_cache(maxsize=4)
def _fresh(objective, optimizers, seed, shapes):
    batch = {name: jax.ShapeDtypeStruct(shape, dtype) for name, shape, dtype in shapes}
    return jax.jit(lambda: state_lib.init(objective, dict(optimizers), seed, batch))()


def advance(plan: Plan) -> tuple[list[state_lib.TrainState], list[dict[str, float]], Program]:
    """Every state from the fresh one on (host arrays), and the metrics of every step: the compiled steps without the loop."""
    program = compile_plan(plan)
    state = fresh(plan)
    states, metrics = [host(state)], []
    with jax.set_mesh(plan.mesh):
        for step, batch in zip(range(plan.steps), plan.batches(0), strict=False):
            turn = state_lib.turn_at(plan.objective, step)
            state, scalars = program.steps[turn.name](state, sharding.global_batch(batch, plan.mesh))
            states.append(host(state))
            metrics.append({k: float(v) for k, v in scalars.items()})
    return states, metrics, program


def check_resume(objective: Objective, given: list[dict[str, np.ndarray]], folder: Path, at: int = 1) -> None:
    """A run that goes on from step `at`'s checkpoint ends with the bits of the run that was not stopped."""
    made = plan(objective, given)
    program, checkpointer = compile_plan(made), Checkpointer(folder, every=1, keep=1)

    def go(state, first):
        for step in range(first, made.steps):
            batch = sharding.global_batch(given[step], made.mesh)
            state, metrics = program.steps[state_lib.turn_at(objective, step).name](state, batch)
            if step + 1 == at:
                checkpointer.save(at, state)
                checkpointer.wait()
        return host((state, metrics))

    with jax.set_mesh(made.mesh):
        whole = go(fresh(made), 0)
        restored, step = checkpointer.restore_latest(program.state_shapes)
        assert step == at
        assert_same_bits(whole, go(restored, at))
    checkpointer.close()


def host(tree: Any) -> Any:
    """Copies as numpy arrays, PRNG keys as their bits."""
    keys = lambda x: jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x  # noqa: E731
    return jax.tree.map(lambda x: np.array(keys(x)), tree)


def assert_same_bits(a: Any, b: Any) -> None:
    """Every leaf bit-equal, NaN too."""
    a, b = host(a), host(b)
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for (path, x), y in zip(jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype and x.tobytes() == y.tobytes(), f"{sharding.path_name(path)} differs"


def largest_difference(a: Any, b: Any) -> float:
    leaves = zip(jax.tree.leaves(host(a)), jax.tree.leaves(host(b)), strict=True)
    return max(float(np.max(np.abs(x.astype(np.float64) - y))) for x, y in leaves)
