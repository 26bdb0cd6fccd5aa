"""VideoMAE's loss, what reaches what, and its pictures."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import videomae_vits
from tests.models.noise import noisy, normal
from tests.train import tiny
from vssl_jax import batch as batch_lib
from vssl_jax import limits
from vssl_jax.errors import UserError
from vssl_jax.models.mae_decoder import MAEDecoder
from vssl_jax.models.vit import ViT, patchify, take_tokens
from vssl_jax.objectives import build
from vssl_jax.objectives.protocol import Turn
from vssl_jax.objectives.videomae import VideoMAE, pixel_target, unpatchify
from vssl_jax.perturb import masks
from vssl_jax.perturb.crop import WholePicture
from vssl_jax.perturb.view import IMAGENET_MEAN, IMAGENET_STD, RandomView

VIEW = RandomView(size=32, crop=WholePicture(), flip=0.0)


class Compiled(VideoMAE):
    """Its two long parts are compiled, each by itself, also where the rest runs op by op."""

    @partial(jax.jit, static_argnums=0)
    def _clips_and_ids(self, batch, rng):
        return super()._clips_and_ids(batch, rng)

    @partial(jax.jit, static_argnums=0)
    def predict(self, params, clips, visible_BxV, masked_BxM, keys_B=None):
        return super().predict(params, clips, visible_BxV, masked_BxM, keys_B)


@pytest.fixture(scope="module")
def method():
    """(objective without random views, its parameters with every bias and scale off its initial value, a batch, the clips that it sees)."""
    objective = tiny.videomae(Compiled, view=VIEW)
    params, memory = jax.jit(lambda key: objective.init(key, None))(jax.random.key(1))
    assert memory == {}
    batch = tiny.batches(1)[0]
    return objective, noisy(params), batch, np.asarray(jax.jit(VIEW)(jax.random.split(jax.random.key(0), 8), batch))[:, 0]


@pytest.fixture(scope="module")
def mask(method):
    """A mask, and for every pixel whether it is masked, [B,T,H,W,1]."""
    objective, _, _, clips = method
    ids = jax.jit(lambda keys: objective.mask(keys, objective.encoder.grid))(jax.random.split(jax.random.key(5), len(clips)))
    rows = np.zeros((len(clips), 32, 1), np.float32)
    for row, masked in zip(rows, np.asarray(ids.masked_BxM), strict=True):
        row[masked] = 1
    patches = np.repeat(rows, 2 * 8 * 8 * 3, axis=2)
    return ids, np.asarray(unpatchify(patches, objective.encoder.grid, objective.encoder.tubelet))


@partial(jax.jit, static_argnums=0)
def loss(objective, params, batch, seed=0):
    return objective.loss(params, {}, batch, jax.random.key(seed), Turn())[0]


def zero_head(params):
    return params | {"decoder": params["decoder"] | {"head": jax.tree.map(np.zeros_like, params["decoder"]["head"])}}


def test_predicting_zero_costs_511_of_512():
    """Per patch and channel the target has mean 0 and unbiased variance 1 over its 2x16x16 pixels."""
    encoder, decoder = ViT(width=16, depth=1, heads=2, frames=4, size=32), MAEDecoder(width=8, depth=1, heads=2, out=1536)
    objective, batch = tiny.videomae(view=VIEW, encoder=encoder, decoder=decoder), tiny.batches(1)[0]
    params, _ = jax.jit(lambda key: objective.init(key, None))(jax.random.key(0))
    assert abs(float(loss(objective, zero_head(params), batch)) - 511 / 512) < 1e-5
    assert abs(float(loss(objective, params, batch)) - 511 / 512) > 1e-3  # and the head does matter


def test_the_target_is_normalized_per_patch_and_channel(rng):
    patches = jax.random.uniform(rng, (2, 3, 2 * 4 * 4 * 3)) * jnp.array([1.0, 5.0, 0.1] * 32)
    target = np.asarray(pixel_target(patches)).reshape(2, 3, 32, 3)
    pixels = np.asarray(patches, np.float64).reshape(2, 3, 32, 3)
    expected = (pixels - pixels.mean(2, keepdims=True)) / (np.sqrt(pixels.var(2, ddof=1, keepdims=True)) + 1e-6)
    np.testing.assert_allclose(target, expected, atol=2e-5)
    np.testing.assert_array_equal(pixel_target(patches, normalize=False), patches)


def test_a_flat_patch_has_a_finite_target():
    assert np.isfinite(pixel_target(jnp.full((1, 1, 96), 0.3))).all()


def test_unpatchify_is_the_inverse_of_patchify(rng):
    clip = jax.random.uniform(rng, (2, 4, 6, 8, 3))
    np.testing.assert_array_equal(unpatchify(patchify(clip, (2, 3, 2)), (2, 2, 4), (2, 3, 2)), clip)


def test_masked_pixels_reach_no_prediction_but_the_target(method, mask):
    (objective, params, _, clips), (ids, masked) = method, mask
    other = np.where(masked > 0, clips + 1, clips)
    predict = lambda c: objective.predict(params, c, ids.visible_BxV, ids.masked_BxM)  # noqa: E731
    encode = jax.jit(lambda c: objective.encoder.apply({"params": params["encoder"]}, c, ids.visible_BxV))
    np.testing.assert_array_equal(predict(clips), predict(other))
    np.testing.assert_array_equal(encode(clips), encode(other))
    target = lambda c: take_tokens(patchify(c, objective.encoder.tubelet), ids.masked_BxM)  # noqa: E731
    assert not np.array_equal(target(clips), target(other))
    seen = np.where(masked > 0, clips, clips + np.float32(0.1))
    assert not np.array_equal(predict(clips), predict(seen))


def test_the_gradient_of_every_prediction_is_zero_at_masked_pixels(method, mask):
    (objective, params, _, clips), (ids, masked) = method, mask
    weights = normal(len(clips), ids.masked_BxM.shape[1], 384)
    total = lambda c: jnp.sum(weights * objective.predict(params, c, ids.visible_BxV, ids.masked_BxM))  # noqa: E731
    gradient = np.asarray(jax.jit(jax.grad(total))(clips))
    assert (gradient[masked > 0] == 0).all()
    assert (gradient[masked == 0] != 0).mean() > 0.99


def test_the_loss_reads_the_masked_patches_in_the_mask_s_order(method):
    """Predictions that are the target cost nothing; in another order they don't."""
    objective, params, batch, clips = method
    rng = jax.random.key(0)
    seen_clips, ids = objective._clips_and_ids(batch | {batch_lib.SLOT: np.arange(8, dtype=np.int32)}, rng)
    np.testing.assert_allclose(seen_clips, clips, atol=1e-6)
    unit = clips * np.float32(IMAGENET_STD) + np.float32(IMAGENET_MEAN)
    target = jax.jit(pixel_target)(take_tokens(patchify(unit, objective.encoder.tubelet), ids.masked_BxM))
    prediction = objective.predict(params, clips, ids.visible_BxV, ids.masked_BxM)
    np.testing.assert_allclose(loss(objective, params, batch), np.mean((np.asarray(prediction) - target) ** 2), rtol=1e-4)


