"""Permutations and their numbers, and pieces cut out of clips."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.train import tiny
from vssl_jax import batch as batch_lib
from vssl_jax.errors import UserError
from vssl_jax.perturb import pieces


def encode(order):
    """The row of all orders in lexicographic order that `order` is: its Lehmer code."""
    return sum(math.factorial(len(order) - 1 - i) * sum(later < order[i] for later in order[i + 1 :]) for i in range(len(order)))


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_every_order_has_its_number(n):
    orders = pieces.permutations(n)
    assert len(np.unique(orders, axis=0)) == len(orders) == np.prod(range(1, n + 1))
    np.testing.assert_array_equal(orders[0], range(n))
    assert [encode(list(order)) for order in orders] == list(range(len(orders)))


@pytest.mark.parametrize("layout", ["rgb", "yuv420"])
def test_cut_takes_the_frames_and_repeats_what_belongs_to_the_clip(layout):
    batch = tiny.batches(1, batch_lib.Spec(2, 2, 6, 4, 4, layout))[0]
    batch["extent"] = np.arange(8, dtype=np.int32).reshape(2, 2, 2)
    frames = np.random.default_rng(0).integers(0, 6, (2, 2, 3, 4))
    cut = pieces.cut(batch, jnp.asarray(frames))
    for key in ("video",) if layout == "rgb" else ("luma", "chroma"):
        assert cut[key].shape == (2, 6, 4, *batch[key].shape[3:])
        for b, k, p in np.ndindex(2, 2, 3):
            np.testing.assert_array_equal(cut[key][b, k * 3 + p], batch[key][b, k][frames[b, k, p]])
    np.testing.assert_array_equal(cut["time"][1, 4], batch["time"][1, 1][frames[1, 1, 1]])
    np.testing.assert_array_equal(cut["extent"], np.repeat(batch["extent"], 3, axis=1))
    batch_lib.check({key: np.asarray(value) for key, value in cut.items()})
    np.testing.assert_array_equal(cut["label"], batch["label"])


def test_windows_begin_anywhere_or_where_something_moves():
    draw = jax.vmap(lambda key, motion: pieces.start(key, 5, motion, 4), in_axes=(0, None))
    keys = jax.random.split(jax.random.key(0), 2000)
    np.testing.assert_allclose(np.bincount(draw(keys, None), minlength=5) / 2000, 0.2, atol=0.04)
    only_last = jnp.zeros(7).at[6].set(1.0)  # between frames 6 and 7: the window of frames 4 to 7 alone
    assert set(np.asarray(draw(keys, only_last)).tolist()) == {4}
    twice = jnp.zeros(7).at[0].set(1.0).at[6].set(3.0)
    np.testing.assert_allclose(np.mean(np.asarray(draw(keys, twice)) == 4), 0.75, atol=0.04)
    spans = jax.vmap(lambda key, span: pieces.start(key, 5, only_last, span), in_axes=(0, None))
    assert set(np.asarray(spans(keys, 4)).tolist()) == {4}  # as long as is drawn


def test_a_look_for_motion_needs_more_than_one_place():
    pieces.check_room(True, 14, 13)
    pieces.check_room(False, 13, 13)
    with pytest.raises(UserError, match=r"by_motion looks for motion, and the clips have just the 13 frames"):
        pieces.check_room(True, 13, 13)


def test_motion_is_the_mean_change_from_frame_to_frame():
    batch = tiny.batches(1, batch_lib.Spec(2, 1, 3, 8, 8))[0]
    batch["video"] = np.zeros_like(batch["video"])
    batch["video"][1, 0, 1] = 51
    np.testing.assert_allclose(pieces.motion(batch), [[[0, 0]], [[0.2, 0.2]]], rtol=1e-6)
