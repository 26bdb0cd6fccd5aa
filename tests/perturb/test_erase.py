"""Random erasing: where the box is, what is in it, and how often."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vssl_jax.errors import UserError
from vssl_jax.perturb.erase import Cutout, RandomErase
from vssl_jax.perturb.view import IMAGENET_MEAN, IMAGENET_STD, normalize

SHAPE = (3, 32, 40, 3)


def erased(op, n=64, seed=0):
    clip = jnp.full(SHAPE, 0.5)
    return np.asarray(jax.jit(jax.vmap(lambda k: op(k, clip)))(jax.random.split(jax.random.key(seed), n)))


def test_box_is_the_same_in_all_frames_its_noise_is_not():
    out = erased(RandomErase(prob=1.0))
    changed = (out != 0.5).any(-1)
    assert (changed == changed[:, :1]).all()
    for clip, mask in zip(out, changed[:, 0], strict=True):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert mask.sum() == len(rows) * len(columns)  # a full rectangle
        assert np.ptp(rows) + 1 == len(rows) and np.ptp(columns) + 1 == len(columns)
        assert 0.01 < mask.mean() < 0.36 and 0.25 < len(rows) / len(columns) < 4
        assert not np.array_equal(clip[0][mask], clip[1][mask])


def test_noise_is_standard_normal_after_normalization():
    out = erased(RandomErase(prob=1.0))
    noise = np.asarray(normalize(jnp.asarray(out)))[(out != 0.5).any(-1)]
    n = len(noise)
    assert np.abs(noise.mean(0)).max() < 5 / n**0.5 and np.abs(noise.std(0) - 1).max() < 5 / n**0.5
    assert (RandomErase().mean, RandomErase().std) == (IMAGENET_MEAN, IMAGENET_STD)


def test_probability():
    assert (erased(RandomErase(prob=0.0)) == 0.5).all()
    share = (erased(RandomErase(prob=0.25), 400) != 0.5).any((1, 2, 3, 4)).mean()
    assert abs(share - 0.25) < 4 * (0.25 * 0.75 / 400) ** 0.5


def test_every_place_is_reached():
    changed = (erased(RandomErase(prob=1.0), 512) != 0.5).any(-1)[:, 0]
    assert changed.any(0).all()


@pytest.mark.parametrize("fields", [{"prob": 1.5}, {"area": (0.0, 0.3)}, {"aspect": (2.0, 1.0)}])
def test_bad_settings_are_refused(fields):
    with pytest.raises(UserError):
        RandomErase(**fields)


def test_a_black_box_of_whole_pixels_that_is_cut_off_at_the_border():
    out = erased(Cutout((3, 5), prob=1.0), n=2000)
    assert set(np.unique(out)) == {0.0, 0.5}
    black = (out == 0).all(-1)
    assert (black == black[:, :1]).all() and (black == (out == 0).any(-1)).all()
    black = black[:, 0]
    rows, columns = black.any(2), black.any(1)
    heights, widths = rows.sum(1), columns.sum(1)
    assert (black.sum((1, 2)) == heights * widths).all()
    assert set(rows.argmax(1)) == set(range(32)) and set(columns.argmax(1)) == set(range(40))
    inside = (rows.argmax(1) <= 32 - 5) & (columns.argmax(1) <= 40 - 5)
    for sides in (heights[inside], widths[inside]):
        assert set(sides) == {3, 4, 5} and np.unique(sides, return_counts=True)[1].min() > 0.25 * inside.sum()
    assert set(heights[~inside]) | set(widths[~inside]) >= {1, 2}
    assert ((erased(Cutout((3, 5), prob=0.3), n=1000) == 0).any((1, 2, 3, 4)).mean() - 0.3) == pytest.approx(0, abs=0.06)
    with pytest.raises(UserError, match="sides"):
        Cutout((5, 3))
