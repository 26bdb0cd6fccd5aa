"""Color operations: their formulas, ranges, probabilities."""

import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vssl_jax.errors import UserError
from vssl_jax.perturb import color


@pytest.fixture
def clip():
    return np.random.default_rng(0).uniform(size=(3, 6, 5, 3)).astype(np.float32)


def test_factor_one_and_turn_zero_change_nothing(clip):
    for changed in (
        color.adjust_brightness(clip, 1),
        color.adjust_contrast(clip, 1),
        color.adjust_saturation(clip, 1),
        color.adjust_hue(clip, 0.0),
    ):
        np.testing.assert_allclose(changed, clip, atol=1e-5)


def test_factor_zero(clip):
    assert (color.adjust_brightness(clip, 0) == 0).all()
    np.testing.assert_allclose(color.adjust_contrast(clip, 0), color.luma(clip).mean(), atol=1e-6)
    np.testing.assert_allclose(color.adjust_saturation(clip, 0), jnp.broadcast_to(color.luma(clip), clip.shape), atol=1e-6)


def test_formulas_with_clipping(clip):
    x = np.asarray(clip, np.float64)
    gray = x @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(color.adjust_brightness(clip, 1.7), np.clip(1.7 * x, 0, 1), atol=1e-6)
    np.testing.assert_allclose(color.adjust_contrast(clip, 1.7), np.clip(1.7 * x - 0.7 * gray.mean(), 0, 1), atol=1e-5)
    np.testing.assert_allclose(color.adjust_saturation(clip, 1.7), np.clip(1.7 * x - 0.7 * gray[..., None], 0, 1), atol=1e-5)


def test_hue_turns_the_color_wheel(clip):
    np.testing.assert_allclose(color.adjust_hue(jnp.array([[[1.0, 0, 0]]]), 1 / 3), [[[0, 1, 0]]], atol=1e-5)
    r, g, b = (float(v) for v in clip[0, 0, 0])
    h, s, v = colorsys.rgb_to_hsv(r, g, b)
    np.testing.assert_allclose(color.adjust_hue(clip, 0.2)[0, 0, 0], colorsys.hsv_to_rgb((h + 0.2) % 1, s, v), atol=1e-5)


@pytest.mark.parametrize("shuffle", [False, True])
def test_jitter_is_one_map_for_all_frames(shuffle, rng, clip):
    still = np.broadcast_to(clip[:1], clip.shape)
    jitter = jax.jit(color.ColorJitter(0.4, 0.4, 0.4, 0.1, shuffle=shuffle))
    out = np.asarray(jitter(rng, still))
    np.testing.assert_allclose(out, np.broadcast_to(out[:1], out.shape), atol=1e-6)
    assert np.abs(out - still).max() > 0.01 and out.min() >= 0 and out.max() <= 1
    assert np.abs(jitter(jax.random.key(1), still) - out).max() > 0.01


def test_jitter_factors_fill_their_range():
    gray = jnp.full((1, 1, 1, 3), 0.25)
    jitter = color.ColorJitter(brightness=0.8)
    factors = jax.jit(jax.vmap(lambda key: jitter(key, gray)[0, 0, 0, 0] / 0.25))(jax.random.split(jax.random.key(0), 2000))
    np.testing.assert_allclose(np.quantile(factors, [0, 0.5, 1]), [0.2, 1.0, 1.8], atol=0.05)


def test_shuffled_jitter_takes_every_order(clip):
    """A key draws the same factors with and without shuffle, so with two operations about half of the keys match the fixed order."""
    keys = jax.random.split(jax.random.key(0), 200)
    fixed, shuffled = (
        np.asarray(jax.jit(jax.vmap(lambda key, s=s: color.ColorJitter(0.9, 0.9, shuffle=s)(key, clip[:1])))(keys)) for s in (False, True)
    )
    same = np.abs(fixed - shuffled).max((1, 2, 3, 4)) < 1e-6
    assert abs(same.mean() - 0.5) < 4 * 0.5 / 200**0.5


@pytest.mark.parametrize("op", [color.Gray, color.Solarize, lambda prob: color.ColorJitter(0.5, prob=prob)])
def test_probability(op, clip):
    keys = jax.random.split(jax.random.key(3), 1000)
    small = clip[:1, :2, :2]
    changed = np.asarray(jax.jit(jax.vmap(lambda key: (op(0.3)(key, small) != small).any()))(keys)).mean()
    assert abs(changed - 0.3) < 4 * (0.3 * 0.7 / 1000) ** 0.5
    np.testing.assert_array_equal(op(0.0)(keys[0], clip), clip)


def test_gray_has_equal_channels(rng, clip):
    gray = color.Gray(1.0)(rng, clip)
    assert (gray[..., :1] == gray).all()
    np.testing.assert_allclose(gray[..., 0], np.asarray(clip) @ np.array([0.299, 0.587, 0.114]), atol=1e-6)


def test_solarize_inverts_the_bright(rng, clip):
    np.testing.assert_allclose(color.Solarize(1.0)(rng, clip), np.where(clip < 0.5, clip, 1 - clip), atol=1e-7)


def test_gamma_is_a_power_of_every_value(clip):
    draw = jax.jit(jax.vmap(lambda key: color.Gamma((0.5, 2.0))(key, clip)))
    made = np.asarray(draw(jax.random.split(jax.random.key(0), 300)))
    power = np.log(made) / np.log(clip)
    assert np.ptp(power, axis=(1, 2, 3, 4)).max() < 0.02  # one a clip
    np.testing.assert_allclose(np.quantile(power[:, 0, 0, 0, 0], [0, 0.5, 1]), [0.5, 1.25, 2.0], atol=0.15)


