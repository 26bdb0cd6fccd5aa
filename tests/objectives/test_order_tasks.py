"""Tasks about the order of frames: what is shown is what the label says, and all of it can be shown in every clip."""

import dataclasses
import re

import numpy as np
import pytest

from tests.objectives.questions import SPEC, TASKS, ask, frames_of, numbered
from tests.train import tiny
from vssl_jax.errors import UserError
from vssl_jax.objectives import frame_order
from vssl_jax.objectives.temporal_transform import FORMS
from vssl_jax.perturb import pieces


def asked_often(name, times=20):
    """(frames [N,P,T], labels [N,A])"""
    found = [ask(TASKS[name], numbered(), seed) for seed in range(times)]
    return np.concatenate([frames_of(a) for a in found]), np.concatenate([a.label_QxA for a in found])


def test_order_verification_hides_the_answer_in_the_middle_frame():
    frames, labels = asked_often("order_verification")
    assert (frames == frames[:, :, :1]).all()  # a piece is one frame
    first, middle, last = frames[:, :, 0].T
    between = (middle > np.minimum(first, last)) & (middle < np.maximum(first, last))
    np.testing.assert_array_equal(between, labels[:, 0] == 1)
    distance = np.abs(last - first)
    assert set(distance) == {2, 4, 6} and set((last > first).tolist()) == {True, False}
    for answer in (0, 1):  # the outer frames say nothing: as far apart, and as often reversed
        own = labels[:, 0] == answer
        assert abs(distance[own].mean() - distance.mean()) < 0.3 and 0.35 < (last > first)[own].mean() < 0.65


def test_frame_order_is_one_class_with_its_reverse():
    classes = frame_order.classes_up_to_reversal(4)
    assert len(classes) == 12
    both = {tuple(order) for order in classes} | {tuple(order[::-1]) for order in classes}
    assert both == {tuple(order) for order in pieces.permutations(4)}
    frames, labels = asked_often("frame_order")
    order = np.argsort(np.argsort(frames[:, :, 0], axis=1), axis=1)
    forward = (order == classes[labels[:, 0]]).all(axis=1)
    backward = (order == classes[labels[:, 0]][:, ::-1]).all(axis=1)
    assert (forward ^ backward).all() and 0.4 < forward.mean() < 0.6
    steps = np.diff(np.sort(frames[:, :, 0], axis=1), axis=1)
    assert (steps == steps[:, :1]).all() and set(steps[:, 0]) == {2, 3, 4}


def test_odd_one_out_has_one_clip_out_of_order():
    frames, labels = asked_often("odd_one_out")
    right = (np.diff(frames, axis=2) == 2).all(axis=2)
    np.testing.assert_array_equal(np.argmin(right, axis=1), labels[:, 0])
    assert (right.sum(axis=1) == 5).all()
    whole = np.sort(frames, axis=2)
    assert (np.diff(whole, axis=2) == 2).all()  # the odd clip has the frames of a right one
    assert set(whole[:, :, 0].ravel()) == set(range(SPEC.frames - 6))  # begins anywhere


def test_temporal_transform_shows_the_four_forms():
    frames, labels = asked_often("temporal_transform")
    steps = np.diff(frames[:, 0], axis=1)
    speed = 2 ** np.maximum(labels[:, 1], 0)
    np.testing.assert_array_equal(labels[:, 0], np.tile(np.arange(4), len(labels) // 4))
    form = {name: labels[:, 0] == i for i, name in enumerate(FORMS)}
    assert (steps[form["forward"]] == speed[form["forward"], None]).all()
    periodic = steps[form["periodic"]]
    np.testing.assert_array_equal(periodic, speed[form["periodic"], None] * np.array([1, 1, -1]))
    shuffled, warped = steps[form["shuffled"]], steps[form["warped"]]
    assert not ((shuffled > 0).all(axis=1) | (shuffled < 0).all(axis=1)).any()
    assert (warped > 0).all() and (warped != warped[:, :1]).any(axis=1).all() and set(warped.ravel()) == {1, 2, 4}
    assert (labels[form["shuffled"] | form["warped"], 1] == -1).all()
    assert set(labels[form["forward"], 1]) == set(labels[form["periodic"], 1]) == {0, 1, 2}


@pytest.mark.parametrize("name", ["order_verification", "frame_order", "odd_one_out", "temporal_transform"])
def test_no_frame_is_outside_the_clip_and_short_clips_are_refused(name):
    frames, _ = asked_often(name)
    assert frames.min() == 0 and frames.max() == SPEC.frames - 1
    short = dataclasses.replace(SPEC, frames=TASKS[name].span - 1)
    with pytest.raises(UserError, match="raise data"):
        ask(TASKS[name], tiny.batches(1, short)[0])


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("order_verification", {"gaps": (0, 3)}), ("order_verification", {"positive": 1.0}), ("frame_order", {"count": 6}),
        ("frame_order", {"gaps": (3, 2)}), ("odd_one_out", {"count": 1}), ("odd_one_out", {"skip": 0}), ("temporal_transform", {"speeds": 1}),
    ],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(name, change):
    ((setting, value),) = change.items()
    with pytest.raises(UserError, match=rf"objective\.{setting} is {re.escape(str(value))}: it must be"):
        dataclasses.replace(TASKS[name], **change)