def test_masks_follow_the_step_s_key(method):
    objective, params, batch, _ = method
    assert float(loss(objective, params, batch, 0)) == float(loss(objective, params, batch, 0))
    assert float(loss(objective, params, batch, 0)) != float(loss(objective, params, batch, 1))


def test_pictures_put_back_what_was_seen_bit_for_bit(method):
    objective, params, batch, _ = method
    shown = objective.pictures(params, {}, batch, jax.random.key(3))  # not compiled: fused with other things, a picture may round otherwise
    assert set(shown) == {"original", "visible", "reconstruction"}
    original, visible, rebuilt = (np.asarray(shown[k]) for k in ("original", "visible", "reconstruction"))
    assert original.shape == (8, 4, 32, 32, 3) and original.min() >= 0 and original.max() <= 1
    np.testing.assert_allclose(original, batch[batch_lib.VIDEO][:, 0] / 255, atol=1e-5)
    hidden = (visible == 0.5).all(-1, keepdims=True) & np.ones(3, bool)
    assert abs(hidden.mean() - 0.75) < 0.01
    np.testing.assert_array_equal(rebuilt[~hidden], original[~hidden])
    np.testing.assert_array_equal(visible[~hidden], original[~hidden])
    assert (rebuilt[hidden] != original[hidden]).mean() > 0.9


