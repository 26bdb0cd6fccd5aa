"""On noise no task can be solved: what a reader of pixels gets right there, it reads from how the question was made.

Every frame is noise of its own, so there is neither motion nor a scene. The readers are linear (ridge), trained on half of the questions and tested on the
other half: one sees the borders of all pieces, one a single frame, one the statistics of every piece. At chance + 3 sigma, all of them.
"""

import functools

import jax
import numpy as np
import pytest

from tests.objectives.questions import TASKS, started
from vssl_jax import batch as batch_lib

SPEC = batch_lib.Spec(batch_size=128, clips=2, frames=16, height=16, width=16)
READABLE = {"appearance_change"}  # what was done to the colors can be read from noise: that is the task
QUESTIONS = 1024


@functools.cache
def questions(name):
    """(pieces [N,P,T,h,w,3] float16, labels [N,A])"""
    task = TASKS[name]
    memory = started(task)[1]
    make = jax.jit(lambda batch, key: task.ask(memory, batch, key))
    batch, rng, found = jax.device_get(batch_lib.fake(SPEC, jax.random.key(0))), np.random.default_rng(0), []
    while sum(len(f.label_QxA) for f in found) < QUESTIONS:
        batch["video"] = rng.integers(0, 256, batch["video"].shape, np.uint8)
        found.append(jax.device_get(make(batch, jax.random.key(len(found)))))
    return np.concatenate([f.pieces_QxPxTxHxWx3.astype(np.float16) for f in found]), np.concatenate([f.label_QxA for f in found])


def borders(pieces):
    ring = np.zeros(pieces.shape[3:5], bool)
    ring[[0, -1]] = ring[:, [0, -1]] = True
    return pieces[:, :, 0][:, :, ring]


def one_frame(pieces):
    return pieces[:, 0, pieces.shape[2] // 2]


def statistics(pieces):
    x = np.moveaxis(pieces, -1, 3).astype(np.float32).reshape(*pieces.shape[:3], 3, -1)
    parts = [x.mean(-1), x.std(-1), x.min(-1), x.max(-1)]
    if x.shape[2] > 1:
        step = np.abs(np.diff(x, axis=2))
        parts += [step.mean(-1), step.max(-1)]
    return np.concatenate([p.reshape(len(x), -1) for p in parts], axis=1)


def accuracy(features, labels, classes):
    """(share told right, how many were asked) of the second half, by a ridge regression on the first."""
    rng = np.random.default_rng(0)
    x = features.reshape(len(features), -1).astype(np.float32)
    if x.shape[1] > 256:
        x = x @ rng.standard_normal((x.shape[1], 256), np.float32) / 16
    x = (x - x.mean(0)) / (x.std(0) + 1e-6)
    half = len(x) // 2
    target = np.eye(classes, dtype=np.float32)[labels[:half]]
    weights = np.linalg.solve(x[:half].T @ x[:half] + 10 * np.eye(x.shape[1], dtype=np.float32), x[:half].T @ (target - target.mean(0)))
    return np.mean((x[half:] @ weights + target.mean(0)).argmax(1) == labels[half:]), len(x) - half


@pytest.mark.parametrize("read", [borders, one_frame, statistics])
@pytest.mark.parametrize("name", sorted(set(TASKS) - READABLE))
def test_noise_tells_nothing(name, read):
    pieces, labels = questions(name)
    for a, classes in enumerate(TASKS[name].classes):
        asked = labels[:, a] >= 0
        right, count = accuracy(read(pieces[asked]), labels[asked, a], classes)
        most = np.bincount(labels[asked, a]).max() / asked.sum()
        assert right <= most + 3 * np.sqrt(most * (1 - most) / count), f"{right:.3f} of {count}, chance {most:.3f}"


def test_the_readers_find_a_leak_where_there_is_one():
    """Borders that are darker in one class, as of a picture that was turned with its letterbox."""
    pieces, labels = questions("rotation")
    leaky = pieces.copy()
    leaky[labels[:, 0] == 1, :, :, 0] *= 0.5
    assert accuracy(borders(leaky), labels[:, 0], 4)[0] > 0.4
