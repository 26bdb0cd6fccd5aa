"""What a pretraining does besides its steps, every so often: pictures of what the method sees, and the accuracy of one that learns classes.

Both are jobs of the one loop, so they stand in the same order for every method, and run on the mesh that trains.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from vssl_jax import batch as batch_lib
from vssl_jax.data import pipeline
from vssl_jax.data.row import Input
from vssl_jax.errors import UserError
from vssl_jax.objectives.protocol import Objective
from vssl_jax.train import pictures as pictures_lib
from vssl_jax.train import sharding
from vssl_jax.train.loop import Job
from vssl_jax.train.metrics import MetricsWriter
from vssl_jax.train.state import TrainState

ACCURACY = "validation/accuracy"


def pictures(objective: Objective, input: Input, workdir: Path, writer: MetricsWriter, every: int) -> Job:
    """Pictures of the same few clips at every time, for the report and TensorBoard."""
    rows, names = min(4, input.spec.batch_size), []
    few = dataclasses.replace(input, spec=dataclasses.replace(input.spec, batch_size=rows))

    @jax.jit
    def draw(params, memory, batch):
        shown = objective.pictures(params, memory, batch, jax.random.key(0))
        names[:] = shown  # while tracing: what comes out of a jitted function has lost the method's order, in which they are to be seen
        return shown

    def run(state: TrainState, step: int) -> tuple[TrainState, Mapping[str, float]]:
        batch = next(iter(pipeline.batches(few, 0)))
        replicated = jax.sharding.NamedSharding(_mesh(state), jax.sharding.PartitionSpec())
        local = {k: jax.device_put(np.asarray(v), replicated) for k, v in batch.items()}
        drawn = draw(state.params, state.memory, local)
        shown = {name: np.asarray(drawn[name]) for name in names}
        if shown and jax.process_index() == 0:
            pictures_lib.save_pictures(workdir, step, shown, most=rows)
            writer.write_video(step, shown)
        return state, {}

    return Job(every, run, "pictures")


def validation(objective: Objective, training: Input, held_out: Input, every: int) -> Job:
    """The share of held-out videos whose class the method tells, by the mean softmax of its views; every host reads its own part of them.

    Raises UserError where the method learns no classes, or the data's are others.
    """
    if objective.label_classes() is None:
        raise UserError(f"train.validate_every: {type(objective).__name__} learns no classes, set it to 0")
    if training.source.classes != held_out.source.classes:
        raise UserError(
            "the data of training and of eval.test, on which it is validated, have other classes: give both the same classes file, "
            "or set train.validate_every=0"
        )

    @jax.jit
    def count(params, memory, batch):
        probabilities_BxC = jnp.mean(jax.nn.softmax(objective.logits(params, memory, batch), axis=-1), axis=1)
        labels = batch[batch_lib.LABEL]
        weight = batch[batch_lib.WEIGHT] * (labels >= 0)
        return jnp.sum((jnp.argmax(probabilities_BxC, axis=-1) == labels) * weight), jnp.sum(weight)

    def run(state: TrainState, step: int) -> tuple[TrainState, Mapping[str, float]]:
        right, videos = 0.0, 0.0
        for batch in pipeline.epoch(held_out, jax.process_index(), jax.process_count()):
            counted = count(state.params, state.memory, sharding.global_batch(batch, _mesh(state)))
            right, videos = right + float(counted[0]), videos + float(counted[1])
        if videos == 0:
            raise UserError("train.validate_every: no video of eval.test could be read")
        return state, {ACCURACY: right / videos}

    return Job(every, run, "validation")


def _mesh(state: TrainState) -> jax.sharding.Mesh:
    return jax.tree.leaves(state.params)[0].sharding.mesh
