"""RSPNet (Chen et al. 2021, https://arxiv.org/abs/2011.07949, section 3): of two clips at two speeds, which has the speed of a third? And is it of the same
video?

A query, and the two keys that it is compared with, are clips of one video; the keys are one and the same stretch of it at both speeds, so only
the speed can tell them apart (relative speed: a margin between the two similarities). Against keys of other videos, which a queue
remembers, both are the query's own whatever their speed (appearance: InfoNCE). Keys come from a moving average of the encoder.

    Step 1) the logits, with the queue as it is: no key is a negative of its own query
    Step 2) the keys at the other speed go into the queue, in place of its oldest, as in the authors' code
    Step 3) after the optimizer's update, the moving average follows

Letters, where they are not as in batch.py: N clips of all videos.
"""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

from vssl_jax import batch as batch_lib
from vssl_jax.errors import Limit, UserError, above, at_least, between, check_limits
from vssl_jax.models import backbone as backbone_lib
from vssl_jax.models import layout
from vssl_jax.models.projection import Projections
from vssl_jax.objectives import average as average_lib
from vssl_jax.objectives import collapse, losses
from vssl_jax.objectives import queue as queue_lib
from vssl_jax.objectives.average import Average
from vssl_jax.objectives.encoder import HEAD, OnEncoder, check_sampler, refuse_random_labels, view_fields
from vssl_jax.objectives.protocol import ACCURACY, ENCODER, LOSS, STATS
from vssl_jax.objectives.queue import QUEUE
from vssl_jax.perturb import keys as keys_lib
from vssl_jax.perturb import pieces as pieces_lib
from vssl_jax.perturb.view import denormalize, unit_rgb

APPEARANCE, SPEED = "appearance", "speed"
EMA = "ema"


