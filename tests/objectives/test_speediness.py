"""SpeedNet: skips inside their ranges, both versions of every clip, one logit, resizing that keeps the picture's place. (What it owes as a
pretext task: test_pretext.py.)
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.objectives.questions import SPEC, TASKS, ask, frames_of, numbered
from tests.train import tiny
from vssl_jax import batch as batch_lib
from vssl_jax import objectives
from vssl_jax.errors import UserError
from vssl_jax.models.backbone import Features
from vssl_jax.models.piece_heads import BinaryHead, SpatialMaxHead
from vssl_jax.perturb.crop import RandomResizedCrop
from vssl_jax.perturb.resize import ResizeAndBack, there_and_back
from vssl_jax.perturb.speed import SpeedRanges

TASK = TASKS["speediness"]
PLAIN = dataclasses.replace(TASK, resize=None)
RANGES = ((1.0, 1.2), (1.7, 2.2))


def drawn(speeds, available, videos=4_000):
    batch = {batch_lib.TIME: jnp.zeros((videos, 1, available))}
    return np.asarray(jax.jit(lambda keys: speeds(keys, batch))(jax.random.split(jax.random.key(0), videos)))[:, 0]


@pytest.mark.parametrize("available", [34, 40])
def test_frame_i_is_the_nearest_to_i_skips_of_the_speed(available):
    speeds = SpeedRanges(RANGES, 16)
    assert speeds.span == 34
    frames_NxPxT = drawn(speeds, available)
    offsets = frames_NxPxT - frames_NxPxT[..., :1]
    for p, (low, high) in enumerate(RANGES):
        # Some skip of the range rounds to these offsets: the bounds that the frames set for it have room between them.
        i = np.arange(1, 16)
        least = np.max((offsets[:, p, 1:] - 0.5) / i, axis=-1)
        most = np.min((offsets[:, p, 1:] + 0.5) / i, axis=-1)
        assert np.all(np.maximum(least, low) <= np.minimum(most, high) + 1e-6)
        assert offsets[:, p, -1].min() == round(15 * low) and offsets[:, p, -1].max() >= 15 * high - 0.5
        assert frames_NxPxT[:, p].min() == 0 and frames_NxPxT[:, p].max() == available - 1  # anywhere in the clip, and never past it


def test_every_start_is_possible_at_every_skip():
    frames_NxPxT = drawn(SpeedRanges(RANGES, 4), 16, videos=8_000)
    for p in (0, 1):
        for last in np.unique(frames_NxPxT[:, p, -1] - frames_NxPxT[:, p, 0]):
            starts = frames_NxPxT[frames_NxPxT[:, p, -1] - frames_NxPxT[:, p, 0] == last, p, 0]
            assert set(starts) == set(range(16 - last))


def test_both_versions_of_every_clip_are_asked_about():
    asked = ask(PLAIN, numbered())
    np.testing.assert_array_equal(asked.label_QxA[:, 0], np.tile([0, 1], 16))
    length = np.diff(frames_of(asked)[:, 0][:, [0, -1]])[:, 0]
    assert set(length[0::2]) <= {3, 4} and set(length[1::2]) <= {5, 6, 7} and len(set(length)) > 3


def test_both_versions_may_share_a_crop():
    still = tiny.batches(1, batch_lib.Spec(batch_size=4, clips=1, frames=16, height=24, width=24))[0]
    still = dict(still, video=np.broadcast_to(still["video"][:, :, :1], still["video"].shape))
    for per in ("video", "clip"):
        view = dataclasses.replace(TASK.view, crop=RandomResizedCrop(area=(0.2, 0.6)), per=per)
        shown = ask(dataclasses.replace(PLAIN, view=view), still).pieces_QxPxTxHxWx3
        assert all(np.array_equal(a, b) == (per == "video") for a, b in zip(shown[0::2], shown[1::2], strict=True))


def test_the_loss_is_the_binary_one_of_a_logit():
    head = BinaryHead(SpatialMaxHead(1))
    map_QxPxTxHxWxD = np.random.default_rng(0).normal(size=(5, 1, 3, 2, 2, 4)).astype(np.float32)
    features = Features(map_QxPxTxHxWxD, map_QxPxTxHxWxD.mean((2, 3, 4)))
    params = head.init(jax.random.key(0), features)
    logits = head.apply(params, features)
    z = map_QxPxTxHxWxD.max((3, 4)).mean(2)[:, 0] @ params["params"]["inner"]["linear"]["kernel"]
    np.testing.assert_allclose(logits, np.concatenate([np.zeros_like(z), z], axis=1), atol=1e-6)
    np.testing.assert_allclose(jax.nn.log_softmax(logits)[:, 1], jax.nn.log_sigmoid(z[:, 0]), atol=1e-6)


def test_there_and_back():
    whole = np.asarray(there_and_back(16, jnp.array([16.0, 8.0, 24.0, 1.0]), 24))
    np.testing.assert_allclose(whole.sum(-1), 1, atol=1e-5)
    assert whole.min() >= 0
    np.testing.assert_allclose(whole[0], np.eye(16), atol=1e-6)
    stripes = np.tile([0.0, 1.0], 8)
    np.testing.assert_allclose((whole[1] @ stripes)[3:-3], 0.5, atol=1e-5)  # too fine for half the size
    ramp = np.arange(16.0)
    for matrix in whole[:3]:
        np.testing.assert_allclose((matrix @ ramp)[4:-4], ramp[4:-4], atol=0.05)  # nothing is moved
    np.testing.assert_allclose(whole[3], whole[3][:1].repeat(16, 0), atol=1e-6)


def test_each_version_is_resized_by_a_factor_of_its_own():
    plain, resized = (ask(task, tiny.batches(1, SPEC)[0]).pieces_QxPxTxHxWx3[:, 0] for task in (PLAIN, TASK))
    lost = np.std(resized, axis=(1, 2, 3, 4)) / np.std(plain, axis=(1, 2, 3, 4))
    assert len(np.unique(lost.round(5))) > len(lost) / 2 and lost.min() < 0.6 and lost.max() > 0.9
    np.testing.assert_allclose(resized.mean((1, 2, 3)), plain.mean((1, 2, 3)), atol=0.02)


@pytest.mark.parametrize("ranges", [((1, 1.2),), ((1, 1.2), (1.1, 2)), ((0.5, 1.2), (1.7, 2.2)), ((1, 2), (3,))])
def test_ranges_that_make_no_sense_are_refused(ranges):
    with pytest.raises(UserError, match="one above the other"):
        SpeedRanges(ranges, 4)


@pytest.mark.parametrize("ends", [(0, 1), (2, 1)])
def test_sizes_that_make_no_sense_are_refused(ends):
    with pytest.raises(UserError, match="low <= high"):
        ResizeAndBack(*ends)


def test_clips_that_are_too_short_are_refused():
    with pytest.raises(UserError, match="span 8 frames, the clips have 7: raise"):
        ask(PLAIN, tiny.batches(1, dataclasses.replace(SPEC, frames=7))[0])


def test_a_recipe_makes_it():
    view = {"crop": {"name": "whole"}, "flip": 0.0, "color": ()}
    config = {
        "model": {"name": "cnn_small", "frames": 4, "size": 16, "width": 4},
        "objective": {
            "name": "speediness", "normal": [1.0, 1.5], "fast": [2.0, 3.0], "resize": (), "view": view, "eval_view": {"crops": 1},
        },
    }  # fmt: skip
    made = objectives.build(config)
    assert (made.speeds, made.resize) == (SpeedRanges(((1.0, 1.5), (2.0, 3.0)), 4), None)
    config["objective"]["resize"] = (0.5, 1.0)
    assert objectives.build(config).resize == ResizeAndBack(0.5, 1.0)
    assert made.caption((0,), (1,)) == "Normal speed, said fast"
