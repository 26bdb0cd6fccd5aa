"""Nothing but the order of frames tells which way things go: not the look of a frame, nor the mean, nor the codec, nor the sound.

The probes need no training: ridge regression and nearest neighbors on features that are blind to order. What is measured is the accuracy of
the direction among the true class and its reversal: chance is 0.5, and the bound is 3 standard deviations of the test set. The same probes
on one feature that sees order must find the direction, else the bound would mean nothing.
"""

import itertools

import numpy as np
import pytest

from vssl_jax.data import world
from vssl_jax.data.world import encode, motion, render, sound, truth
from vssl_jax.data.world.scene import draw_scene, label_of

av = pytest.importorskip("av")
SPEC = world.find("slide-8")
TRAIN, TEST = 200, 320
SIGMA = 0.5 / TEST**0.5


def window(frames, start):
    """8 of the gray frames at stride 2, in 16 x 16 pixels, mean 0."""
    small = frames[start : start + 16 : 2].reshape(8, 16, 4, 16, 4).mean((2, 4))
    return small - small.mean()


def order_free(frames, masks, start):
    """{name: feature} of a clip; those of the centered frame know where the sprite is: the best that an attacker could do by itself."""
    small = window(frames, start)
    rows, cols = (np.angle((masks[start] > 0).sum(axis) @ np.exp(2j * np.pi * np.arange(64) / 64)) for axis in (1, 0))
    shift = [32 - round(float(angle) * 64 / (2 * np.pi)) for angle in (rows, cols)]
    centered = np.roll(frames[start], shift, (0, 1))
    rough = np.abs(centered - (np.roll(centered, 1, 0) + np.roll(centered, -1, 0) + np.roll(centered, 1, 1) + np.roll(centered, -1, 1)) / 4)
    return {
        "one frame": small[0].ravel(),
        "mean frame": small.mean(0).ravel(),
        "deviation over time": small.std(0).ravel(),
        "least and greatest": np.stack([small.min(0), small.max(0)]).ravel(),
        "centered frame": centered.reshape(16, 4, 16, 4).mean((1, 3)).ravel(),
        "centered roughness": np.log(rough.reshape(16, 4, 16, 4).mean((1, 3)) + 0.3).ravel(),
    }


def ordered(frames, start):
    """How well each frame, moved by one small pixel (that is 4 pixels, or 2 frames' way) in each direction, matches the next."""
    small = window(frames, start)
    ways = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    match = np.array([np.mean(np.roll(small[:-1], way, (1, 2)) * small[1:]) for way in ways])
    return match / match[4]


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    """({(name, 'raw' or 'H.264'): [TRAIN+TEST, D]}, labels)."""
    path = tmp_path_factory.mktemp("leaks") / "video.mp4"
    table = {}
    for split, count in (("train", TRAIN), ("test", TEST)):
        for i in range(count):
            scene = draw_scene(SPEC, split, i)
            frames, audio = render.render(scene, SPEC), sound.soundtrack(scene, SPEC)
            masks = truth.masks_and_flow(scene, SPEC)[0]
            encode.write_mp4(path, frames, audio, encode.key_frames(scene, SPEC), SPEC)
            start = int(np.random.default_rng(i).integers(0, 17))
            with av.open(str(path)) as container:
                container.streams.video[0].thread_count = 1  # to start threads takes longer than the decoding
                shown = itertools.islice(container.decode(video=0), start + 16)  # what `window` looks at
                decoded = np.stack([frame.to_ndarray()[:64] for frame in shown])  # the Y plane
            for stage, pictures in (("raw", frames.mean(-1)), ("H.264", decoded.astype(np.float64))):
                row = order_free(pictures, masks, start) | {"order": ordered(pictures, start)}
                for name, value in row.items():
                    table.setdefault((name, stage), []).append(value)
            spectrum = np.abs(np.fft.rfft(audio))[1:4001].reshape(50, 80).mean(1)
            envelope = np.abs(audio).reshape(32, 1000).mean(1)
            table.setdefault(("sound", "raw"), []).append(np.log(np.concatenate([spectrum, envelope])))
            table.setdefault(("bytes", "H.264"), []).append(np.array([path.stat().st_size / 1000.0]))
    labels = np.array([label_of(SPEC, split, i) for split, count in (("train", TRAIN), ("test", TEST)) for i in range(count)])
    return {key: np.stack(values) for key, values in table.items()}, labels


def standardized(values):
    mean, deviation = values[:TRAIN].mean(0), values[:TRAIN].std(0) + 1e-6
    return (values - mean) / deviation


def direction_accuracy(scores, labels):
    """Of scores [TEST, classes]: how often the true class is above its reversal, ties counting half."""
    reversal = np.array([SPEC.reversal(int(label)) for label in labels])
    margin = scores[np.arange(len(labels)), labels] - scores[np.arange(len(labels)), reversal]
    return np.mean((np.sign(margin) + 1) / 2)


def ridge(values, labels):
    x, y = standardized(values), np.eye(len(SPEC.classes))[labels]
    gram = x[:TRAIN].T @ x[:TRAIN]
    weights = np.linalg.solve(gram + 0.1 * TRAIN * np.eye(len(gram)), x[:TRAIN].T @ (y[:TRAIN] - y.mean()))
    return direction_accuracy(x[TRAIN:] @ weights, labels[TRAIN:])


def neighbors(values, labels, k=15):
    x, y = standardized(values), np.eye(len(SPEC.classes))[labels[:TRAIN]]
    distance = (x[TRAIN:] ** 2).sum(1)[:, None] - 2 * x[TRAIN:] @ x[:TRAIN].T + (x[:TRAIN] ** 2).sum(1)
    return direction_accuracy(y[np.argsort(distance, axis=1)[:, :k]].sum(1), labels[TRAIN:])


BLIND = ["one frame", "mean frame", "deviation over time", "least and greatest", "centered frame", "centered roughness"]


@pytest.mark.parametrize("probe", [ridge, pytest.param(neighbors, marks=pytest.mark.slow)])
@pytest.mark.parametrize("key", [(name, stage) for name in BLIND for stage in ("raw", "H.264")] + [("sound", "raw"), ("bytes", "H.264")])
def test_what_is_blind_to_order_is_blind_to_direction(features, key, probe):
    table, labels = features
    assert abs(probe(table[key], labels) - 0.5) < 3 * SIGMA


@pytest.mark.parametrize("probe", [ridge, neighbors])
@pytest.mark.parametrize("stage", ["raw", "H.264"])
def test_what_sees_order_sees_direction(features, stage, probe):
    table, labels = features
    assert probe(table["order", stage], labels) > 0.8


@pytest.mark.parametrize("name", ["slide-8", "mixed-8"])
def test_sound_and_one_frame_together_do_not_tell_the_direction(name):
    """The time of the tone and the phase that a frame shows, for both directions of a path: one table, up to chance."""
    spec = world.find(name)
    counts = np.zeros((2, 4, 4))
    for i in range(3000):
        scene = draw_scene(spec, "train", i)
        phases = scene.target_phases(spec.phases)
        onset = int(np.flatnonzero(phases == scene.event)[0])
        counts[(motion.CLASS_ACTIONS[spec.classes[label_of(spec, "train", i)]][1] + 1) // 2, phases[0] // 8, onset // 8] += 1
    expected = counts.sum((1, 2), keepdims=True) * counts.sum(0) / counts.sum()
    statistic = ((counts - expected) ** 2 / expected).sum()  # chi square with 15 degrees of freedom
    assert statistic < 15 + 3 * 30**0.5
