"""Sets of permutations that are far apart."""

import numpy as np
import pytest

from vssl_jax.errors import UserError
from vssl_jax.perturb import jigsaw


def least_distance(permutations_PxN):
    """The smallest Hamming distance between two of them."""
    return min(int(np.count_nonzero(permutations_PxN[i + 1 :] != row, axis=1).min()) for i, row in enumerate(permutations_PxN[:-1]))


@pytest.mark.parametrize(("frames", "tiles", "count", "least"), [(1, 9, 100, 6), (3, 4, 1000, 5)])
def test_the_least_distance_of_the_published_sizes(frames, tiles, count, least):
    orders = jigsaw.far_apart(frames, tiles, count)
    assert orders.shape == (count, frames * tiles) and least_distance(orders) >= least
    assert (np.sort(orders, axis=1) == np.arange(frames * tiles)).all()


def test_candidates_keep_the_tiles_of_a_frame_together():
    candidates = jigsaw.of_frames_and_tiles(3, 4)
    assert len(candidates) == len(np.unique(candidates, axis=0)) == 24**3 * 6
    frame = candidates // 4
    assert (frame.reshape(-1, 3, 4) == frame.reshape(-1, 3, 4)[:, :, :1]).all()


def test_a_set_is_a_function_of_its_arguments_and_its_hash_tells_sets_apart():
    jigsaw.far_apart.cache_clear()
    one = jigsaw.far_apart(1, 4, 10)
    jigsaw.far_apart.cache_clear()
    two = jigsaw.far_apart(1, 4, 10)
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(jigsaw.digest(one), jigsaw.digest(two))
    assert (jigsaw.digest(one) != jigsaw.digest(one[::-1])).any() and jigsaw.digest(one).shape == (8,)


@pytest.mark.parametrize("count", [1, 25])
def test_more_than_there_are_is_refused(count):
    with pytest.raises(UserError, match="2 to 24"):
        jigsaw.far_apart(1, 4, count)


@pytest.mark.parametrize(("frames", "tiles"), [(2, 9), (1, 16)])
def test_more_than_can_be_compared_are_refused(frames, tiles):
    with pytest.raises(UserError, match="smaller grid"):
        jigsaw.far_apart(frames, tiles, 100)
