"""What a pretraining does besides its steps, every so often: what the method renews of its memory, pictures of what it sees, how it does on held-out
videos, and what its features are worth to nearest neighbors.

All are jobs of the one loop, so they stand in the same order for every method, and run on the mesh that trains.
"""

import dataclasses
import functools
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vssl_jax import batch as batch_lib
from vssl_jax.data import pipeline
from vssl_jax.data.row import Input
from vssl_jax.errors import UserError
from vssl_jax.evals.knn import joined, weighted_knn
from vssl_jax.objectives.protocol import VIDEO, Objective, choose
from vssl_jax.train import pictures as pictures_lib
from vssl_jax.train import sharding
from vssl_jax.train.loop import Job
from vssl_jax.train.metrics import MetricsWriter
from vssl_jax.train.state import TrainState

ACCURACY, KNN = "validation/accuracy", "knn/top1"
REFRESH = 0xFFFFFFFE  # what the run's key is folded with: no step's number, and not the one that train/state.py starts with


def refresh(objective: Objective) -> Job:
    """The method's own `refresh`, every `refresh_every` steps and at no other time, not even at the end of training. Its draws are a function of the
    run's key and the step.
    """
    renew = None

    def run(state: TrainState, step: int) -> tuple[TrainState, Mapping[str, float]]:
        nonlocal renew
        if step % objective.refresh_every:
            return state, {}
        if renew is None:  # placed as the memory is, whose buffers it takes over
            kept = jax.tree.map(lambda x: x.sharding, state.memory)
            replicated = jax.sharding.NamedSharding(_mesh(state), jax.sharding.PartitionSpec())
            renew = jax.jit(objective.refresh, donate_argnums=1, out_shardings=(kept, replicated))
        rng = jax.random.fold_in(jax.random.fold_in(state.rng, jnp.uint32(REFRESH)), step)
        memory, metrics = renew(state.params, state.memory, rng)
        return state.replace(memory=memory), metrics

    return Job(objective.refresh_every, run, "refresh", changes=True)


def pictures(objective: Objective, input: Input, workdir: Path, writer: MetricsWriter, every: int) -> Job:
    """Pictures of the same few clips at every time, for the report and TensorBoard. Raises UserError where the package that encodes them is missing."""
    if importlib.util.find_spec("PIL") is None:
        raise UserError("pictures of the training need Pillow: pip install pillow, or set train.picture_every=0")
    rows, names = min(4, input.spec.batch_size), []
    few = dataclasses.replace(input, spec=dataclasses.replace(input.spec, batch_size=rows))

    @functools.partial(jax.jit, static_argnums=3)
    def draw(params, memory, batch, replicated):
        shown = objective.pictures(params, memory, batch, jax.random.key(0))
        names[:] = shown  # while tracing: what comes out of a jitted function has lost the method's order, in which they are to be seen
        return jax.lax.with_sharding_constraint(shown, replicated)  # rows that other hosts hold could not be read

    def run(state: TrainState, step: int) -> tuple[TrainState, Mapping[str, float]]:
        batch = next(iter(pipeline.batches(few, 0)))
        replicated = jax.sharding.NamedSharding(_mesh(state), jax.sharding.PartitionSpec())
        local = {k: jax.device_put(np.asarray(v), replicated) for k, v in batch.items()}
        drawn = jax.device_get(draw(state.params, state.memory, local, replicated))
        shown = {name: drawn[name] for name in names}
        answers = [shown.pop(name) for name in ("label", "prediction") if name in shown]
        captions = [objective.caption(*(tuple(map(int, given)) for given in pair)) for pair in zip(*answers, strict=True)]
        if shown and jax.process_index() == 0:
            pictures_lib.save_pictures(workdir, step, shown, most=rows, captions=captions)
            writer.write_video(step, shown)
        return state, {}

    return Job(every, run, "pictures")


