"""Mixup and CutMix: the target's shares are those of the picture."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vssl_jax.errors import UserError
from vssl_jax.perturb.mix import Mix, NoMix
from vssl_jax.perturb.recipe import build_mix

SHAPE = (4, 2, 16, 12, 3)
TARGET = np.eye(4, dtype=np.float32)
# Clip i is i + 1 everywhere, so a mixed pixel tells its shares.
CLIPS = np.broadcast_to(np.arange(1, 5, dtype=np.float32)[:, None, None, None, None], SHAPE)
MIXUP, CUTMIX = Mix(switch=0.0), Mix(switch=1.0)


@functools.partial(jax.jit, static_argnums=0)
def drawn(mix, key):
    return mix(key, CLIPS, TARGET)


def draws(mix, count=24):
    return [jax.tree.map(np.asarray, drawn(mix, jax.random.key(i))) for i in range(count)]


@pytest.mark.parametrize(
    "mix",
    [MIXUP, CUTMIX, Mix(prob=0.5, mixup=0.2, cutmix=0.3), *(pytest.param(mix, marks=pytest.mark.slow) for mix in (Mix(), Mix(prob=0.5)))],
)
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
        low = jax.ShapeDtypeStruct(SHAPE, jnp.bfloat16)
        assert jax.eval_shape(lambda clips, m=mix: m(jax.random.key(0), clips, TARGET), low)[0].dtype == jnp.bfloat16


def test_by_name():
    assert build_mix({}) == NoMix()
    assert build_mix({"mixup": 0.5, "prob": 0.9}) == Mix(mixup=0.5, prob=0.9)


def test_a_group_mixes_within_itself_by_a_draw_of_its_own():
    """As the GPUs of the original: two groups of two, of which each is what a batch of two would be."""
    shares = set()
    for clips, target in draws(Mix(switch=0.0, group=2), 8):
        for first in (0, 2):
            assert set(np.flatnonzero(target[first])) <= {first, first + 1}
            np.testing.assert_allclose(clips[first], np.full(SHAPE[1:], target[first] @ np.arange(1.0, 5.0)), rtol=1e-5)
        assert target[0, 0] != target[2, 2]
        shares.add(float(target[0, 0]))
    assert len(shares) == 8
    jax.tree.map(np.testing.assert_array_equal, draws(Mix(switch=0.0, group=4), 2), draws(MIXUP, 2))
    with pytest.raises(UserError, match=r"mix\.group=3 does not divide the 4 clips"):
        Mix(group=3)(jax.random.key(0), CLIPS, TARGET)
