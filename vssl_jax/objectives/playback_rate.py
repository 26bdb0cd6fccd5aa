"""PRP (Yao et al. 2020, https://arxiv.org/abs/2006.11476, section 3): at which rate is a clip sampled, and how does it look at twice that rate?

The encoder gets every s-th frame. One head tells s, a decoder builds twice as many frames over the same time, those between the given ones among
them. At s = 1 there are none between: they are not asked for. Errors count more where the picture moves.
"""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vssl_jax import batch as batch_lib
from vssl_jax.errors import Limit, UserError, at_least, check_limits
from vssl_jax.models import flops as flops_lib
from vssl_jax.models.clip_decoder import ClipDecoder
from vssl_jax.models.piece_heads import ConcatHead
from vssl_jax.objectives.pretext import Pretext, Question, shared_fields
from vssl_jax.objectives.protocol import LOSS, STATS
from vssl_jax.perturb import keys as keys_lib
from vssl_jax.perturb import pieces as pieces_lib
from vssl_jax.perturb.view import denormalize, pair


def _windows(side: int) -> np.ndarray:
    """[13, side]: means over windows of a quarter of the side, a sixteenth apart."""
    first = np.arange(13)[:, None] * side // 16
    inside = (np.arange(side) >= first) & (np.arange(side) < first + max(side // 4, 1))
    return (inside / inside.sum(1, keepdims=True)).astype(np.float32)


def _between(side: int) -> np.ndarray:
    """[side, 13]: each pixel's shares in the two windows whose middles are nearest to it."""
    nearest = np.clip((np.arange(side)[:, None] + 0.5) / side * 16 - 2, 0, 12)
    return np.maximum(1 - np.abs(nearest - np.arange(13)), 0).astype(np.float32)


def motion_weights(given_TxHxWx3: jax.Array, low: float, high: float) -> jax.Array:
    """How much each pixel of the 2 T frames counts, float32 [2 T, H, W]: from `low` in the patch that changes least from one given frame to the next
    to `high` in the patch that changes most, linear between them and between patches; two frames each have the weights of one change, the
    last four of the last. All `low` where nothing changes.
    """
    frames, height, width, _ = given_TxHxWx3.shape
    change_TxHxW = jnp.mean(jnp.square(jnp.diff(given_TxHxWx3, axis=0)), axis=-1)

    def both_ways(down, x, across):
        return jnp.einsum("yY,tYX,xX->tyx", down, x, across, precision=jax.lax.Precision.HIGHEST)

    patches = both_ways(_windows(height), change_TxHxW, _windows(width))
    least, most = (pick(patches, axis=(1, 2), keepdims=True) for pick in (jnp.min, jnp.max))
    share = (patches - least) / jnp.where(most > least, most - least, 1.0)
    weights = low + (high - low) * both_ways(_between(height), share, _between(width))
    return weights[jnp.minimum(jnp.arange(2 * frames) // 2, frames - 2)]


def weighted_error(built_QxTxHxWx3: jax.Array, target_QxTxHxWx3: jax.Array, weights_QxTxHxW: jax.Array, counts_QxT: jax.Array) -> jax.Array:
    """The mean of weight x squared error over the frames that count (1, others 0)."""
    errors_QxT = jnp.mean(weights_QxTxHxW[..., None] * jnp.square(built_QxTxHxWx3 - target_QxTxHxWx3), axis=(2, 3, 4))
    return jnp.sum(errors_QxT * counts_QxT) / jnp.maximum(jnp.sum(counts_QxT), 1.0)


@dataclass(frozen=True)
class PlaybackRate(Pretext):
    """Parts: "encoder", "head", "decoder". The batch's clips are dense, `span` frames or more. The decoder builds RGB in [0, 1], 2 x `frames` of them.

    The loss is `classification` times the cross-entropy and `reconstruction` times the error, whose weights go from emphasis[0] to
    emphasis[1].
    """

    decoder: ClipDecoder = field(default_factory=lambda: ClipDecoder(32, (112, 112)))
    rates: tuple[int, ...] = (1, 2, 4, 8)
    classification: float = 0.1
    reconstruction: float = 1.0
    emphasis: tuple[float, float] = (0.8, 2.0)

    def __post_init__(self):
        different = Limit("two or more different rates of 1 or more", lambda value: len(set(value)) == len(value) >= 2 and min(value) >= 1)
        check_limits("objective", rates=(self.rates, different))
        check_limits("model", frames=(self.frames, at_least(2)))
        if len(self.emphasis) != 2 or not 0 <= self.emphasis[0] <= self.emphasis[1]:
            raise UserError(f"objective.emphasis is {self.emphasis}: it must be (low, high), the weights of what moves least and most")

    @property
    def span(self) -> int:
        return (2 * self.frames - 1) * max(self.rates) // 2 + 1

    def own_parts(self, rng, features):
        return {"decoder": self.decoder.lazy_init(jax.random.fold_in(rng, 2), features.map_BxTxHxWxD)["params"]}

    def _clips(self, batch, rng) -> tuple[jax.Array, jax.Array, jax.Array]:
        """(clips at twice their rate, normalized, [Q, 2 T, h, w, 3]; which of their frames there are, bool [Q, 2 T]; the rates' classes, int32 [Q]).
        What is not there has the frame before it.
        """
        pieces_lib.check_span(batch, self.span, f"{2 * self.frames} frames at half of rate {max(self.rates)}")
        clips, length = pieces_lib.available(batch)

        def draw(key):
            rate_key, start_key = jax.random.split(key)
            which = jax.random.randint(rate_key, (), 0, len(self.rates), jnp.int32)
            halves = jnp.arange(2 * self.frames, dtype=jnp.int32) * jnp.asarray(self.rates, jnp.int32)[which]
            start = jax.random.randint(start_key, (), 0, length - halves[-1] // 2)
            return start + halves // 2, halves % 2 == 0, which

        keys_BxK = keys_lib.unit_keys(keys_lib.example_keys(rng, batch, keys_lib.SPEED), clips)
        frames_BxKxT, real_BxKxT, which_BxK = jax.vmap(jax.vmap(draw))(keys_BxK)
        view = self.view(keys_lib.example_keys(rng, batch, keys_lib.VIEW), pieces_lib.cut(batch, frames_BxKxT[:, :, None]))
        return view.reshape(-1, *view.shape[2:]), real_BxKxT.reshape(-1, 2 * self.frames), which_BxK.reshape(-1)

    def ask(self, memory, batch, rng):
        clips, _, which_Q = self._clips(batch, rng)
        return Question(clips[:, None, ::2], which_Q[:, None])

    def _build(self, params, features) -> jax.Array:
        return self.decoder.apply({"params": params["decoder"]}, features.map_BxTxHxWxD[:, 0])

    def compare(self, params, memory, batch, rng, train):
        clips, real_QxT, which_Q = self._clips(batch, rng)
        asked = self.relabel(Question(clips[:, None, ::2], which_Q[:, None]), batch, rng)
        logits, features, stats = self._read(params, memory, asked, keys_lib.example_keys(rng, batch, keys_lib.DROPOUT), train)
        told, metrics = self._judge(logits, asked, batch)
        target = denormalize(clips, self.view.mean, self.view.std)
        weights = jax.vmap(lambda given: motion_weights(given, *self.emphasis))(target[:, ::2])
        counts_QxT = jnp.repeat(batch[batch_lib.WEIGHT], len(which_Q) // batch[batch_lib.WEIGHT].shape[0])[:, None] * real_QxT
        built = weighted_error(self._build(params, features), target, weights, counts_QxT)
        metrics |= {f"classification/{LOSS}": told, f"reconstruction/{LOSS}": built}
        return self.classification * told + self.reconstruction * built, metrics, memory | {STATS: stats}

    def pictures(self, params, memory, batch, rng):
        """And each video's first clip at twice its rate, with gray for frames that there are not, beside what the decoder builds."""
        clips, real_QxT, which_Q = self._clips(batch, rng)
        keys_B = keys_lib.example_keys(rng, batch, keys_lib.DROPOUT)
        _, features, _ = self._read(params, memory, Question(clips[:, None, ::2], which_Q[:, None]), keys_B, train=False)
        first = slice(None, None, len(which_Q) // batch[batch_lib.WEIGHT].shape[0])
        target = jnp.where(real_QxT[..., None, None, None], denormalize(clips, self.view.mean, self.view.std), 0.5)
        built = jnp.clip(self._build(params, features), 0, 1)
        return super().pictures(params, memory, batch, rng) | {"target": target[first], "built": built[first]}

    def caption(self, label, prediction):
        return f"Rate {self.rates[label[0]]}, said {self.rates[prediction[0]]}"

    def flops(self, clips):
        """With the decoder, which is as much as an encoder of ten layers."""
        encoder = super().flops(clips)
        shape = jax.eval_shape(self.start_encoder, jax.random.key(0))[2].map_BxTxHxWxD.shape
        return None if encoder is None else encoder + 3.0 * clips * flops_lib.traced(self.decoder, shape)


def from_config(config: Any) -> PlaybackRate:
    """Playback rate from a recipe: `objective.rates`, `classification`, `reconstruction`, `emphasis`, `widths` of the decoder, and what every task
    has.
    """
    c, fields = config["objective"], shared_fields(config)
    rates, encoder = tuple(c["rates"]), fields["encoder"]
    size = pair(fields["view"].size)
    decoder = ClipDecoder(2 * fields["frames"], size, tuple(c["widths"]), encoder.dtype)
    return PlaybackRate(
        head=ConcatHead(len(rates)), classes=(len(rates),), decoder=decoder, rates=rates, classification=c["classification"],
        reconstruction=c["reconstruction"], emphasis=tuple(c["emphasis"]), **fields,
    )  # fmt: skip
