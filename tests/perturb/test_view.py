"""Views: exact where they can be, closed to the canvas outside the picture, the same however the batch is split."""

from dataclasses import replace
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from vssl_jax import batch as batch_lib
from vssl_jax.batch import CHROMA, EXTENT, LUMA, SLOT, VIDEO, YUV_SPACE, YUV_SPACES, Spec
from vssl_jax.errors import UserError
from vssl_jax.perturb import blur, color, crop, keys, view, yuv

LAYOUTS = ("rgb", "yuv420")
CROPS = [crop.RandomResizedCrop(), crop.MultiScaleCrop(), crop.CenterCrop(), crop.WholePicture()]
COLORS = (color.ColorJitter(0.4, 0.4, 0.2, 0.1, prob=0.8), color.Gray(0.5), blur.GaussianBlur(0.5), color.Solarize(0.3))


@cache
def noise(layout="rgb", b=4, k=2, t=3, h=24, w=32):
    return jax.device_get(jax.jit(lambda: batch_lib.fake(Spec(b, k, t, h, w, layout), jax.random.key(7)))())


@partial(jax.jit, static_argnums=0)
def jitted(which, rng, batch):
    return which(batch) if isinstance(which, view.EvalView) else which(keys.example_keys(rng, batch, keys.VIEW), batch)


def drawn(which, batch, rng):
    return np.asarray(jitted(which, rng, batch))


unit_rgb = jax.jit(view.unit_rgb)


def unit(which, batch, rng):
    return drawn(replace(which, mean=(0, 0, 0), std=(1, 1, 1)), batch, rng)


