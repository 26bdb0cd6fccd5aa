"""VideoMAE (Tong et al. 2022, https://arxiv.org/abs/2203.12602): reconstruct the nine tenths of a clip that tubes hide.

The one idea: a tube hides the same places in every frame, so a masked patch cannot be copied from a neighboring frame and must be
inferred from how things move. The encoder runs on the visible tokens only; a light decoder predicts the masked patches' pixels.
"""

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from vssl_jax import batch as batch_lib
from vssl_jax import models
from vssl_jax.errors import UserError
from vssl_jax.models import backbone as backbone_lib
from vssl_jax.models import flops as flops_lib
from vssl_jax.models import layout
from vssl_jax.models.mae_decoder import MAEDecoder
from vssl_jax.models.vit import ViT, patchify, take_tokens
from vssl_jax.objectives import encoder as encoder_lib
from vssl_jax.objectives.protocol import ENCODER, LOSS, VIDEO, Objective
from vssl_jax.perturb import keys as keys_lib
from vssl_jax.perturb import recipe
from vssl_jax.perturb import view as view_lib
from vssl_jax.perturb.masks import Mask
from vssl_jax.perturb.view import EvalView, RandomView

DECODER = "decoder"
TARGET_EPS = 1e-6


def patch_statistics(patches_BxNxP: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and standard deviation [B,N,1,3] of each patch and channel over its frames and pixels; the variance is the unbiased one."""
    b, n, p = patches_BxNxP.shape
    pixels = patches_BxNxP.reshape(b, n, p // 3, 3).astype(jnp.float32)
    return jnp.mean(pixels, axis=2, keepdims=True), jnp.std(pixels, axis=2, keepdims=True, ddof=1)


def pixel_target(patches_BxNxP: jax.Array, normalize: bool = True) -> jax.Array:
    """What is predicted for each patch, float32 [B,N,P] in (frame, row, column, channel) order.

    Normalized per patch *and channel* (the 512 pixels of a 2x16x16 tubelet), (x - mean) / (std + 1e-6): so predicting zero costs 511/512.
    MAE_ST normalizes all channels together instead.
    """
    patches_BxNxP = patches_BxNxP.astype(jnp.float32)
    if not normalize:
        return patches_BxNxP
    mean, std = patch_statistics(patches_BxNxP)
    pixels = patches_BxNxP.reshape(*patches_BxNxP.shape[:2], -1, 3)
    return ((pixels - mean) / (std + TARGET_EPS)).reshape(patches_BxNxP.shape)


def unpatchify(patches_BxNxP: jax.Array, grid: tuple[int, int, int], tubelet: tuple[int, int, int]) -> jax.Array:
    """[B,T,H,W,3]: the inverse of models.vit.patchify."""
    (t, h, w), (pt, ph, pw) = grid, tubelet
    x = patches_BxNxP.reshape(-1, t, h, w, pt, ph, pw, 3).transpose(0, 1, 4, 2, 5, 3, 6, 7)
    return x.reshape(-1, t * pt, h * ph, w * pw, 3)


@dataclass(frozen=True)
class VideoMAE(Objective):
    """Masked autoencoding, with the paper's tubes or another mask (perturb/masks.py). Tokens that are in neither list of a mask (MultiBlock's) are neither
    seen nor predicted.

    Parts: "encoder" (a ViT), "decoder" (an MAEDecoder). Memory: none. All clips of a video are examples like any other (repeated
    augmentation).
    """

    encoder: ViT
    decoder: MAEDecoder
    mask: Mask
    view: RandomView
    eval_view: EvalView

    normalize_target: bool = True

    def __post_init__(self):
        visible, masked = self.mask.counts(self.encoder.grid)
        if not (visible and masked):
            raise UserError(
                f"objective.mask_ratio={self.mask.ratio} leaves {visible} of {visible + masked} patches visible: some must be, and not all"
            )

    def init(self, rng, batch):
        grid = self.encoder.grid
        visible, masked = self.mask.counts(grid)
        clip = jax.ShapeDtypeStruct((1, self.encoder.frames, self.encoder.size, self.encoder.size, 3), jnp.float32)
        encoder_rng, decoder_rng = jax.random.split(rng)
        encoder = self.encoder.lazy_init(encoder_rng, clip)["params"]
        tokens = jax.ShapeDtypeStruct((1, visible, self.encoder.width), jnp.float32)
        ids = [jax.ShapeDtypeStruct((1, n), jnp.int32) for n in (visible, masked)]
        decoder = self.decoder.lazy_init(decoder_rng, tokens, *ids, grid)["params"]
        return {ENCODER: encoder, DECODER: decoder}, {}

    def _clips_and_ids(self, batch, rng):
        """The drawn clips [B*K,T,h,w,3], normalized, and their masks."""
        view = self.view(keys_lib.example_keys(rng, batch, keys_lib.VIEW), batch)
        clips = layout.frames(view.reshape(-1, *view.shape[2:]))
        mask_keys = keys_lib.clip_keys(keys_lib.example_keys(rng, batch, keys_lib.MASK), view.shape[1])
        return clips, self.mask(mask_keys, self.encoder.grid)

    def predict(self, params, clips, visible_BxV, masked_BxM, keys_B=None) -> jax.Array:
        """Predictions [B,M,P] of the masked patches of normalized clips [B,T,H,W,3]. `keys_B`: a key per clip, for what draws in training; None: evaluation."""
        tokens = self.encoder.apply({"params": params[ENCODER]}, clips, visible_BxV, train=keys_B is not None, rng=keys_B)
        return self.decoder.apply({"params": params[DECODER]}, tokens, visible_BxV, masked_BxM, self.encoder.grid)

    def _masked_pixels(self, clips, masked_BxM) -> jax.Array:
        """The masked patches [B,M,P] in [0,1]: gathered first, so nothing is computed for the visible ones."""
        unit = view_lib.denormalize(clips, self.view.mean, self.view.std)
        return take_tokens(patchify(unit, self.encoder.tubelet), masked_BxM)

    def _errors(self, params, batch, rng, keys_B=None) -> jax.Array:
        """The squared errors of the masked patches, [B*K,M,P]."""
        clips, ids = self._clips_and_ids(batch, rng)
        prediction = self.predict(params, clips, ids.visible_BxV, ids.masked_BxM, keys_B)
        target = pixel_target(self._masked_pixels(clips, ids.masked_BxM), self.normalize_target)
        return jnp.square(prediction.astype(jnp.float32) - target)

    def loss(self, params, memory, batch, rng, turn):
        keys_B = keys_lib.clip_keys(keys_lib.example_keys(rng, batch, keys_lib.DROPOUT), batch[batch_lib.TIME].shape[1])
        return jnp.mean(self._errors(params, batch, rng, keys_B)), (memory, {})

    def held_out(self, params, memory, batch, rng):
        error_B = jnp.mean(self._errors(params, batch, rng), axis=(1, 2))
        weight_B = jnp.repeat(batch[batch_lib.WEIGHT], error_B.shape[0] // batch[batch_lib.WEIGHT].shape[0])
        return {LOSS: jnp.sum(error_B * weight_B) / jnp.maximum(jnp.sum(weight_B), 1.0)}

    def embed(self, params, memory, batch, features=(VIDEO,)):
        return encoder_lib.embed(self, params, memory, batch, features)

    def backbone(self, params, memory, feature=VIDEO):
        return params[ENCODER], {}

    def flops(self, clips):
        visible, masked = self.mask.counts(self.encoder.grid)
        forward = flops_lib.vit(self.encoder, visible) + flops_lib.mae_decoder(self.decoder, self.encoder.width, visible, masked)
        return 3.0 * forward * clips

    def pictures(self, params, memory, batch, rng):
        """The clip, what the encoder sees of it, and the reconstruction (masked patches predicted, in the true patch's mean and
        contrast; gray what is neither seen nor predicted).
        """
        clips, ids = self._clips_and_ids(batch, rng)
        patches = patchify(view_lib.denormalize(clips, self.view.mean, self.view.std), self.encoder.tubelet)
        prediction = self.predict(params, clips, ids.visible_BxV, ids.masked_BxM).astype(jnp.float32)
        if self.normalize_target:
            mean, std = patch_statistics(take_tokens(patches, ids.masked_BxM))
            pixels = prediction.reshape(*prediction.shape[:2], -1, 3)
            prediction = (pixels * (std + TARGET_EPS) + mean).reshape(prediction.shape)
        put = jax.vmap(lambda row, ids, values: row.at[ids].set(values))
        seen = put(jnp.full_like(patches, 0.5), ids.visible_BxV, take_tokens(patches, ids.visible_BxV))
        rebuilt = put(seen, ids.masked_BxM, prediction)
        shape = (self.encoder.grid, self.encoder.tubelet)
        out = {"original": patches, "visible": seen, "reconstruction": rebuilt}
        return {name: jnp.clip(unpatchify(x, *shape), 0.0, 1.0) for name, x in out.items()}


def from_config(config: Any) -> VideoMAE:
    """VideoMAE from a recipe: `config.model` is the encoder, `config.objective` the rest. `mask`, a mask by name with its fields (perturb/masks.py), may be
    left out: tubes. `mask_ratio` is the share that it hides.
    """
    encoder = models.build(config.model)
    if not isinstance(encoder, ViT):
        raise UserError(
            f"videomae drops masked tokens, which {config.model.name} has none of: set model.name to a video transformer (vit_...)"
        )
    c = config.objective
    decoder = MAEDecoder(
        width=c.decoder.width, depth=c.decoder.depth, heads=c.decoder.heads, out=3 * math.prod(encoder.tubelet),
        positions=encoder.positions, dtype=encoder.dtype, impl=encoder.impl, unroll=encoder.unroll, remat=encoder.remat,
    )  # fmt: skip
    return VideoMAE(
        encoder=encoder,
        decoder=decoder,
        mask=recipe.build_mask(c.get("mask", {"name": "tube"}), c.mask_ratio),
        view=recipe.build_random_view(c.view, backbone_lib.pixels(encoder)),
        eval_view=recipe.build_eval_view(c.eval_view, backbone_lib.pixels(encoder)),
        normalize_target=c.normalize_target,
    )
