"""Views: exact where they can be, closed to the canvas outside the picture, the same however the batch is split."""

from dataclasses import replace

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


def noise(layout="rgb", b=4, k=2, t=3, h=24, w=32):
    return batch_lib.fake(Spec(b, k, t, h, w, layout), jax.random.key(7))


def drawn(which, batch, rng):
    return np.asarray(jax.jit(lambda key, x: which(keys.example_keys(key, x, keys.VIEW), x))(rng, batch))


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
    np.testing.assert_allclose(view.unit_rgb(batch), out, atol=1e-6)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("cut", CROPS, ids=repr)
def test_flip_is_the_reversed_view(layout, cut, rng):
    batch, plain = noise(layout), view.RandomView(16, cut, flip=0.0)
    flipped = drawn(replace(plain, flip=1.0), batch, rng)
    np.testing.assert_allclose(flipped[..., ::-1, :], drawn(plain, batch, rng), atol=1e-6)


def test_flip_twice_is_the_identity(rng):
    batch, flip = noise(), view.RandomView((24, 32), crop.WholePicture(), flip=1.0)
    once = jax.jit(flip.unit)(keys.example_keys(rng, batch, 0), batch)
    again = flip.unit(keys.example_keys(rng, batch, 0), {**batch, VIDEO: jnp.round(once * 255).astype(jnp.uint8)})
    np.testing.assert_array_equal(np.round(again * 255), batch[VIDEO])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("extent", [(17, 21), (16, 32), (24, 9)])
