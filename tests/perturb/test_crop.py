"""Crops: published geometry, and boxes that never leave the picture."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vssl_jax.errors import UserError
from vssl_jax.perturb import crop

EXTENTS = [(240, 320), (320, 240), (224, 224), (100, 1000), (7, 5), (1, 1), (223, 223)]
CROPS = [
    crop.RandomResizedCrop(),
    crop.RandomResizedCrop((0.5, 1.0)),
    crop.MultiScaleCrop(),
    crop.MultiScaleCrop(places=5),
    crop.CenterCrop(0.875),
    crop.SquareCrop(),
]


def boxes(which, extent, n=300, size=(224, 224)):
    draw = jax.jit(jax.vmap(lambda key, e: which.draw(key, e, size), in_axes=(0, None)))
    return np.asarray(draw(jax.random.split(jax.random.key(0), n), jnp.array(extent, jnp.int32)))


@pytest.mark.parametrize("which", [*CROPS, crop.MultiScaleCrop(places=0), crop.WholePicture()], ids=repr)
def test_boxes_stay_inside_the_picture(which):
    draw = jax.jit(jax.vmap(jax.vmap(lambda key, e: which.draw(key, e, (224, 224)), in_axes=(0, None)), in_axes=(None, 0)))
    box = np.asarray(draw(jax.random.split(jax.random.key(0), 200), jnp.array(EXTENTS, jnp.int32)))
    limit = np.array(EXTENTS)[:, None]
    assert (box[..., :2] >= 0).all() and (box[..., :2] + box[..., 2:] <= limit + 1e-3).all() and (box[..., 2:] > 0).all()


def test_squares_have_every_share_and_reach_every_border():
    box = boxes(crop.SquareCrop((0.6, 1.0)), (240, 320), n=4000)
    assert (box[:, 2] == box[:, 3]).all() and (box == np.floor(box)).all()
    np.testing.assert_allclose(np.quantile(box[:, 2], [0, 0.25, 0.5, 0.75, 1]), [144, 168, 192, 216, 240], atol=5)
    room = np.array([[240, 320]]) - box[:, 2:]
    assert (box[:, :2] == 0).any(0).all() and (box[:, :2] == room).any(0).all()


@pytest.mark.parametrize("base", [50, 100, 128, 200, 256, 300, 340, 455, 1000, 1080])
def test_multi_scale_sides_follow_the_rule(base):
    sides = [224 if abs(int(base * s) - 224) < 3 else int(base * s) for s in (1, 0.875, 0.75, 0.66)]
    allowed = {(sides[i], sides[j]) for i in range(4) for j in range(4) if abs(i - j) <= 1}
    box = boxes(crop.MultiScaleCrop(), (base, base + 100), n=400)
    assert {tuple(b) for b in box[:, 2:].astype(int).tolist()} == allowed
    assert len(allowed) == 10


@pytest.mark.parametrize("places", [13, 5])
def test_multi_scale_places(places):
    box = boxes(crop.MultiScaleCrop(scales=(0.5,), places=places), (203, 307), n=600).astype(int)
    row, column = (203 - 101) // 4, (307 - 101) // 4  # whole quarters of the free room
    corners = {(4 * i * row, 4 * j * column) for i in (0, 1) for j in (0, 1)} | {(2 * row, 2 * column)}
    sides = {(2 * row, 0), (2 * row, 4 * column), (0, 2 * column), (4 * row, 2 * column)}
    quadrants = {(i * row, j * column) for i in (1, 3) for j in (1, 3)}
    assert {tuple(b) for b in box[:, :2].tolist()} == (corners | sides | quadrants if places == 13 else corners)


def test_multi_scale_snaps_to_the_output_but_not_past_the_picture():
    assert set(boxes(crop.MultiScaleCrop(scales=(1.0,)), (226, 400))[:, 2]) == {224.0}
    assert set(boxes(crop.MultiScaleCrop(scales=(1.0,)), (223, 400))[:, 2]) == {223.0}


def test_random_resized_crop_draws_area_and_aspect_uniformly():
    box = boxes(crop.RandomResizedCrop((0.1, 0.4), (0.5, 2.0)), (1000, 1000), n=4000)
    area, aspect = box[:, 2] * box[:, 3] / 1e6, np.log2(box[:, 3] / box[:, 2])
    for value, low, high in ((area, 0.1, 0.4), (aspect, -1, 1)):
        quantiles = (np.quantile(value, [0.1, 0.25, 0.5, 0.75, 0.9]) - low) / (high - low)
        np.testing.assert_allclose(quantiles, [0.1, 0.25, 0.5, 0.75, 0.9], atol=0.04)
    room = 1000 - box[:, :2] - box[:, 2:]
    assert abs((box[:, :2] / (box[:, :2] + room)).mean() - 0.5) < 0.02  # anywhere with equal chance


@pytest.mark.parametrize(
    ("extent", "expected"), [((100, 1000), (0, 434, 100, 133)), ((1000, 100), (433, 0, 133, 100)), ((300, 300), (0, 0, 300, 300))]
)
def test_random_resized_crop_falls_back_to_the_middle(extent, expected):
    impossible = crop.RandomResizedCrop((1.0, 1.0)) if extent[0] != extent[1] else crop.RandomResizedCrop((1.0, 1.0), (0.9999, 1.0001))
    box = boxes(impossible, extent, n=5)
    np.testing.assert_allclose(box, np.tile(expected, (5, 1)), atol=1)


def test_center_crop_is_resize_then_crop():
    np.testing.assert_allclose(boxes(crop.CenterCrop(224 / 256), (240, 320), 1)[0], [15, 55, 210, 210], atol=1e-3)
    np.testing.assert_allclose(boxes(crop.CenterCrop(), (240, 320), 1, size=(56, 112))[0], [40, 0, 160, 320], atol=1e-3)


def test_errors_name_the_setting():
    for make in (lambda: crop.CenterCrop(0), lambda: crop.RandomResizedCrop((0, 1)), lambda: crop.MultiScaleCrop(places=9)):
        with pytest.raises(UserError, match="crop"):
            make()
