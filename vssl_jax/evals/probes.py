"""What is trained to evaluate: a linear or attentive probe on cached features, and fine-tuning. Objectives in the one loop."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from vssl_jax import batch as batch_lib
from vssl_jax import models
from vssl_jax.data import pipeline
from vssl_jax.data.index import BrokenVideo
from vssl_jax.data.row import Input
from vssl_jax.data.sample import drawing
from vssl_jax.data.source import UNLABELED, Source
from vssl_jax.data.subset import Subset, balanced
from vssl_jax.errors import UserError
from vssl_jax.evals.classification import average_views
from vssl_jax.evals.devices import spread
from vssl_jax.evals.features import Table, check_some, counting
from vssl_jax.evals.subject import Subject, initial
from vssl_jax.models import backbone as backbone_lib
from vssl_jax.models import heads
from vssl_jax.objectives.classify import FEATURE_MAP, FEATURE_POOLED, CachedProbe, Classify
from vssl_jax.objectives.protocol import ENCODER, STATS, Memory, Objective, Parts
from vssl_jax.perturb import recipe
from vssl_jax.train import fit, sharding
from vssl_jax.train import optimizer as optimizer_lib
from vssl_jax.train.checkpoint import leave_out
from vssl_jax.train.loop import Plan, train
from vssl_jax.train.state import TrainState


def _fit(objective: Objective, config: Mapping[str, Any], shapes, batches, seed: int, params: Parts, memory: Memory) -> TrainState:
    """The one loop, on this host's devices, without checkpoints: a probe is short, and repeats from its seed."""
    optimizer = optimizer_lib.build(config["optimizer"], config["steps"], config["batch_size"])
    return train(
        Plan(
            objective=objective,
            optimizers={turn.name: optimizer for turn in objective.turns},
            steps=config["steps"],
            batches=batches,
            batch_shapes=shapes,
            mesh=sharding.local_mesh(config["batch_size"]),
            seed=seed,
            initial=params,
            initial_memory=memory,
            log_every=max(config["steps"] // 10, 1),
        )
    )


def _standardized(train_rows: np.ndarray, test_rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both with the training rows' mean and deviation per channel: the parameter-free normalization that lets one learning rate fit any backbone. A channel
    that is constant over the training rows is not scaled: over no deviation, a little of it in a test row would outweigh all others.
    """
    axes = tuple(range(train_rows.ndim - 1))
    # In double precision, as float32 sums of ones end at 16.8 million, which maps of ten thousand videos reach; a part at a time, as they fill the memory.
    mean = train_rows.mean(axes, dtype=np.float64)
    parts = np.array_split(train_rows, -(-len(train_rows) // 256))
    variance = sum(np.square(part - mean).sum(axes) for part in parts) / (train_rows.size / train_rows.shape[-1])
    std = np.sqrt(variance)
    std = np.where(std < 1e-6 * np.maximum(np.abs(mean), 1.0), 1.0, std + 1e-6).astype(np.float32)
    mean = mean.astype(np.float32)

    def standard(rows: np.ndarray) -> np.ndarray:
        out = (rows - mean).astype(np.float32, copy=False)
        out /= std
        return out

    return standard(train_rows), standard(test_rows)


def cached_probe(train_table: Table, test_table: Table, classes: int, config: Mapping[str, Any], seed: int) -> np.ndarray:
    """Trains `config.head` on cached features; returns probabilities of the test rows [M,C]."""
    pooled, test_pooled = _standardized(train_table.pooled_NxD, test_table.pooled_NxD)
    maps, test_maps = (pooled[:, None, None, None], test_pooled[:, None, None, None])
    if heads.reads_map(config["head"]):
        maps, test_maps = _standardized(train_table.map_NxTxHxWxD, test_table.map_NxTxHxWxD)
    objective = CachedProbe(heads.build(config["head"], classes), classes)
    rows, size = len(pooled), config["batch_size"]

    def batch(members: np.ndarray) -> dict[str, np.ndarray]:
        return {
            FEATURE_MAP: maps[members],
            FEATURE_POOLED: pooled[members],
            batch_lib.LABEL: train_table.labels_N[members].astype(np.int32),
        }

    def batches(start: int) -> Iterator[dict[str, np.ndarray]]:
        step = start
        while True:
            yield batch(np.random.default_rng((seed, step)).integers(0, rows, size))
            step += 1

    shapes = {k: jax.ShapeDtypeStruct((size, *v.shape[1:]), v.dtype) for k, v in batch(np.zeros(1, np.int64)).items()}
    state = _fit(objective, config, shapes, batches, seed, {}, {})
    params = jax.device_get(state.params)
    chunks = [
        np.asarray(_logits(objective, params, {FEATURE_MAP: test_maps[i : i + 256], FEATURE_POOLED: test_pooled[i : i + 256]}))
        for i in range(0, len(test_pooled), 256)
    ]
    return average_views(np.concatenate(chunks)[:, None])


@functools.partial(jax.jit, static_argnums=0)
def _logits(objective: CachedProbe, params: Parts, batch: Mapping[str, jax.Array]) -> jax.Array:
    return objective.logits(params, {}, batch)


def classifier(module: nn.Module, config: Mapping[str, Any], classes: int, shown: Mapping[str, Any]) -> Classify:
    """`shown`: what of its views it is shown, see Subject."""
    pixels = backbone_lib.pixels(module)
    return Classify(
        encoder=module, head=heads.build(config["head"], classes), classes=classes, frames=module.frames,
        view=recipe.build_view({**config["view"], **shown}, pixels),
        eval_view=recipe.build_eval_view({**config["eval_view"], **shown}, pixels),
        smoothing=config["smoothing"], mix=recipe.build_mix(config["mix"]),
    )  # fmt: skip


def check_probe(config: Mapping[str, Any], features: backbone_lib.Features, classes: int, videos: int, networks: int) -> None:
    """Raises UserError where `config` could not be trained on `features` (shapes of a batch of them) of so many videos in all, by each of so many
    networks.
    """
    if heads.reads_map(config["head"]):
        # as extracted, and standardized
        needed, available = 2 * 4 * math.prod(features.map_BxTxHxWxD.shape[1:]) * videos * networks, fit.host_bytes()
        if needed > available:
            raise UserError(
                f"the attentive probe keeps the feature maps of {videos:,} videos in memory, {needed / fit.GIB:.1f} GiB of this machine's "
                f"{available / fit.GIB:.1f}: name fewer videos, leave 'attentive' out of protocols, or train it as a run "
                "(objective classify with freeze=true and the attentive head)"
            )
    optimizer_lib.build(config["optimizer"], config["steps"], config["batch_size"])
    objective = CachedProbe(heads.build(config["head"], classes), classes)
    jax.eval_shape(lambda: objective.init(jax.random.key(0), {FEATURE_MAP: features.map_BxTxHxWxD, FEATURE_POOLED: features.pooled_BxD}))


def check_fine_tuning(config: Mapping[str, Any], model: Mapping[str, Any], shown: Mapping[str, Any], train_input: Input) -> None:
    """Raises UserError where `config` could not fine-tune a backbone of `model`, shown that, on that input."""
    optimizer_lib.build(config["optimizer"], config["steps"], config["batch_size"])
    objective = classifier(models.build({**model, **config["model"]}), config, len(train_input.source.classes), shown)
    shapes, key = train_input.spec.shapes(), jax.random.key(0)
    whole, _ = jax.eval_shape(lambda: initial(model, 0))
    leave_out(whole, config["drop"], "finetune.drop", "the model")
    slots = {**shapes, batch_lib.SLOT: shapes[batch_lib.INDEX]}
    jax.eval_shape(lambda batch: objective.loss(*objective.init(key, shapes), batch, key, objective.turns[0]), slots)


def _label(source: Source, i: int) -> int:
    """A broken video has no label to spend a budget on."""
    try:
        return source.open(i).label
    except BrokenVideo:
        return UNLABELED


def labeled(input: Input, count: int, seed: int, batch_size: int) -> Input:
    """The input of fine-tuning: the training input cut to a budget of `count` labels (0: all), whose clips are drawn anew every time a video is seen:
    those at fixed places, as frozen features want them, a network that trains would know by heart.
    """
    spec = dataclasses.replace(input.spec, batch_size=batch_size)
    source = input.source
    if count > 0:
        labels = np.array([_label(source, i) for i in range(len(source))])
        source = Subset(source, tuple(int(i) for i in balanced(labels, count, seed)))
    return dataclasses.replace(input, source=source, spec=spec, sampler=drawing(input.sampler), seed=seed)


def fine_tune(
    subject: Subject, train_input: Input, test_input: Input, config: Mapping[str, Any], seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Trains encoder and head end to end; returns (probabilities [M,C] averaged over views, labels [M]) of the test videos."""
    module, params = subject.module(**config["model"]), leave_out(subject.params, config["drop"], "finetune.drop", subject.source)
    objective = classifier(module, config, len(train_input.source.classes), subject.shown)
    state = _fit(
        objective, config, train_input.spec.shapes(), lambda start: pipeline.batches(train_input, start), seed,
        {ENCODER: params}, {STATS: subject.stats},
    )  # fmt: skip
    return multi_view(objective, state.params, state.memory, test_input)


@functools.lru_cache(maxsize=8)
def _views_of(objective: Classify) -> Callable:
    """One function for all weights of a classifier."""
    return lambda weights, batch: objective.logits(*weights, batch)


def multi_view(objective: Classify, params: Parts, memory: Memory, test_input: Input) -> tuple[np.ndarray, np.ndarray]:
    """(probabilities [M,C], labels [M]) of one pass over the test videos that have a label: the softmax averaged over clips and crops. Raises UserError as
    `check_some`.
    """
    logits = spread(_views_of(objective), jax.device_get((params, memory)))
    probabilities, labels, left_out = [], [], 0
    for batch in pipeline.epoch(test_input):
        counts, unlabeled = counting(batch)
        left_out += unlabeled
        probabilities.append(average_views(np.asarray(logits(batch)))[counts])
        labels.append(np.asarray(batch[batch_lib.LABEL])[counts])
    labels_M = np.concatenate(labels)
    check_some(labels_M, left_out, "test videos")
    return np.concatenate(probabilities), labels_M
