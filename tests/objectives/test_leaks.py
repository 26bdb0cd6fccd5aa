"""Where a task cannot be solved, what a reader of pixels gets right it reads from how the question was made.

Noise: every frame is noise of its own, so there is neither motion nor a scene. Drift: a texture moves at one velocity, forwards as likely as backwards, so
that many frames tell speed and order, and no single one does. The readers are linear (ridge), trained on half of the questions and tested on the other: one
sees the borders of all pieces, one a single frame, one how bright and sharp that frame is, one the statistics of every piece. At chance + 3 sigma, all of
them.
"""

import functools

import jax
import numpy as np
import pytest

from tests.objectives.asked import NAMES, asker
from vssl_jax import batch as batch_lib

SPEC = batch_lib.Spec(batch_size=128, clips=2, frames=16, height=16, width=16)
READABLE = {"appearance_change"}  # what was done to the colors can be read from noise: that is the task
QUESTIONS = 1024


def noise(rng, shape):
    return rng.integers(0, 256, shape, np.uint8)


def drift(rng, shape):
    """Textures that move by up to 2 pixels a frame each way and come in again at the other side."""
    found = np.empty(shape, np.uint8)
    for place in np.ndindex(shape[:2]):
        still, velocity = noise(rng, shape[3:]), rng.integers(-2, 3, 2)
        found[place] = [np.roll(still, t * velocity, axis=(0, 1)) for t in range(shape[2])]
    return found


@functools.cache
def videos(content, number):
    return content(np.random.default_rng(number), (SPEC.batch_size, SPEC.clips, SPEC.frames, SPEC.height, SPEC.width, 3))


@functools.cache
def questions(name, content):
    """(pieces [N,P,T,h,w,3] float16, labels [N,A])"""
    batch, pieces, labels = jax.device_get(batch_lib.fake(SPEC, jax.random.key(0))), [], []
    while sum(map(len, labels)) < QUESTIONS:
        batch["video"] = videos(content, len(labels))
        own_pieces, own_labels = jax.device_get(asker(name)(batch, jax.random.key(len(labels))))
        pieces, labels = [*pieces, own_pieces.astype(np.float16)], [*labels, own_labels]
    return np.concatenate(pieces), np.concatenate(labels)


def borders(pieces):
    ring = np.zeros(pieces.shape[3:5], bool)
    ring[[0, -1]] = ring[:, [0, -1]] = True
    return pieces[:, :, 0][:, :, ring]


def one_frame(pieces):
    return pieces[:, 0, pieces.shape[2] // 2]


def one_frames_look(pieces):
    """How bright, contrasted and sharp it is."""
    x = one_frame(pieces).astype(np.float32)
    sharpness = [np.abs(np.diff(x, axis=axis)).mean((1, 2)) for axis in (1, 2)]
    return np.concatenate([x.mean((1, 2)), x.std((1, 2)), *sharpness], axis=1)


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


READINGS = [(noise, borders), (noise, one_frame), (noise, statistics), (drift, one_frame), (drift, one_frames_look)]


@pytest.mark.parametrize(("content", "read"), READINGS)
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n == "rotation_drawn" else n for n in sorted({*NAMES} - READABLE)]
)
def test_nothing_is_told(name, content, read):
    pieces, labels = questions(name, content)
    for own in labels.T:
        asked = own >= 0
        right, count = accuracy(read(pieces[asked]), own[asked], own.max() + 1)
        most = np.bincount(own[asked]).max() / asked.sum()
        assert right <= most + 3 * np.sqrt(most * (1 - most) / count), f"{right:.3f} of {count}, chance {most:.3f}"


@pytest.mark.parametrize(("content", "read"), [(noise, borders), (drift, one_frames_look)])
def test_the_readers_find_a_leak_where_there_is_one(content, read):
    """Borders that are darker in one class, as of a picture that was turned with its letterbox; then one class blurred, as of frames between frames."""
    pieces, labels = questions("rotation", content)
    leaky, one = pieces.copy(), labels[:, 0] == 1
    if read is borders:
        leaky[one, :, :, 0] *= 0.5
    else:
        leaky[one] = (leaky[one] + np.roll(leaky[one], 1, axis=-2)) / 2
    assert accuracy(read(leaky), labels[:, 0], 4)[0] > 0.4
