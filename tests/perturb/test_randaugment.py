"""RandAugment against Pillow's operations, and what must hold for a clip."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vssl_jax.errors import UserError
from vssl_jax.perturb import randaugment as ra
from vssl_jax.perturb.recipe import build_view
from vssl_jax.perturb.view import Pixels

ROWS, COLUMNS = 24, 30
apply = jax.jit(ra.apply)


def pictures(frames=2, seed=0):
    """Smooth enough that a warp is no noise, and of few enough values that equalize has something to do."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:ROWS, :COLUMNS]
    waves = np.stack([np.sin(x / 5 + c) * np.cos(y / 4 - c) for c in range(3)], -1) * 70 + 110
    return np.clip(waves + rng.integers(0, 25, (frames, ROWS, COLUMNS, 3)), 20, 220).astype(np.uint8)


def with_pillow(name, level, sign, frame):
    image_lib, ops, enhance = (pytest.importorskip(f"PIL.{m}") for m in ("Image", "ImageOps", "ImageEnhance"))
    image, factor = image_lib.fromarray(frame), 1 + 0.9 * level * sign
    warp = dict(resample=image_lib.Resampling.BILINEAR, fillcolor=(128, 128, 128))
    shift = 0.45 * level * sign

    def affine(*matrix):
        return image.transform(image.size, image_lib.Transform.AFFINE, matrix, **warp)

    return np.asarray(
        {
            "auto_contrast": lambda: ops.autocontrast(image),
            "equalize": lambda: ops.equalize(image),
            "invert": lambda: ops.invert(image),
            "posterize": lambda: ops.posterize(image, 4 - int(4 * level)),
            "solarize": lambda: ops.solarize(image, 256 - int(256 * level)),
            "solarize_add": lambda: image.point([min(255, i + int(110 * level)) if i < 128 else i for i in range(256)] * 3),
            "contrast": lambda: enhance.Contrast(image).enhance(factor),
            "brightness": lambda: enhance.Brightness(image).enhance(factor),
            "color": lambda: enhance.Color(image).enhance(factor),
            "sharpness": lambda: enhance.Sharpness(image).enhance(factor),
            "rotate": lambda: image.rotate(30 * level * sign, **warp),
            "shear_x": lambda: affine(1, 0.3 * level * sign, 0, 0, 1, 0),
            "shear_y": lambda: affine(1, 0, 0, 0.3 * level * sign, 1, 0),
            "translate_x": lambda: affine(1, 0, shift * COLUMNS, 0, 1, 0),
            "translate_y": lambda: affine(1, 0, 0, 0, 1, shift * ROWS),
        }[name]()
    ).astype(np.float32)


@pytest.mark.parametrize("name", ra.OPERATIONS)
@pytest.mark.parametrize("level,sign", [(0.7, 1.0), (0.63, -1.0)])
def test_operation_is_pillows(name, level, sign):
    clip = pictures()
    ours = np.asarray(apply(ra.OPERATIONS.index(name), level, sign, clip.astype(np.float32)))
    theirs = np.stack([with_pillow(name, level, sign, frame) for frame in clip])
    assert np.abs(ours - clip).max() > 5  # it does something
    if name in ("contrast", "auto_contrast"):  # Pillow's mean is of grays rounded pixel by pixel; its 255 may come out as 254.99
        assert np.abs(ours - theirs).max() <= 1
    elif name in ra.TABLES:
        np.testing.assert_array_equal(ours, theirs)
    else:  # Pillow rounds to whole values; at a warp's border one of the two may show the fill
        assert (np.abs(ours - theirs) <= 1.5).mean() > 0.99


def test_the_number_past_the_end_is_the_identity():
    clip = pictures().astype(np.float32) + 0.25
    np.testing.assert_array_equal(np.asarray(apply(len(ra.OPERATIONS), 0.7, -1.0, clip)), clip)


def test_histogram_counts():
    values = pictures(3).astype(np.int32)
    counts = np.asarray(ra.histogram(jnp.asarray(values)))
    for t in range(3):
        for c in range(3):
            np.testing.assert_array_equal(counts[t, c], np.bincount(values[t, :, :, c].ravel(), minlength=256))


def test_frames_of_a_clip_change_alike_and_clips_do_not():
    op = jax.jit(jax.vmap(ra.RandAugment()))
    clip = jnp.broadcast_to(jnp.asarray(pictures(1)) / 255.0, (8, 3, ROWS, COLUMNS, 3))
    out = np.asarray(op(jax.random.split(jax.random.key(3), 8), clip))
    np.testing.assert_allclose(out, np.broadcast_to(out[:, :1], out.shape), atol=1e-6)
    assert len({o.tobytes() for o in out[:, 0]}) > 5
    assert out.min() >= 0 and out.max() <= 1


def test_probability_zero_is_the_identity_and_one_key_one_result():
    clip = jnp.asarray(pictures()) / 255.0
    still = jax.jit(ra.RandAugment(prob=0.0))(jax.random.key(0), clip)
    np.testing.assert_allclose(np.asarray(still), np.asarray(clip), atol=1e-6)
    op = jax.jit(ra.RandAugment(prob=1.0))
    np.testing.assert_array_equal(np.asarray(op(jax.random.key(1), clip)), np.asarray(op(jax.random.key(1), clip)))


def test_recipes_name_it():
    view = build_view({"crop": {"name": "center"}, "color": ({"name": "randaugment"}, {"name": "erase", "prob": 0.25})}, Pixels(16))
    assert view.color[0] == ra.RandAugment(layers=4, magnitude=7.0, magnitude_std=0.5, prob=0.5)
    with pytest.raises(UserError, match="magnitude"):
        ra.RandAugment(magnitude=11)