def validation(objective: Objective, training: Input, held_out: Input, every: int) -> Job:
    """How a method does on held-out videos; every host reads its own part of them.

    Of a method that learns the data's classes: the share of videos whose class it tells, by the mean softmax of its views. Of another: the
    metrics of its own task (`held_out` of the protocol), with the same draws every time.

    Raises UserError where the method has no such task, or learns classes that are not the data's.
    """
    if batch_lib.LABEL in objective.needs and training.source.classes != held_out.source.classes:
        raise UserError(
            "the data of training and of eval.test, on which it is validated, have other classes: give both the same classes file, "
            "or set train.validate_every=0"
        )
    mean = _own_task(objective) if objective.label_classes() is None else _right(objective)

    def run(state: TrainState, step: int) -> tuple[TrainState, Mapping[str, float]]:
        sums, videos = {}, 0.0
        for number, batch in enumerate(pipeline.epoch(held_out, jax.process_index(), jax.process_count())):
            means, count = mean(state.params, state.memory, sharding.global_batch(batch, _mesh(state)), np.int32(number))
            videos += float(count)
            sums = {name: sums.get(name, 0.0) + float(value) * float(count) for name, value in means.items()}
        if videos == 0:
            raise UserError("train.validate_every: no video of eval.test could be read")
        return state, {f"validation/{name}": value / videos for name, value in sums.items()}

    return Job(every, run, "validation")


def _right(objective: Objective):
    """(params, memory, batch, its number) -> ({"accuracy": ...}, videos)."""

    @jax.jit
    def count(params, memory, batch, number):
        probabilities_BxC = jnp.mean(jax.nn.softmax(objective.logits(params, memory, batch), axis=-1), axis=1)
        labels = batch[batch_lib.LABEL]
        weight = batch[batch_lib.WEIGHT] * (labels >= 0)
        right = jnp.sum((jnp.argmax(probabilities_BxC, axis=-1) == labels) * weight)
        return {"accuracy": right / jnp.maximum(jnp.sum(weight), 1.0)}, jnp.sum(weight)

    return count


def _own_task(objective: Objective):
    """As `_right`, with the metrics of the method's own task."""
    if type(objective).held_out is Objective.held_out:
        raise UserError(f"train.validate_every: {type(objective).__name__} has no task of its own to validate, set it to 0")

    @jax.jit
    def ask(params, memory, batch, number):
        rng = jax.random.fold_in(jax.random.key(0), number)
        return objective.held_out(params, memory, batch, rng), jnp.sum(batch[batch_lib.WEIGHT])

    return ask


def neighbors(
    objective: Objective, gallery: Input, queries: Input, settings: Mapping[str, Any], every: int, features: Sequence[str] = (VIDEO,)
) -> Job:
    """Online kNN: top-1 of the videos of `queries` by their nearest among those of `gallery`, on the `features` of the moment, together
    (evals/knn.py; `settings` are its k, temperature, center). It is for watching a run: the number to report is the evaluation's.

    Raises UserError where the data have no classes, or not the same, or the method lacks a feature, or embeds none.
    """
    if type(objective).embed is Objective.embed:
        raise UserError(f"train.knn_every: {type(objective).__name__} has no embed that would give it features, set it to 0")
    choose(features, objective.shown())
    classes = gallery.source.classes
    if not classes or classes != queries.source.classes:
        raise UserError("train.knn_every needs eval.train and eval.test with the same classes: give both labels, or set it to 0")

    @functools.partial(jax.jit, static_argnums=3)
    def embed(params, memory, batch, replicated):
        made = objective.embed(params, memory, batch, features)
        found = tuple(made[name] for name in features), batch[batch_lib.LABEL], batch[batch_lib.WEIGHT] > 0
        return jax.lax.with_sharding_constraint(found, replicated)

    def table(state: TrainState, input: Input) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
        mesh = _mesh(state)
        replicated = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
        rows = []
        for batch in pipeline.epoch(input, jax.process_index(), jax.process_count()):
            made, labels, real = jax.device_get(embed(state.params, state.memory, sharding.global_batch(batch, mesh), replicated))
            counts = real & (labels >= 0)
            rows.append((*(own[counts] for own in made), labels[counts]))
        *made, labels = (np.concatenate(column) for column in zip(*rows, strict=True))
        return made, labels

    def run(state: TrainState, step: int) -> tuple[TrainState, Mapping[str, float]]:
        (train, train_labels), (test, test_labels) = table(state, gallery), table(state, queries)
        train, test = joined(list(zip(train, test, strict=True)), settings["center"])
        scores = weighted_knn(train, train_labels, test, len(classes), settings["k"], settings["temperature"])
        return state, {KNN: float(np.mean(np.argmax(scores, axis=1) == test_labels))}

    return Job(every, run, "knn")


def _mesh(state: TrainState) -> jax.sharding.Mesh:
    return jax.tree.leaves(state.params)[0].sharding.mesh
