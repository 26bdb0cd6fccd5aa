"""The same computation as tests/interop/make_golden.py's `reference`, by this code, with gradients under Hugging Face's names."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vssl_jax import models
from vssl_jax.interop import videomae
from vssl_jax.models import backbone
from vssl_jax.models.heads import FcNormHead
from vssl_jax.models.mae_decoder import MAEDecoder
from vssl_jax.models.vit import patchify, take_tokens
from vssl_jax.objectives.losses import cross_entropy
from vssl_jax.objectives.videomae import pixel_target

IMAGENET_MEAN, IMAGENET_STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])


def pretraining(parts: Any, meta: dict[str, Any], pixels: np.ndarray, mask: np.ndarray) -> tuple[jax.Array, jax.Array]:
    """(loss, logits [B,M,P]) of VideoMAE for a mask [B,N]."""
    model, decoder = models.build(meta["model"]), MAEDecoder(**meta["decoder"])
    visible, masked = (np.stack([np.flatnonzero(row) for row in rows]) for rows in (~mask, mask))
    tokens, _ = backbone.apply(model, parts["encoder"], {}, pixels, train=True, visible_BxV=visible)
    logits = decoder.apply({"params": parts["decoder"]}, tokens, visible, masked, model.grid)
    target = pixel_target(take_tokens(patchify(pixels * IMAGENET_STD + IMAGENET_MEAN, model.tubelet), masked))
    return jnp.mean((logits - target) ** 2), logits


def classification(parts: Any, meta: dict[str, Any], pixels: np.ndarray, labels: np.ndarray) -> tuple[jax.Array, jax.Array]:
    """(loss, logits [B,C])."""
    features, _ = backbone.apply(models.build(meta["model"]), parts["encoder"], {}, pixels, train=True, method="features")
    logits = FcNormHead(meta["classes"]).apply({"params": parts["head"]}, features)
    return jnp.mean(cross_entropy(jax.nn.one_hot(labels, meta["classes"]), logits)), logits


def run(state: dict[str, np.ndarray], config: dict[str, Any], pixels: np.ndarray, target: np.ndarray):
    """(loss, logits, gradients by Hugging Face's names)."""
    parts, meta = videomae.from_huggingface(state, config)
    f = pretraining if "decoder" in meta else classification
    (loss, logits), grads = jax.jit(jax.value_and_grad(lambda p: f(p, meta, pixels, target), has_aux=True))(parts)
    grads, _ = videomae.to_huggingface(jax.tree.map(np.asarray, grads), meta)
    return float(loss), np.asarray(logits), grads