def smooth(space, extent=(48, 64), canvas=(56, 72)):
    """The same smooth moving picture twice, as RGB and as YUV420 planes: [1, 1, 2, H, W], with noise on the canvas outside the picture."""
    rows, columns = np.mgrid[: canvas[0], : canvas[1]].astype(np.float64)

    def picture(y, x):
        waves = [np.sin(x / 9 + t + c) * np.cos(y / 11 + 0.5 * c) for t in (0.0, 0.3) for c in range(3)]
        return (0.5 + 0.25 * np.stack(waves, -1)).reshape(*y.shape, 2, 3).transpose(2, 0, 1, 3)

    name, full = YUV_SPACES[space]
    matrix, shift = yuv.affine(name, full)

    def codes(rgb):
        return (rgb - shift) @ np.linalg.inv(matrix).T

    rng = np.random.default_rng(0)

    def framed(plane, inside):
        out = rng.integers(0, 256, (1, 1, *plane.shape), dtype=np.uint8)
        out[:, :, :, : inside[0], : inside[1]] = np.clip(np.round(plane), 0, 255)[:, : inside[0], : inside[1]]
        return out

    half = tuple((e + 1) // 2 for e in extent)
    common = {EXTENT: np.array([[extent]], np.int32)}
    chroma = codes(picture(rows[::2, ::2] + 0.5, columns[::2, ::2]))[..., 1:]  # left-sited: between rows, on even columns
    planes = {
        LUMA: framed(codes(picture(rows, columns))[..., 0], extent),
        CHROMA: framed(chroma, half),
        YUV_SPACE: np.full((1, 1), space, np.int32),
    }
    return {VIDEO: framed(255 * picture(rows, columns), extent), **common}, {**planes, **common}


def test_identity_gives_the_input_back(rng):
    batch = noise()
    out = drawn(view.RandomView((24, 32), crop.WholePicture(), flip=0, mean=(0, 0, 0), std=(1, 1, 1)), batch, rng)
    np.testing.assert_array_equal(np.round(out * 255), batch[VIDEO])
    np.testing.assert_allclose(out, np.asarray(batch[VIDEO]) / 255, atol=1e-6)
    np.testing.assert_allclose(unit_rgb(batch), out, atol=1e-6)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_flip_is_the_reversed_view(layout, rng):
    batch, plain = noise(layout), view.RandomView(16, flip=0.0)
    flipped = drawn(replace(plain, flip=1.0), batch, rng)
    np.testing.assert_allclose(flipped[..., ::-1, :], drawn(plain, batch, rng), atol=4e-6)


def test_flip_twice_is_the_identity(rng):
    batch, flip = noise(), view.RandomView((24, 32), crop.WholePicture(), flip=1.0)
    once = unit(flip, batch, rng)
    again = unit(flip, {**batch, VIDEO: np.round(once * 255).astype(np.uint8)}, rng)
    np.testing.assert_array_equal(np.round(again * 255), batch[VIDEO])


VIEWS = [*(view.RandomView(16, c) for c in CROPS), view.EvalView(16, short_side=18, crops=3)]
# What is resampled is the layout's, where to look is the view's: of planes the first and the last are enough, the others are `slow`.
LOOKING = [("rgb", which) for which in VIEWS] + [("yuv420", which) for which in (VIEWS[0], VIEWS[-1])]
LOOKING += [pytest.param("yuv420", which, marks=pytest.mark.slow) for which in VIEWS[1:-1]]


@pytest.mark.parametrize(("layout", "which"), LOOKING, ids=repr)
def test_nothing_leaks_from_outside_the_picture(layout, which, rng):
    batch = noise(layout)

    def framed(extent, value):
        out = batch | {EXTENT: np.broadcast_to(np.array(extent, np.int32), (4, 2, 2))}
        for key in {VIDEO, LUMA, CHROMA} & set(batch):
            step = 2 if key == CHROMA else 1
            out[key] = np.full_like(batch[key], value)
            inside = np.s_[:, :, :, : -(-extent[0] // step), : -(-extent[1] // step)]
            out[key][inside] = batch[key][inside]
        return out

    for extent in ((17, 21), (16, 32), (24, 9)):
        outs = [drawn(which, framed(extent, value), rng) for value in (0, 255)]
        assert np.isfinite(outs[0]).all()
        np.testing.assert_array_equal(*outs)
        wider = framed(extent, 255) | {EXTENT: np.broadcast_to(np.array([24, 32], np.int32), (4, 2, 2))}
        assert (drawn(which, wider, rng) != outs[1]).any()  # the comparison can fail


@pytest.mark.parametrize("antialias", [True, False])
def test_constant_stays_constant(antialias, rng):
    batch = noise() | {VIDEO: np.full((4, 2, 3, 24, 32, 3), 77, np.uint8)}
    which = view.RandomView(15, color=(blur.GaussianBlur(1.0),), antialias=antialias)
    np.testing.assert_allclose(unit(which, batch, rng), 77 / 255, atol=1e-6)


@pytest.mark.parametrize("space", range(4))
@pytest.mark.parametrize("extent", [(48, 64), (47, 63)])
def test_yuv_path_agrees_with_rgb(space, extent):
    rgb, planes = smooth(space, extent)
    for which in (view.RandomView(20, crop.MultiScaleCrop()), view.RandomView(48, crop.RandomResizedCrop((0.2, 0.6)))):
        for seed in range(3):
            units = [unit(which, x, jax.random.key(seed)) for x in (rgb, planes)]
            error = np.abs(units[0] - units[1])
            assert error.mean() < 1 / 255 and error.max() < 5 / 255
    moved = {**planes, CHROMA: np.roll(planes[CHROMA], 2, axis=4)}
    assert np.abs(np.asarray(unit_rgb(moved) - unit_rgb(rgb))).mean() > 2 / 255  # misplaced chroma would show


def test_unit_rgb_is_black_outside_the_picture():
    for batch in smooth(0):
        out = np.asarray(unit_rgb(batch))
        assert (out[..., 48:, :, :] == 0).all() and (out[..., 64:, :] == 0).all() and out[..., :48, :64, :].min() > 0.1


@pytest.mark.parametrize("layout", ["rgb", pytest.param("yuv420", marks=pytest.mark.slow)])
def test_rows_do_not_depend_on_the_split(layout, rng):
    which = view.RandomView(16, color=COLORS if layout == "rgb" else ())
    batch = noise(layout, k=1) | {SLOT: np.arange(4, dtype=np.int32)}
    whole = drawn(which, batch, rng)
    for rows in (slice(0, 2), slice(2, 4)):
        np.testing.assert_allclose(drawn(which, {key: value[rows] for key, value in batch.items()}, rng), whole[rows], atol=1e-5)
    assert np.abs(whole[0] - drawn(which, batch, jax.random.key(1))[0]).max() > 0.01


def test_same_on_one_device_and_on_eight(rng):
    """Also what catches a hue that compares for equality: dm-pix's gave other colors on eight devices than on one (jax 0.12)."""
    which = view.RandomView(16, color=COLORS[:1])
    batch = noise(b=8, k=1)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    sharded = jax.device_put(batch, NamedSharding(mesh, PartitionSpec("data")))
    out = jitted(which, rng, sharded)
    assert len(out.sharding.device_set) == 8 and out.addressable_shards[0].data.shape[0] == 1
    np.testing.assert_allclose(out, drawn(which, batch, rng), atol=1e-5)


def test_who_shares_draws(rng):
    still = np.broadcast_to(noise()[VIDEO][:, :1, :1], (4, 2, 3, 24, 32, 3))
    batch, brightness = noise() | {VIDEO: still}, (color.ColorJitter(0.4),)
    out = {per: drawn(view.RandomView(16, color=brightness, per=per), batch, rng) for per in ("clip", "video", "frame")}
    same_frames = {per: np.allclose(x, x[:, :, :1], atol=1e-5) for per, x in out.items()}
    same_clips = {per: np.allclose(x, x[:, :1], atol=1e-5) for per, x in out.items()}
    assert same_frames == {"clip": True, "video": True, "frame": False}
    assert same_clips == {"clip": False, "video": True, "frame": False}
    assert all(np.abs(x[0] - x[1]).max() > 0.01 for x in out.values())


def test_normalize_is_undone(rng):
    unit = np.asarray(jax.random.uniform(rng, (2, 3, 4, 4, 3)))
    np.testing.assert_allclose(jax.jit(lambda x: view.denormalize(view.normalize(x)))(unit), unit, atol=1e-6)
    np.testing.assert_allclose(jax.jit(view.normalize)(np.float32([0.485, 0.456, 0.406]) + np.float32([0.229, 0.224, 0.225])), 1, atol=1e-5)


def test_dtype_and_shape(rng):
    which = view.RandomView((8, 16), dtype=jnp.bfloat16)
    shape = jax.eval_shape(lambda x: which(keys.example_keys(rng, x, 0), x), noise("yuv420"))
    assert shape.shape == (4, 2, 3, 8, 16, 3) and shape.dtype == jnp.bfloat16


def test_eval_view_takes_crops_along_the_longer_side(rng):
    batch = noise(b=1, k=2, t=1, h=24, w=40)
    plain = view.EvalView(24, crops=3, mean=(0, 0, 0), std=(1, 1, 1))
    out = drawn(plain, batch, rng) * 255
    assert out.shape == (1, 6, 1, 24, 24, 3)
    for k in range(2):
        for i, left in enumerate((0, 8, 16)):
            np.testing.assert_allclose(out[0, 3 * k + i], batch[VIDEO][0, k, :, :, left : left + 24], atol=1e-3)
    upright = {VIDEO: np.swapaxes(batch[VIDEO], 3, 4), EXTENT: batch[EXTENT][..., ::-1]}
    np.testing.assert_allclose(drawn(plain, upright, rng) * 255, out.swapaxes(3, 4), atol=1e-3)
    np.testing.assert_allclose(drawn(replace(plain, crops=1), batch, rng) * 255, out[:, 1::3], atol=1e-3)


def test_eval_view_resizes_then_crops(rng):
    batch = noise(b=1, k=1, t=1, h=32, w=64)
    resized = jax.image.resize(batch[VIDEO][0, 0, 0].astype(np.float32) / 255, (20, 40, 3), "bilinear")
    out = unit(view.EvalView(16, short_side=20), batch, rng)[0, 0, 0]
    np.testing.assert_allclose(out[1:-1, 1:-1], resized[3:17, 13:27], atol=1e-5)  # the crop's border reads no pixel outside the crop


def test_errors_name_the_setting():
    with pytest.raises(UserError, match="per='pixel'"):
        view.RandomView(16, per="pixel")
    with pytest.raises(UserError, match="short_side"):
        view.EvalView(224, short_side=200)
