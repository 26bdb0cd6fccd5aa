"""Every pretext task at a size that compiles at once, and how to ask it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from tests.objectives.test_classify import Means
from tests.train import tiny
from vssl_jax import batch as batch_lib
from vssl_jax.models.piece_heads import ConcatHead, PairsHead
from vssl_jax.objectives.clip_order import ClipOrder
from vssl_jax.objectives.pace import Pace
from vssl_jax.objectives.pretext import Pretext, Question
from vssl_jax.objectives.rotation import Rotation
from vssl_jax.perturb.crop import WholePicture
from vssl_jax.perturb.speed import RandomPace
from vssl_jax.perturb.view import EvalView, RandomView

SPEC = batch_lib.Spec(batch_size=8, clips=2, frames=16, height=16, width=16)
FIELDS = dict(
    encoder=Means(), frames=4, view=RandomView(size=16, crop=WholePicture(), flip=0.0, mean=(0.0,) * 3, std=(1.0,) * 3), eval_view=EvalView(size=16)
)  # fmt: skip  # the view changes nothing, so that pieces can be found again in the clip

TASKS: dict[str, Pretext] = {
    "clip_order": ClipOrder(head=PairsHead(6, hidden=8), classes=(6,), count=3, gap=1, **FIELDS),
    "pace": Pace(head=ConcatHead(3), classes=(3,), pace=RandomPace((1, 2, 4), 4), **FIELDS),
    "rotation": Rotation(head=ConcatHead(4), classes=(4,), **FIELDS | {"frames": 16}),
    "rotation_drawn": Rotation(head=ConcatHead(4), classes=(4,), every=False, **FIELDS | {"frames": 16}),
}


@functools.cache
def started(task: Pretext):
    """(params, memory)"""
    return task.init(jax.random.key(0), None)


def zeroed(params):
    """The head says the same of everything."""
    return params | {"head": jax.tree.map(jnp.zeros_like, params["head"])}


_ask = functools.cache(lambda task: jax.jit(task.ask))


def ask(task: Pretext, batch=None, seed: int = 0) -> Question:
    batch = tiny.batches(1, SPEC)[0] if batch is None else batch
    return jax.device_get(_ask(task)(started(task)[1], batch, jax.random.key(seed)))


def labels(task: Pretext, draws: int) -> np.ndarray:
    """The labels of at least that many questions, [N,A]."""
    spec = batch_lib.Spec(batch_size=64, clips=2, frames=SPEC.frames, height=2, width=2)
    batch = tiny.batches(1, spec)[0]
    asked = jax.jit(lambda key: task.ask(started(task)[1], batch, key).label_QxA)
    found = [np.asarray(asked(jax.random.key(0)))]
    while sum(map(len, found)) < draws:
        found.append(np.asarray(asked(jax.random.key(len(found)))))
    return np.concatenate(found)