def test_a_perfect_prediction_is_a_perfect_picture(method):
    """The pictures undo the target's normalization."""
    _, params, batch, _ = method

    class Oracle(Compiled):
        def predict(self, params, clips, visible_BxV, masked_BxM, keys_B=None):
            return pixel_target(self._masked_pixels(clips, masked_BxM))

    shown = tiny.videomae(Oracle, view=VIEW).pictures(params, {}, batch, jax.random.key(3))
    np.testing.assert_allclose(shown["reconstruction"], shown["original"], atol=1e-5)


def test_held_out_videos_are_rebuilt_in_evaluation_mode_and_count_by_their_weight():
    """With stochastic depth, which would ask for keys."""
    method = tiny.videomae(encoder=dataclasses.replace(tiny.videomae().encoder, drop_path=0.9, parent=None))
    batch = tiny.batches(1)[0]
    params, memory = jax.jit(lambda key: method.init(key, batch))(jax.random.key(0))
    look = jax.jit(lambda b: method.held_out(params, memory, b, jax.random.key(1))["loss"])
    assert (
        jax.eval_shape(lambda b: method.loss(params, memory, b, jax.random.key(1), method.turns[0])[0], batch).shape == ()
    )  # by keys of its own
    weight = np.array([1, 1, 1, 1, 1, 0, 0, 0], np.float32)
    changed = dict(batch, video=np.where(weight.reshape(-1, 1, 1, 1, 1, 1) > 0, batch["video"], 7).astype(np.uint8))
    one, two = (float(look(dict(b, weight=weight))) for b in (batch, changed))
    assert one == pytest.approx(two, rel=1e-6) and one != pytest.approx(float(look(batch)), rel=1e-6)


def test_embeddings_are_one_vector_a_video(method):
    objective, params, _, _ = method
    spec = batch_lib.Spec(batch_size=3, clips=2, frames=4, height=32, width=32)
    embed = jax.jit(lambda p, b: objective.embed(p, {}, b)["video"])
    several = batch_lib.fake(spec, jax.random.key(0))
    out = embed(params, several)
    assert out.shape == (3, 16) and out.dtype == jnp.float32
    first, second = (embed(params, {k: v[:, i : i + 1] if v.ndim > 1 else v for k, v in several.items()}) for i in (0, 1))
    np.testing.assert_allclose(out, (first + second) / 2, atol=1e-5)


def test_all_clips_of_a_video_are_examples():
    spec = batch_lib.Spec(batch_size=2, clips=3, frames=4, height=32, width=32)
    objective = tiny.videomae(Compiled, view=VIEW)
    clips, ids = objective._clips_and_ids(batch_lib.fake(spec, jax.random.key(0)), jax.random.key(0))
    assert clips.shape == (6, 4, 32, 32, 3) and len({tuple(row) for row in np.asarray(ids.masked_BxM)}) > 3


# Of 32 tokens, (2, 4, 4): the mask as a recipe has it, its ratio, and the counts of visible and masked tokens. The first is the recipes' default.
MASKS = {
    "tube": (None, 0.75, (8, 24)),
    "random": ({"name": "random"}, 0.75, (8, 24)),
    "running_cell": ({"name": "running_cell"}, 0.5, (16, 16)),
    "block": ({"name": "block", "blocks": 4, "shape": {"area": (0.2, 0.3)}}, 0.5, (16, 16)),
    "multi_block": ({"name": "multi_block", "visible": 6, "masked": 10, "blocks": 2, "shape": {"area": (0.3, 0.3)}}, 0.75, (6, 10)),
}