@pytest.mark.parametrize("which", [*(view.RandomView(16, c) for c in CROPS), view.EvalView(16, short_side=18, crops=3)], ids=repr)
def test_nothing_leaks_from_outside_the_picture(layout, extent, which, rng):
    batch = noise(layout) | {EXTENT: jnp.broadcast_to(jnp.array(extent, jnp.int32), (4, 2, 2))}

    def framed(value):
        out = dict(batch)
        for key in {VIDEO, LUMA, CHROMA} & set(batch):
            step = 2 if key == CHROMA else 1
            inside = np.zeros(batch[key].shape[3:5], bool)
            inside[: -(-extent[0] // step), : -(-extent[1] // step)] = True
            out[key] = jnp.where(inside.reshape(*inside.shape, *(1,) * (batch[key].ndim - 5)), batch[key], jnp.uint8(value))
        return out

    apply = which if isinstance(which, view.EvalView) else lambda x: which(keys.example_keys(rng, x, 0), x)
    outs = [np.asarray(jax.jit(apply)(framed(value))) for value in (0, 255)]
    assert np.isfinite(outs[0]).all()
    np.testing.assert_array_equal(*outs)
    wider = framed(255) | {EXTENT: jnp.broadcast_to(jnp.array([24, 32], jnp.int32), (4, 2, 2))}
    assert (np.asarray(apply(wider)) != outs[1]).any()  # the comparison can fail


@pytest.mark.parametrize("antialias", [True, False])
def test_constant_stays_constant(antialias, rng):
    batch = noise() | {VIDEO: jnp.full((4, 2, 3, 24, 32, 3), 77, jnp.uint8)}
    which = view.RandomView(15, color=(blur.GaussianBlur(1.0),), antialias=antialias)
    np.testing.assert_allclose(jax.jit(which.unit)(keys.example_keys(rng, batch, 0), batch), 77 / 255, atol=1e-6)


@pytest.mark.parametrize("space", range(4))
@pytest.mark.parametrize("extent", [(48, 64), (47, 63)])
def test_yuv_path_agrees_with_rgb(space, extent, rng):
    rgb, planes = smooth(space, extent)
    for which in (view.RandomView(32, crop.MultiScaleCrop()), view.RandomView(48, crop.RandomResizedCrop((0.2, 0.6))), view.RandomView(24)):
        for seed in range(3):
            units = [np.asarray(which.unit(keys.example_keys(jax.random.key(seed), x, 0), x)) for x in (rgb, planes)]
            error = np.abs(units[0] - units[1])
            assert error.mean() < 1 / 255 and error.max() < 5 / 255
    moved = {**planes, CHROMA: np.roll(planes[CHROMA], 2, axis=4)}
    assert np.abs(np.asarray(view.unit_rgb(moved) - view.unit_rgb(rgb))).mean() > 2 / 255  # misplaced chroma would show


def test_unit_rgb_is_black_outside_the_picture():
    for batch in smooth(0):
        out = np.asarray(view.unit_rgb(batch))
        assert (out[..., 48:, :, :] == 0).all() and (out[..., 64:, :] == 0).all() and out[..., :48, :64, :].min() > 0.1


@pytest.mark.parametrize("layout", LAYOUTS)
def test_rows_do_not_depend_on_the_split(layout, rng):
    which = view.RandomView(16, color=COLORS, flip=0.5)
    batch = noise(layout) | {SLOT: jnp.arange(4, dtype=jnp.int32)}
    whole = drawn(which, batch, rng)
    for rows in (slice(0, 1), slice(1, 3), slice(3, 4)):
        np.testing.assert_allclose(drawn(which, {key: value[rows] for key, value in batch.items()}, rng), whole[rows], atol=1e-5)
    assert np.abs(whole[0] - drawn(which, batch, jax.random.key(1))[0]).max() > 0.01


def test_same_on_one_device_and_on_eight(rng):
    which = view.RandomView(16, color=COLORS)
    batch = noise(b=8, k=1)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    sharded = jax.device_put(batch, NamedSharding(mesh, PartitionSpec("data")))
    out = jax.jit(lambda key, x: which(keys.example_keys(key, x, keys.VIEW), x))(rng, sharded)
    assert len(out.sharding.device_set) == 8 and out.addressable_shards[0].data.shape[0] == 1
    np.testing.assert_allclose(out, drawn(which, batch, rng), atol=1e-5)


def test_who_shares_draws(rng):
    still = jnp.broadcast_to(noise()[VIDEO][:, :1, :1], (4, 2, 3, 24, 32, 3))
    batch = noise() | {VIDEO: still}
    out = {per: drawn(view.RandomView(16, color=COLORS, per=per), batch, rng) for per in ("clip", "video", "frame")}
    same_frames = {per: np.allclose(x, x[:, :, :1], atol=1e-5) for per, x in out.items()}
    same_clips = {per: np.allclose(x, x[:, :1], atol=1e-5) for per, x in out.items()}
    assert same_frames == {"clip": True, "video": True, "frame": False}
    assert same_clips == {"clip": False, "video": True, "frame": False}
    assert all(np.abs(x[0] - x[1]).max() > 0.01 for x in out.values())


def test_normalize_is_undone(rng):
    unit = jax.random.uniform(rng, (2, 3, 4, 4, 3))
    np.testing.assert_allclose(view.denormalize(view.normalize(unit)), unit, atol=1e-6)
    np.testing.assert_allclose(view.normalize(jnp.array([0.485, 0.456, 0.406]) + jnp.array([0.229, 0.224, 0.225])), 1, atol=1e-5)


def test_dtype_and_shape(rng):
    which = view.RandomView((8, 16), dtype=jnp.bfloat16)
    shape = jax.eval_shape(lambda x: which(keys.example_keys(rng, x, 0), x), noise("yuv420"))
    assert shape.shape == (4, 2, 3, 8, 16, 3) and shape.dtype == jnp.bfloat16


def test_eval_view_takes_crops_along_the_longer_side():
    batch = noise(b=1, k=2, t=1, h=24, w=40)
    plain = view.EvalView(24, crops=3, mean=(0, 0, 0), std=(1, 1, 1))
    out = np.asarray(plain(batch)) * 255
    assert out.shape == (1, 6, 1, 24, 24, 3)
    for k in range(2):
        for i, left in enumerate((0, 8, 16)):
            np.testing.assert_allclose(out[0, 3 * k + i], batch[VIDEO][0, k, :, :, left : left + 24], atol=1e-3)
    upright = {VIDEO: jnp.swapaxes(batch[VIDEO], 3, 4), EXTENT: batch[EXTENT][..., ::-1]}
    np.testing.assert_allclose(np.asarray(plain(upright)) * 255, out.swapaxes(3, 4), atol=1e-3)
    np.testing.assert_allclose(replace(plain, crops=1)(batch) * 255, out[:, 1::3], atol=1e-3)


def test_eval_view_resizes_then_crops():
    batch = noise(b=1, k=1, t=1, h=32, w=64)
    resized = jax.image.resize(batch[VIDEO][0, 0, 0].astype(jnp.float32) / 255, (20, 40, 3), "bilinear")
    out = view.EvalView(16, short_side=20, mean=(0, 0, 0), std=(1, 1, 1))(batch)[0, 0, 0]
    np.testing.assert_allclose(out[1:-1, 1:-1], resized[3:17, 13:27], atol=1e-5)  # the crop's border reads no pixel outside the crop


def test_errors_name_the_setting():
    with pytest.raises(UserError, match="per='pixel'"):
        view.RandomView(16, per="pixel")
    with pytest.raises(UserError, match="short_side"):
        view.EvalView(224, short_side=200)