@dataclass(frozen=True)
class RelativeSpeed(OnEncoder):
    """Parts: "encoder", "head" (Projections of APPEARANCE and SPEED). Memory: "stats"; "ema", the encoder, head and statistics that make keys; and the
    queue's (objectives/queue.py), of `size`.

    The batch's clips are dense, `span` frames or more; query and keys begin anywhere in them. A clip counts at one speed or the other, each
    as likely. The similarities are divided by `temperature` before the margin is taken. `weights`: of appearance and of speed.
    """

    speeds: tuple[int, int] = (1, 2)
    size: int = 16_384
    temperature: float = 0.07
    margin: float = 2.0
    average: Average = field(default_factory=Average)
    weights: tuple[float, float] = (1.0, 1.0)

    def __post_init__(self):
        if len(self.speeds) != 2 or self.speeds[0] == self.speeds[1] or min(self.speeds) < 1:
            raise UserError(f"objective.speeds is {self.speeds}: it must be two different steps of 1 frame or more")
        check_limits(
            "objective",
            queue=(self.size, at_least(1)),
            temperature=(self.temperature, above(0)),
            margin=(self.margin, at_least(0)),
            weights=(self.weights, Limit("two numbers, of appearance and of speed", lambda value: len(value) == 2)),
        )

    def check_run(self, videos, steps, sampler):
        check_sampler(type(self).__name__, sampler)

    @property
    def span(self) -> int:
        return (self.frames - 1) * max(self.speeds) + 1

    def init(self, rng, batch):
        encoder_rng, head_rng, queue_rng = jax.random.split(rng, 3)
        encoder, stats, features = self.start_encoder(encoder_rng)
        head = self.head.lazy_init(head_rng, features)["params"]
        # A copy: the step gives the old state's buffers away.
        ema = jax.tree.map(jnp.copy, {ENCODER: encoder, HEAD: head, STATS: stats})
        return {ENCODER: encoder, HEAD: head}, {STATS: stats, EMA: ema} | queue_lib.start(queue_rng, self.size, self.head.dim)

    def clips(self, batch: batch_lib.Batch, rng: jax.Array) -> tuple[jax.Array, jax.Array]:
        """(query, key at its speed, key at the other: normalized [3, N, T, h, w, 3]; the query's speed, 0 or 1, int32 [N])."""
        pieces_lib.check_span(batch, self.span, f"{self.frames} frames at speed {max(self.speeds)}")
        clips, length = pieces_lib.available(batch)

        def draw(key):
            speed_key, start_key = jax.random.split(key)
            starts_2 = jax.random.randint(start_key, (2,), 0, length - self.span + 1)
            return starts_2[:, None] + jnp.arange(self.span), jax.random.randint(speed_key, (), 0, 2, jnp.int32)

        keys_BxK = keys_lib.unit_keys(keys_lib.example_keys(rng, batch, keys_lib.TASK), clips)
        frames_BxKx2xT, which_BxK = jax.vmap(jax.vmap(draw))(keys_BxK)
        view = self.view(keys_lib.example_keys(rng, batch, keys_lib.VIEW), pieces_lib.cut(batch, frames_BxKx2xT))
        query, key = jnp.moveaxis(view.reshape(-1, 2, *view.shape[2:]), 1, 0)
        which_N = which_BxK.reshape(-1)
        own, other = (jnp.asarray(self.speeds)[w][:, None] * jnp.arange(self.frames) for w in (which_N, 1 - which_N))
        take = jax.vmap(lambda clip, frames: clip[frames])
        return jnp.stack([take(query, own), take(key, own), take(key, other)]), which_N

    def _compare(self, params, memory, batch, rng, train):
        """(similarities by temperature: {speed: [N,2], appearance: [N,2], queue: [N,size]}, query's and other keys' appearance, statistics of both
        encoders, clips, the query's speed)
        """
        clips_3xN, which_N = self.clips(batch, rng)
        keys_B = keys_lib.example_keys(rng, batch, keys_lib.DROPOUT)
        keys_Nx3 = keys_lib.unit_keys(keys_lib.clip_keys(keys_B, len(which_N) // len(keys_B)), 3)
        features, stats = self.features(params, memory, layout.frames(clips_3xN[0]), keys_Nx3[:, 0], train)
        query = self.head.apply({"params": params[HEAD]}, features)
        ema = memory[EMA]
        both = layout.frames(clips_3xN[1:].reshape(-1, *clips_3xN.shape[2:]))
        drawn = jnp.concatenate([keys_Nx3[:, 1], keys_Nx3[:, 2]]) if train else None
        features, key_stats = backbone_lib.apply(self.encoder, ema[ENCODER], ema[STATS], both, train=train, rng=drawn, method="features")
        keys = jax.lax.stop_gradient(self.head.apply({"params": ema[HEAD]}, features))
        keys = {name: key.reshape(2, -1, key.shape[-1]) for name, key in keys.items()}  # at the query's speed, at the other
        alike = {
            name: jnp.einsum("nd,knd->nk", query[name], keys[name], precision=losses.PRECISION) / self.temperature
            for name in (APPEARANCE, SPEED)
        }
        alike[QUEUE] = losses.similarity(query[APPEARANCE], jax.lax.stop_gradient(memory[QUEUE]), self.temperature)
        return alike, query[APPEARANCE], keys[APPEARANCE][1], (stats, key_stats), (clips_3xN, which_N)

    def _judge(self, alike, query_NxD, batch) -> tuple[jax.Array, dict[str, jax.Array]]:
        """(the loss, the metrics)."""
        weight_N = jnp.repeat(batch[batch_lib.WEIGHT], len(query_NxD) // batch[batch_lib.WEIGHT].shape[0])
        mean = lambda x: losses.mean(x, weight_N)  # noqa: E731
        best_N, keys = jnp.max(alike[QUEUE], axis=1), alike[APPEARANCE].T  # each key by itself against the queue
        entropy = sum(mean(losses.info_nce(own_N, alike[QUEUE])) for own_N in keys)
        right = sum(mean((own_N > best_N).astype(jnp.float32)) for own_N in keys) / 2
        same_N, other_N = alike[SPEED].T
        ranking = mean(losses.margin_ranking(same_N, other_N, self.margin))
        metrics = {
            f"{APPEARANCE}/{LOSS}": entropy, f"{APPEARANCE}/{ACCURACY}": right,
            f"{SPEED}/{LOSS}": ranking, f"{SPEED}/{ACCURACY}": mean((same_N > other_N).astype(jnp.float32)),
        }  # fmt: skip
        return self.weights[0] * entropy + self.weights[1] * ranking, metrics | collapse.monitor(query_NxD, weight_N)

    def loss(self, params, memory, batch, rng, turn):
        alike, query, keys_NxD, (stats, key_stats), _ = self._compare(params, memory, batch, rng, train=True)
        loss, metrics = self._judge(alike, query, batch)
        return loss, (memory | queue_lib.push(memory, keys_NxD) | {STATS: stats, EMA: memory[EMA] | {STATS: key_stats}}, metrics)

    def adopt(self, params, memory):
        return memory | {EMA: average_lib.copied(memory[EMA], params, memory)}

    def after_update(self, params, memory, step):
        ema = memory[EMA]
        return memory | {EMA: ema | self.average.follow({part: ema[part] for part in params}, params, step)}

    def held_out(self, params, memory, batch, rng):
        alike, query, *_ = self._compare(params, memory, batch, rng, train=False)
        loss, metrics = self._judge(alike, query, batch)
        return {LOSS: loss} | metrics

    def pictures(self, params, memory, batch, rng):
        """The dense clip; the query and both keys of a video's first clip; the query's speed, and that of the key that is more like it."""
        alike, *_, (clips_3xN, which_N) = self._compare(params, memory, batch, rng, train=False)
        first = slice(None, None, len(which_N) // batch[batch_lib.WEIGHT].shape[0])
        shown = denormalize(clips_3xN[:, first], self.view.mean, self.view.std)
        nearest_N = jnp.where(alike[SPEED][:, 0] > alike[SPEED][:, 1], which_N, 1 - which_N)
        return {
            "clip": unit_rgb(batch)[:, 0], "query": shown[0], "same_speed": shown[1], "other_speed": shown[2],
            "label": which_N[first, None], "prediction": nearest_N[first, None],
        }  # fmt: skip

    def caption(self, label, prediction):
        return f"Query at speed {self.speeds[label[0]]}, more like the key at speed {self.speeds[prediction[0]]}"

    def flops(self, clips):
        """A query forward and backward, two keys forward."""
        query = super().flops(clips)
        return None if query is None else query * 5 / 3


def from_config(config: Any) -> RelativeSpeed:
    """RSPNet from a recipe: `objective.speeds`, `queue` (its length), `dim`, `temperature`, `margin`, `decay`, `weights`, and what a method
    on one encoder that sees one view has (objectives/encoder.py).
    """
    refuse_random_labels(config)
    c = config["objective"]
    check_limits("objective", decay=(c["decay"], between(0, 1)))  # of an average that has no group of its own here
    own = {name: c[name] for name in ("temperature", "margin")} | {"average": Average(c["decay"])}
    head = Projections((APPEARANCE, SPEED), c["dim"])
    return RelativeSpeed(head=head, speeds=tuple(c["speeds"]), size=c["queue"], weights=tuple(c["weights"]), **own, **view_fields(config))