def test_one_channel_is_dropped(clip):
    made = np.asarray(jax.jit(jax.vmap(lambda key: color.DropChannel()(key, clip)))(jax.random.split(jax.random.key(0), 600)))
    gone = (made == 0).all((1, 2, 3))
    assert (gone.sum(-1) == 1).all() and np.bincount(gone.argmax(-1), minlength=3).min() > 150  # of 600 / 3, four sigma
    assert (made == np.where(gone[:, None, None, None], 0, clip)).all()


def test_at_most_one_chain_is_applied():
    """A chain's operations one after another; what is left of 1 is nothing's share."""
    clip = jnp.full((2, 2, 2, 3), 0.25)
    brighter = lambda key, x: x * 2  # noqa: E731
    op = color.OneOf(((brighter, brighter), (brighter,)), (0.5, 0.2))
    made = np.asarray(jax.jit(jax.vmap(lambda key: op(key, clip)))(jax.random.split(jax.random.key(0), 2000)))[:, 0, 0, 0, 0]
    for value, share in ((1.0, 0.5), (0.5, 0.2), (0.25, 0.3)):
        assert abs((made == value).mean() - share) < 4 * 0.5 / 2000**0.5
    with pytest.raises(UserError, match="in all at most 1"):
        color.OneOf(((brighter,), (brighter,)), (0.5, 0.6))


def test_errors_name_the_setting():
    with pytest.raises(UserError, match=r"1\.5"):
        color.Gray(1.5)
    with pytest.raises(UserError, match="hue"):
        color.ColorJitter(hue=0.6)


def test_each_frame_has_its_own_draws():
    """Frame t is that frame as a clip of its own, by a key of its own, through the whole chain."""
    frame = jax.random.uniform(jax.random.key(0), (1, 4, 4, 3))
    clip, chain = jnp.broadcast_to(frame, (400, 4, 4, 3)), (color.ColorJitter(brightness=0.5), color.Gray(0.3))
    made = np.asarray(jax.jit(color.EachFrame(chain))(jax.random.key(1), clip))
    assert len({float(x.sum()) for x in made}) == 400
    gray = np.ptp(made, axis=-1).max((1, 2)) == 0
    assert abs(gray.mean() - 0.3) < 4 * (0.3 * 0.7 / 400) ** 0.5
    factor = made[~gray].mean((1, 2, 3)) / frame.mean()
    assert factor.min() < 0.6 and factor.max() > 1.3 and np.ptp(np.asarray(chain[0](jax.random.key(1), clip[:3])), axis=0).max() == 0


@pytest.mark.parametrize("per_frame", [False, True])
def test_one_channel_stands_for_all_of_them(clip, per_frame):
    """One of each clip, or one of each frame, every one as likely; with `prob` the others are as they were."""
    op = color.EachFrame((color.OneChannel(),)) if per_frame else color.OneChannel()
    made = np.asarray(jax.jit(jax.vmap(lambda key: op(key, clip)))(jax.random.split(jax.random.key(0), 600)))
    match = (made[..., None] == clip[:, :, :, None]).all((2, 3, 4))  # which channel every frame is, [600, T, 3]
    assert (match.sum(-1) == 1).all()
    which = match.argmax(-1)
    assert (which == which[:, :1]).all() != per_frame
    assert np.bincount(which[:, 0]).min() > 150  # of 600 / 3, four sigma
    op = color.OneOf(((op,),), (0.2,)) if per_frame else color.OneChannel(0.2)
    kept = np.asarray(jax.jit(jax.vmap(lambda key: op(key, clip)))(jax.random.split(jax.random.key(1), 600)))
    assert (kept == clip).all((1, 2, 3, 4)).mean() == pytest.approx(0.8, abs=0.07)


def test_a_chain_is_in_order_and_its_operations_draw_apart():
    """A constant before and behind gray; the factors of two jitters are not one."""
    clip, red = jnp.full((300, 1, 1, 3), 0.25), jnp.array([1.0, 0.0, 0.0])
    paint = lambda key, rgb: rgb * 0 + red  # noqa: E731
    for chain, wanted in (((paint, color.Gray(1.0)), 0.299), ((color.Gray(1.0), paint), 1.0)):
        np.testing.assert_allclose(color.EachFrame(chain)(jax.random.key(0), clip)[:, 0, 0, 0], wanted, rtol=1e-6)
    jitter = color.ColorJitter(brightness=0.5)
    both = np.asarray(color.EachFrame((jitter, jitter))(jax.random.key(0), clip))[:, 0, 0, 0] / 0.25
    assert abs(both.mean() - 1) < 0.1 and both.std() == pytest.approx((2 / 12 + 1 / 144) ** 0.5, rel=0.2)  # of one factor, squared: .59
    split = color.OneOf(((jitter,),), (0.5,))
    factor = (
        np.asarray(jax.jit(jax.vmap(lambda key: split(key, clip[:1])))(jax.random.split(jax.random.key(2), 2000)))[:, 0, 0, 0, 0] / 0.25
    )
    assert abs(factor[factor != 1].mean() - 1) < 4 * (1 / 12 / 1000) ** 0.5  # whether says nothing about how much
