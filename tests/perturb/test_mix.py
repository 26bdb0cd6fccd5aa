"""Mixup and CutMix: the target's shares are those of the picture."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vssl_jax.errors import UserError
from vssl_jax.perturb.mix import Mix, NoMix
from vssl_jax.perturb.recipe import build_mix

SHAPE = (4, 2, 16, 12, 3)
TARGET = jnp.eye(4)
# Clip i is i + 1 everywhere, so a mixed pixel tells its shares.
CLIPS = jnp.broadcast_to(jnp.arange(1.0, 5.0)[:, None, None, None, None], SHAPE)
MIXUP, CUTMIX = Mix(switch=0.0), Mix(switch=1.0)


def draws(mix, count=24):
    return [jax.tree.map(np.asarray, jax.jit(mix)(jax.random.key(i), CLIPS, TARGET)) for i in range(count)]


@pytest.mark.parametrize("mix", [Mix(), MIXUP, CUTMIX, Mix(prob=0.5), Mix(mixup=0.2, cutmix=0.3)])
def test_shares_sum_to_one_and_go_to_the_two_that_were_mixed(mix):
    for _, target in draws(mix):
        np.testing.assert_allclose(target.sum(-1), 1.0, atol=1e-6)
        assert (target >= 0).all()
        for i in range(4):
            assert set(np.flatnonzero(target[i])) <= {i, 3 - i}


def test_mixup_s_pixels_have_the_target_s_shares():
    shares = []
    for clips, target in draws(MIXUP):
        means = target @ np.arange(1.0, 5.0)
        np.testing.assert_allclose(clips, np.broadcast_to(means[:, None, None, None, None], SHAPE), rtol=1e-5)
        shares.append(target[0, 0])
    assert min(shares) < 0.3 and max(shares) > 0.7  # drawn anew each time


def test_cutmix_pastes_one_box_into_all_frames_and_counts_its_true_area():
    areas = []
    for clips, target in draws(CUTMIX):
        pasted = clips[0, :, :, :, 0] == 4
        assert ((clips[0] == 1) | (clips[0] == 4)).all()
        assert (pasted == pasted[:1]).all()
        rows, columns = pasted[0].any(1), pasted[0].any(0)
        np.testing.assert_array_equal(pasted[0], rows[:, None] & columns[None])  # a box
        for inside in (rows, columns):
            assert np.abs(np.diff(inside.astype(int))).sum() <= 2  # in one piece
        np.testing.assert_allclose(target[0, 3], pasted[0].mean(), atol=1e-6)
        areas.append(pasted[0].mean())
    assert max(areas) > 0.4 and min(areas) < 0.2


def test_off_is_off():
    for mix in (Mix(prob=0.0), NoMix()):
        for clips, target in draws(mix, 3):
            np.testing.assert_array_equal(clips, CLIPS)
            np.testing.assert_array_equal(target, TARGET)


def test_the_kind_of_the_pixels_is_kept():
    for mix in (MIXUP, CUTMIX):
        assert mix(jax.random.key(0), CLIPS.astype(jnp.bfloat16), TARGET)[0].dtype == jnp.bfloat16


def test_by_name():
    assert build_mix({}) == NoMix()
    assert build_mix({"mixup": 0.5, "prob": 0.9}) == Mix(mixup=0.5, prob=0.9)


def test_a_group_mixes_within_itself_by_a_draw_of_its_own():
    """As the GPUs of the original: two groups of two, of which each is what a batch of two would be."""
    shares = set()
    for seed in range(8):
        clips, target = Mix(switch=0.0, group=2)(jax.random.key(seed), CLIPS, TARGET)
        for first in (0, 2):
            assert set(np.flatnonzero(np.asarray(target[first]))) <= {first, first + 1}
            np.testing.assert_allclose(clips[first], np.full(SHAPE[1:], target[first] @ np.arange(1.0, 5.0)), rtol=1e-5)
        assert target[0, 0] != target[2, 2]
        shares.add(float(target[0, 0]))
    assert len(shares) == 8
    whole = Mix(group=4)(jax.random.key(0), CLIPS, TARGET)
    jax.tree.map(np.testing.assert_array_equal, whole, Mix()(jax.random.key(0), CLIPS, TARGET))
    with pytest.raises(UserError, match=r"mix\.group=3 does not divide the 4 clips"):
        Mix(group=3)(jax.random.key(0), CLIPS, TARGET)
