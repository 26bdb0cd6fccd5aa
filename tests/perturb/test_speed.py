"""Paces: which frames a clip shows is what its label says, and nothing but the draw decides."""

import jax
import numpy as np
import pytest

from vssl_jax import batch as batch_lib
from vssl_jax.errors import UserError
from vssl_jax.perturb.speed import RandomPace

PACES = (1, 2, 4)


def dense(batch_size, clips, frames):
    """A batch whose pixels and times say which frame of the dense clip they are."""
    made = dict(batch_lib.fake(batch_lib.Spec(batch_size, clips, frames, 4, 4), jax.random.key(0)))
    numbers = np.broadcast_to(np.arange(frames), (batch_size, clips, frames))
    made[batch_lib.VIDEO] = np.broadcast_to(numbers[..., None, None, None], (batch_size, clips, frames, 4, 4, 3)).astype(np.uint8)
    made[batch_lib.TIME] = numbers.astype(np.float32)
    return made


@pytest.mark.parametrize("frames", [29, 31, 64])
def test_a_clip_is_every_pth_frame_and_never_wraps(frames):
    pace = RandomPace(PACES, 8)
    taken, which_BxK = jax.jit(pace)(jax.random.split(jax.random.key(1), 400), dense(400, 2, frames))
    numbers = np.asarray(taken[batch_lib.TIME]).astype(int)
    assert numbers.shape == (400, 2, 8) and numbers.min() >= 0 and numbers.max() < frames
    assert (np.diff(numbers, axis=-1) == np.asarray(PACES)[np.asarray(which_BxK)][..., None]).all()
    assert (np.asarray(taken[batch_lib.VIDEO])[..., 2, 1, 0] == numbers).all()
    assert set(np.unique(numbers[..., -1])) >= {7, frames - 1}  # every start is drawn, the first and the last too


def test_each_pace_is_as_likely_whatever_the_video():
    pace, n = RandomPace(PACES, 2), 6000
    _, which = jax.jit(pace)(jax.random.split(jax.random.key(2), n), dense(n, 1, 6))
    counts = np.bincount(np.asarray(which).ravel(), minlength=3)
    assert np.abs(counts - n / 3).max() < 4 * np.sqrt(n * 2 / 9)


def test_what_has_no_time_is_left_alone():
    given = dense(3, 1, 9)
    taken, _ = RandomPace((1, 2), 3)(jax.random.split(jax.random.key(0), 3), given)
    assert set(taken) == set(given)
    for key in (batch_lib.EXTENT, batch_lib.LABEL, batch_lib.INDEX, batch_lib.WEIGHT):
        np.testing.assert_array_equal(taken[key], given[key])


def test_mistakes_are_one_line():
    with pytest.raises(UserError, match="two or more different"):
        RandomPace((2, 2), 8)
    with pytest.raises(UserError, match=r"span 29 frames, the clips have 28: raise data\.sampler\.frames"):
        RandomPace(PACES, 8)(jax.random.split(jax.random.key(0), 2), dense(2, 1, 28))
