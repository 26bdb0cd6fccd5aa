"""What is trained to evaluate: a linear or attentive probe on cached features, and fine-tuning. Objectives in the one loop."""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from vssl_jax import batch as batch_lib
from vssl_jax.data import pipeline
from vssl_jax.data.row import Input
from vssl_jax.errors import UserError
from vssl_jax.evals.classification import average_views
from vssl_jax.evals.features import Table
from vssl_jax.evals.subject import Subject
from vssl_jax.models.heads import HEADS
from vssl_jax.objectives.classify import FEATURE_MAP, FEATURE_POOLED, CachedProbe, Classify
from vssl_jax.objectives.protocol import Objective
from vssl_jax.perturb import recipe
from vssl_jax.train import optimizer as optimizer_lib
from vssl_jax.train import sharding
from vssl_jax.train.loop import Plan, train
from vssl_jax.train.state import TrainState


def _head(config: Mapping[str, Any], classes: int):
    fields = dict(config)
    return HEADS[fields.pop("name")](classes=classes, **fields)


def _fit(objective: Objective, config: Mapping[str, Any], shapes, batches, seed: int, initial: Mapping[str, Any]) -> TrainState:
    """The one loop, on this host's devices, without checkpoints: a probe is short, and repeats from its seed."""
    devices = jax.local_devices()
    while config["batch_size"] % len(devices):
        devices = devices[: len(devices) // 2]
    optimizer = optimizer_lib.build(config["optimizer"], config["steps"], config["batch_size"])
    return train(
        Plan(
            objective=objective,
            optimizers={turn.name: optimizer for turn in objective.turns},
            steps=config["steps"],
            batches=batches,
            batch_shapes=shapes,
            mesh=sharding.make_mesh({"data": len(devices)}, devices),
            seed=seed,
            initial=dict(initial),
            log_every=max(config["steps"] // 10, 1),
        )
    )


def _standardized(train_rows: np.ndarray, test_rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both with the training rows' mean and deviation per channel: the parameter-free normalization that lets one learning rate fit any backbone."""
    axes = tuple(range(train_rows.ndim - 1))
    mean, std = train_rows.mean(axes), train_rows.std(axes) + 1e-6
    return ((train_rows - mean) / std).astype(np.float32), ((test_rows - mean) / std).astype(np.float32)


def cached_probe(train_table: Table, test_table: Table, classes: int, config: Mapping[str, Any], seed: int) -> np.ndarray:
    """Trains `config.head` on cached features; returns probabilities of the test rows [M,C]. Raises UserError for a training set without labels."""
    if (train_table.labels_N < 0).all():
        raise UserError("a probe needs labels: the training data of the evaluation have none")
    pooled, test_pooled = _standardized(train_table.pooled_NxD, test_table.pooled_NxD)
    maps, test_maps = (pooled[:, None, None, None], test_pooled[:, None, None, None])
    if config["head"]["name"] == "attentive":
        maps, test_maps = _standardized(train_table.map_NxTxHxWxD, test_table.map_NxTxHxWxD)
    objective = CachedProbe(_head(config["head"], classes), classes)
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
    state = _fit(objective, config, shapes, batches, seed, {})
    params = jax.device_get(state.params)
    logits = jax.jit(lambda p, b: objective.logits(p, {}, b))
    chunks = [
        np.asarray(logits(params, {FEATURE_MAP: test_maps[i : i + 256], FEATURE_POOLED: test_pooled[i : i + 256]}))
        for i in range(0, len(test_pooled), 256)
    ]
    return average_views(np.concatenate(chunks)[:, None])


def _encoder_for(subject: Subject, config: Mapping[str, Any]):
    """(module, encoder parameters) with the recipe's changes: other fields, and the parameters it drops (the final norm, which fc_norm replaces)."""
    dropped = tuple(config["drop"])
    if missing := [name for name in dropped if name not in subject.params]:
        raise UserError(f"finetune.drop names {', '.join(missing)}, which {subject.source} does not have")
    return subject.module(**config["model"]), {k: v for k, v in subject.params.items() if k not in dropped}


def fine_tune(
    subject: Subject, train_input: Input, test_input: Input, config: Mapping[str, Any], seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Trains encoder and head end to end; returns (probabilities [M,C] averaged over views, labels [M]) of the test videos."""
    module, params = _encoder_for(subject, config)
    classes, size = len(train_input.source.classes), subject.model["size"]
    objective = Classify(
        encoder=module, head=_head(config["head"], classes), classes=classes, frames=subject.model["frames"],
        view=recipe.build_view(config["view"], size), eval_view=recipe.build_eval_view(config["eval_view"], size),
        smoothing=config["smoothing"], mix=recipe.build_mix(config["mix"]),
    )  # fmt: skip
    state = _fit(
        objective, config, train_input.spec.shapes(), lambda start: pipeline.batches(train_input, start), seed,
        {"encoder": params},
    )  # fmt: skip
    return test(objective, state, test_input)


def test(objective: Classify, state: TrainState, test_input: Input) -> tuple[np.ndarray, np.ndarray]:
    """(probabilities [M,C], labels [M]) of one pass over the test videos: the softmax averaged over clips and crops."""
    params, memory = jax.device_get((state.params, state.memory))
    logits = jax.jit(objective.logits)
    probabilities, labels = [], []
    for batch in pipeline.epoch(test_input):
        real = np.asarray(batch[batch_lib.WEIGHT]) > 0
        probabilities.append(average_views(np.asarray(logits(params, memory, dict(batch))))[real])
        labels.append(np.asarray(batch[batch_lib.LABEL])[real])
    return np.concatenate(probabilities), np.concatenate(labels)
