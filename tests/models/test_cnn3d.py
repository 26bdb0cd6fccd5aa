"""The 3-D convolution networks: sizes by their shapes, batch statistics, and what reaches what."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models import cnn3d
from tests.models.noise import normal
from vssl_jax import models
from vssl_jax.errors import UserError
from vssl_jax.models import backbone, blocks3d
from vssl_jax.models.inception3d import windowed_mean
from vssl_jax.models.resnet3d import mid_channels
from vssl_jax.models.slowonly import temporal_shift


def count(tree) -> int:
    return sum(math.prod(x.shape) for x in jax.tree.leaves(tree))


@pytest.mark.parametrize("name", cnn3d.TABLE)
def test_sizes_are_the_published_ones(name):
    parameters, (frames, size), (slots, side, channels) = cnn3d.TABLE[name]
    model = models.build({"name": name})
    assert (model.frames, model.size) == (frames, size)
    params, stats, features = cnn3d.shapes(model)
    assert count(params) == parameters
    assert features.map_BxTxHxWxD.shape == (1, slots, side, side, channels)
    assert features.pooled_BxD.shape == (1, channels)
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves((params, stats)))


def test_every_convolution_network_is_in_the_table():
    assert {"cnn_small", *cnn3d.TABLE} == {name for name in models.MODELS if not name.startswith(("vit", "vivit", "timesformer"))}
    assert set(cnn3d.TABLE) == set(cnn3d.TINY)


@pytest.mark.parametrize("full", [True, False])
def test_variants_that_other_codes_publish(full):
    """C3D with its two layers of 4096 and a classifier of 101 has 78.41 M; VCOP's R(2+1)D of 18 layers is not torchvision's."""
    if full:
        params, _, features = cnn3d.shapes(models.build({"name": "c3d", "fully_connected": True}))
        assert count(params) + features.pooled_BxD.shape[-1] * 101 + 101 == 78_409_573
    else:
        assert count(cnn3d.shapes(models.build({"name": "r2plus1d10_vcop", "layers": (2, 2, 2, 2)}))[0]) == 33_178_423


def test_a_factorized_convolution_has_as_many_weights():
    for inputs, outputs in ((64, 64), (64, 128), (256, 512)):
        mid = mid_channels(inputs, outputs)
        whole, parts = 27 * inputs * outputs, 9 * inputs * mid + 3 * mid * outputs
        assert 0 <= whole - parts < 9 * inputs + 3 * outputs


@functools.partial(jax.jit, static_argnums=0, static_argnames="train")
def run(model, params, stats, clip, train=False):
    return backbone.apply(model, params, stats, clip, train=train, method="features")


@pytest.mark.parametrize("name", ["c3d_vcop", "r2plus1d10_vcop", "slowonly_r50"])
def test_half_precision_keeps_parameters_and_statistics_whole(name):
    model = cnn3d.tiny(name, dtype="bfloat16")
    params, stats, _ = cnn3d.shapes(model)
    clip = jax.ShapeDtypeStruct((1, model.frames, model.size, model.size, 3), jnp.float32)
    features, after = jax.eval_shape(lambda p, s, x: backbone.apply(model, p, s, x, train=True, method="features"), params, stats, clip)
    assert features.map_BxTxHxWxD.dtype == jnp.bfloat16 and features.pooled_BxD.dtype == jnp.float32
    assert {x.dtype for x in jax.tree.leaves((params, stats))} == {np.dtype("float32")}
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(lambda x: (x.shape, x.dtype), stats)


def test_half_precision_computes_the_same():
    model, half = (cnn3d.tiny("r3d10_vcop", dtype=dtype) for dtype in ("float32", "bfloat16"))
    params, stats = cnn3d.drawn(model)
    clip = normal(4, model.frames, model.size, model.size, 3)
    a, b = (np.asarray(run(m, params, stats, clip)[0].pooled_BxD) for m in (model, half))
    assert np.all(np.sum(a * b, -1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1) > 0.999)


def test_statistics_of_half_precision_are_taken_in_single():
    """The mean of 4096 values around 100 with steps of a half: bfloat16 would stop adding at 256 times the summand."""
    norm, x = blocks3d.BatchNorm(blocks3d.NetConfig(dtype="bfloat16", momentum=0.0)), 100 + normal(4096, 1)
    x = x.astype(jnp.bfloat16)
    variables = {"params": {"scale": np.ones(1, np.float32), "bias": np.zeros(1, np.float32)}}
    variables["batch_stats"] = {"mean": np.zeros(1, np.float32), "var": np.ones(1, np.float32)}
    y, changed = norm.apply(variables, x, True, mutable=["batch_stats"])
    exact = np.asarray(x, np.float64)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(changed["batch_stats"]["mean"], exact.mean(0), rtol=1e-6)
    np.testing.assert_allclose(changed["batch_stats"]["var"], exact.var(0, ddof=1), rtol=1e-4)


def test_batch_normalization_is_torch_s():
    """In training by the batch, whose unbiased variance the running one moves towards; in evaluation by what is running."""
    norm, x = blocks3d.BatchNorm(blocks3d.NetConfig(momentum=0.75, epsilon=0.1)), normal(2, 3, 2, 2, 5) * 3 + 100
    rng = np.random.default_rng(0)
    scale, bias, mean, var = (rng.uniform(0.5, 2, 5).astype(np.float32) for _ in range(4))
    variables = {"params": {"scale": scale, "bias": bias}, "batch_stats": {"mean": mean, "var": var}}
    y, changed = norm.apply(variables, x, True, mutable=["batch_stats"])
    flat = x.reshape(-1, 5).astype(np.float64)
    np.testing.assert_allclose(y, (x - flat.mean(0)) / np.sqrt(flat.var(0) + 0.1) * scale + bias, atol=1e-4)
    np.testing.assert_allclose(changed["batch_stats"]["mean"], 0.75 * mean + 0.25 * flat.mean(0), rtol=1e-5)
    np.testing.assert_allclose(changed["batch_stats"]["var"], 0.75 * var + 0.25 * flat.var(0, ddof=1), rtol=1e-5)
    y = norm.apply(variables, x, False)
    np.testing.assert_allclose(y, (x - mean) / np.sqrt(var + 0.1) * scale + bias, rtol=1e-4)


def test_evaluation_does_not_depend_on_the_batch_and_training_does():
    model = cnn3d.tiny("r3d18", size=16)
    params, stats = cnn3d.drawn(model)
    clip = normal(3, 8, 16, 16, 3)
    alone = np.repeat(clip[1:2], 3, axis=0)  # by itself, in a program of the same shapes: its copies have its statistics
    a, b = (np.asarray(run(model, params, stats, x)[0].pooled_BxD) for x in (clip, alone))
    np.testing.assert_allclose(a[1], b[1], atol=1e-5)
    a, b = (np.asarray(run(model, params, stats, x, train=True)[0].pooled_BxD) for x in (clip, alone))
    assert np.abs(a[1] - b[1]).max() > 1e-2


def test_two_dimensional_stages_look_at_their_own_frame_only():
    """In evaluation no other frame reaches a slot of a network without taps in time; with them, the neighbours do."""
    clip = normal(1, 4, 16, 16, 3)
    for taps, reached in (((1, 1, 1, 1), [1]), ((1, 1, 1, 3), [0, 1, 2])):
        model = cnn3d.tiny("slowonly_r50", taps=taps, frames=4, size=16)
        params, stats = cnn3d.drawn(model)
        slot = lambda x, m=model, p=params, s=stats: jnp.sum(m.apply({"params": p, "batch_stats": s}, x).map_BxTxHxWxD[:, 1])  # noqa: E731
        gradient = jax.jit(jax.grad(slot))(clip)
        assert [t for t in range(4) if np.any(gradient[0, t])] == reached


def test_a_shift_is_by_one_frame_either_way():
    """Of 8 channels of frame t, all of value t + 1: one is the next frame's, one the frame's before, six its own."""
    x = np.broadcast_to(np.arange(1.0, 5).reshape(1, 4, 1, 1, 1), (2, 4, 1, 3, 8))
    shifted = np.asarray(temporal_shift(x, 1 / 8))
    assert shifted.shape == x.shape and np.ptp(shifted, axis=(0, 2, 3)).max() == 0
    np.testing.assert_array_equal(shifted[0, :, 0, 0, 0], [2, 3, 4, 0])
    np.testing.assert_array_equal(shifted[0, :, 0, 0, 1], [0, 1, 2, 3])
    np.testing.assert_array_equal(shifted[..., 2:], x[..., 2:])
    np.testing.assert_array_equal(temporal_shift(x[:, :1], 1 / 4)[0, 0, 0, 0], [0] * 4 + [1] * 4)  # one frame alone


def test_shifted_channels_see_the_neighbors_and_nothing_where_time_stands_still():
    """Four blocks: a slot sees four frames to either side. A still clip looks to the slots in the middle as without a shift, and to those that zeros
    reach it does not.
    """
    still = np.broadcast_to(normal(1, 1, 16, 16, 3), (1, 10, 16, 16, 3))
    shifted, plain = (cnn3d.tiny("tsm_r50", width=8, frames=10, size=16, shift=share) for share in (1 / 8, 0.0))
    params, stats = cnn3d.drawn(shifted)
    see = lambda model, x: model.apply({"params": params, "batch_stats": stats}, x).map_BxTxHxWxD[0]  # noqa: E731
    of_slot = jax.grad(lambda x: jnp.sum(see(shifted, x)[5]))
    a, b, slot = map(np.asarray, jax.jit(lambda x: (see(shifted, x), see(plain, x), of_slot(x)))(still))
    np.testing.assert_allclose(a[4:6], b[4:6], atol=1e-5 * np.abs(b).max())
    assert min(np.abs(a[t] - b[t]).max() for t in (0, 9)) > 1e-2 * np.abs(b).max()
    assert [t for t in range(10) if np.any(slot[0, t])] == list(range(1, 10))


@pytest.mark.parametrize("sides", [(8, 7, 7), (3, 9, 8), (1, 2, 3)])
def test_the_windowed_mean_is_the_mean_over_windows(sides):
    x = normal(2, *sides, 3)
    t, h, w = (min(a, b) for a, b in zip(sides, (2, 7, 7), strict=True))
    windows = [
        x[:, i : i + t, j : j + h, k : k + w].mean((1, 2, 3))
        for i in range(sides[0] - t + 1) for j in range(sides[1] - h + 1) for k in range(sides[2] - w + 1)
    ]  # fmt: skip
    np.testing.assert_allclose(windowed_mean(x), np.mean(windows, 0), atol=1e-6)


@pytest.mark.parametrize(
    ("window", "strides", "padding"),
    [((3, 3, 3), (1, 1, 1), (1, 1, 1)), ((1, 3, 3), (1, 2, 2), (0, 1, 1)), ((3, 3, 3), (2, 2, 2), (1, 1, 1)), ((2, 2, 2), (2, 2, 2), (0, 0, 0))],
)  # fmt: skip
def test_max_pools_are_xla_s_and_ignore_their_padding(window, strides, padding, monkeypatch):
    x = normal(2, 5, 6, 7, 3) - 5  # what is padded would be the largest

    def pooled():
        """The pool and its gradient, traced anew."""

        def both(x):
            y, pull = jax.vjp(lambda x: blocks3d.max_pool(x, window, strides, padding), x)
            return y, pull(jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape))[0]

        return jax.jit(both)(x)

    ours = pooled()
    monkeypatch.setattr(blocks3d, "platform", lambda: "gpu")
    for a, b in zip(ours, pooled(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("c3d", (1, 4, 32, 32, 3), r"too small for this network: \(1, 4, 4\).*pools \(2, 2, 2\)"),
        ("s3d", (1, 4, 32, 32, 3), "too small for this network"),
        ("r3d18", (1, 4, 32, 32, 4), r"clips \[batch, frames, rows, columns, 3\]"),
        ("slowonly_r50", (4, 32, 32, 3), r"clips \[batch, frames, rows, columns, 3\]"),
    ],
)
def test_clips_that_do_not_fit_are_refused(name, shape, message):
    with pytest.raises(UserError, match=message) as error:
        jax.eval_shape(lambda x: cnn3d.tiny(name).init(jax.random.key(0), x), jax.ShapeDtypeStruct(shape, jnp.float32))
    assert "\n" not in str(error.value)


def test_a_shift_of_more_channels_than_there_are_is_refused():
    with pytest.raises(UserError, match=r"model.shift is 0.6"):
        models.build({"name": "tsm_r50", "shift": 0.6})


def test_an_unknown_kind_of_convolution_is_refused():
    with pytest.raises(UserError, match="unknown kind of convolution '1d'"):
        models.build({"name": "r3d18", "stem": "1d"})


def test_dilation_is_of_3d_convolutions_without_a_stride_in_time():
    for fields in ({"name": "r2plus1d18", "last_time_stride": 1}, {"name": "r3d18"}):
        with pytest.raises(UserError, match="last_time_dilation is 2"):
            models.build(fields | {"last_time_dilation": 2})
