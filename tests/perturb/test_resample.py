"""The resampling matrix against jax.image.resize, Pillow's convention, and its own invariants."""

from functools import partial

import jax
import numpy as np
import pytest

from vssl_jax.perturb import resample
from vssl_jax.perturb.resample import CHROMA_COLUMNS, CHROMA_ROWS, FULL, Line

weights = partial(jax.jit, static_argnums=(1, 3, 4))(resample.weights)


def line(start, length, flip=False):
    return Line(np.float32(start), np.float32(length), np.array(flip))


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize(("start", "length", "out"), [(0, 20, 8), (3, 11, 11), (5, 7, 16), (2, 17, 5)])
def test_equals_cut_then_resize(start, length, out, antialias):
    row = np.random.default_rng(0).uniform(size=20).astype(np.float32)
    weight = weights(line(start, length), (out, 20), 20, antialias)
    expected = jax.image.resize(row[start : start + length], (out,), "bilinear", antialias=antialias)
    np.testing.assert_allclose(weight @ row, expected, atol=1e-6)


@pytest.mark.parametrize("sampling", [FULL, CHROMA_ROWS, CHROMA_COLUMNS])
@pytest.mark.parametrize("box", [(0, 20), (3, 5), (7.25, 9.5), (19, 1)])
def test_rows_are_convex_and_stay_in_the_box(sampling, box):
    plane, picture = 40 // sampling.stride, 20 // sampling.stride
    for antialias in (True, False):
        weight = np.asarray(weights(line(*box), (9, plane), picture, antialias, sampling))
        assert (weight >= 0).all()
        np.testing.assert_allclose(weight.sum(1), 1, atol=1e-6)
        assert weight[:, picture:].max() == 0
        touched = np.flatnonzero(weight.any(0)) * sampling.stride
        assert touched.min() >= box[0] - sampling.stride - 1 and touched.max() <= sum(box) + sampling.stride


def test_identity_and_flip_are_permutations():
    np.testing.assert_array_equal(weights(line(0, 12), (12, 12), 12), np.eye(12))
    np.testing.assert_array_equal(weights(line(0, 12, True), (12, 12), 12), np.eye(12)[::-1])


def test_flip_is_the_reversed_output():
    plain = weights(line(3, 11), (7, 20), 20)
    np.testing.assert_array_equal(weights(line(3, 11, True), (7, 20), 20), plain[::-1])


def test_chroma_sites():
    """A plane that holds its own positions in luma pixels reads back, inside the plane, the position of every output pixel."""
    for sampling in (CHROMA_ROWS, CHROMA_COLUMNS):
        position = sampling.stride * (np.arange(10) + sampling.offset)
        read = weights(line(0, 20), (20, 10), 10, True, sampling) @ position
        np.testing.assert_allclose(read[1:-1], np.arange(20)[1:-1], atol=1e-5)


@pytest.mark.parametrize(("platform", "rtol"), [("cpu", 1e-5), ("gpu", 2**-9)])  # a GPU rounds to 11 bits, twice
def test_apply_is_separable_and_batched(platform, rtol, monkeypatch):
    monkeypatch.setattr(resample, "platform", lambda: platform)
    rng = np.random.default_rng(0)
    plane = rng.integers(0, 256, (2, 3, 2, 6, 8, 2), np.uint8)
    rows, columns = rng.uniform(size=(2, 3, 5, 6)).astype(np.float32), rng.uniform(size=(2, 3, 4, 8)).astype(np.float32)
    expected = np.einsum("bkyY,bkxX,bktYXc->bktyxc", rows, columns, plane)
    np.testing.assert_allclose(resample.apply(rows, columns, plane), expected, rtol=rtol)