def with_mask(mask, ratio, size=32):
    """The tiny method, by a recipe."""
    config = videomae_vits.get_config("smoke").unlock()
    config.model.update({"width": 16, "tubelet": (2, 8, 8), "size": size})
    config.objective.mask_ratio = ratio
    config.objective.decoder = {"width": 8, "depth": 1, "heads": 2}
    config.objective.view = {"crop": {"name": "whole"}, "flip": 0.0}
    if mask is not None:
        config.objective.mask = mask
    limits.check_values(config)
    return build(config.lock())


def test_every_mask_can_be_chosen():
    assert set(MASKS) == set(masks.MASKS)


@pytest.mark.parametrize("name", MASKS)
def test_a_step_by_every_mask_has_its_counts_of_tokens(name):
    mask, ratio, counts = MASKS[name]
    objective = with_mask(mask, ratio)
    assert type(objective.mask) is masks.MASKS[name] and objective.mask.counts(objective.encoder.grid) == counts
    clips, ids = jax.eval_shape(objective._clips_and_ids, tiny.batches(1)[0], jax.random.key(0))
    assert (ids.visible_BxV.shape, ids.masked_BxM.shape) == ((8, counts[0]), (8, counts[1])) and len(clips.shape) == 5
    (before, after), (metrics,), _ = tiny.advance(tiny.plan(objective, tiny.batches(1)))
    assert np.isfinite(metrics["loss"]) and tiny.largest_difference(before.params, after.params) > 0


def test_without_a_mask_of_its_own_a_recipe_has_tubes():
    assert with_mask(None, 0.75) == with_mask({"name": "tube"}, 0.75)
    assert with_mask(None, 0.75).mask == masks.Tube(0.75)


def test_what_a_mask_leaves_out_is_gray_in_the_pictures():
    objective = with_mask(*MASKS["multi_block"][:2])
    params, _ = jax.jit(lambda key: objective.init(key, None))(jax.random.key(1))
    shown = jax.jit(lambda p: objective.pictures(p, {}, tiny.batches(1)[0], jax.random.key(3)))(params)
    gray = {name: np.mean((np.asarray(picture) == 0.5).all(-1)) for name, picture in shown.items()}
    assert gray["visible"] == pytest.approx(26 / 32, abs=0.01) and gray["reconstruction"] == pytest.approx(16 / 32, abs=0.01)


@pytest.mark.parametrize(
    ("mask", "ratio", "size", "message"),
    [
        ({"name": "running_cell"}, 0.5, 24, "even number of tokens along height and width, the encoder has 3x3"),
        ({"name": "multi_block", "visible": 30, "masked": 3}, 0.5, 32, "30 visible and 3 masked tokens does not fit a grid of 32 tokens"),
        ({"name": "random"}, 0.999, 32, r"objective\.mask_ratio=0.999 leaves 0 of 32 patches visible"),
    ],
)
def test_a_mask_that_the_encoder_s_tokens_do_not_fit_is_refused(mask, ratio, size, message):
    with pytest.raises(UserError, match=message):
        with_mask(mask, ratio, size)


@pytest.mark.parametrize(("name", "visible"), [("videomae_vitb", 160), ("videomae_vitb_ucf101", 392)])
def test_the_published_counts_of_tokens(name, visible):
    recipe = pytest.importorskip(f"configs.{name}")
    objective = build(recipe.get_config())
    assert objective.encoder.grid == (8, 14, 14)
    assert objective.mask.counts(objective.encoder.grid) == (visible, 1568 - visible)
    assert objective.flops(4) == 4 * objective.flops(1) > 0


def test_the_parameters_of_vit_b_are_counted():
    from configs import videomae_vitb

    objective = build(videomae_vitb.get_config())
    params, _ = jax.eval_shape(lambda: objective.init(jax.random.key(0), None))
    assert sum(x.size for x in jax.tree.leaves(params)) == 94_210_944
