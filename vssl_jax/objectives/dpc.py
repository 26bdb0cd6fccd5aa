"""Dense predictive coding: what will be where? Of all places of all blocks of all videos, which is the one that comes next here?

DPC (Han et al. 2019, https://arxiv.org/abs/1909.04656) and, where the head has a memory, MemDPC (Han et al. 2020, https://arxiv.org/abs/2008.01065).

    Step 1) a dense clip is cut into blocks, one after the other; the encoder sees each by itself, and its map's mean over time is the block's
    Step 2) from the maps of the first blocks those of the last are predicted, place by place (models/predictive.py)
    Step 3) cross-entropy: a prediction's dot product with its target, among those with every place of every predicted block of the whole batch;
            neither normalized nor divided by a temperature. MemDPC: the sum of forward and backward in time

So other places of the block are negatives, other times of the place, and other videos. Each has its accuracy, for they are learned one after the other (by
the authors videos first, times last; a network whose convolutions are padded with zeros knows the place of everything, and may have places first):

    accuracy            against all of them
    spatial/accuracy    against the other places of the same block
    temporal/accuracy   against the same place of the clip's other predicted blocks
    video/accuracy      against all other clips of the batch

No gradient is stopped: as in the authors' code the targets learn as well, and only the negatives keep them from being all one.
The batch is the global one, cut into micro-batches by train.grad_accumulation, which so takes negatives away.

Letters as in models/predictive.py, but N in `contrast`: the places of all predicted blocks.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from vssl_jax import batch as batch_lib
from vssl_jax.errors import Limit, at_least, check_limits
from vssl_jax.models import flops as flops_lib
from vssl_jax.models import layout
from vssl_jax.models.predictive import FORWARD, Predicted, Predictive, Told
from vssl_jax.objectives import collapse, losses
from vssl_jax.objectives.encoder import HEAD, Compared, refuse_random_labels, view_fields
from vssl_jax.objectives.protocol import ACCURACY, ENCODER, LOSS, STATS, Memory, Parts, Tree
from vssl_jax.perturb import keys as keys_lib
from vssl_jax.perturb import pieces as pieces_lib
from vssl_jax.perturb.view import denormalize, unit_rgb

SPATIAL, TEMPORAL, VIDEO = "spatial", "temporal", "video"


@dataclass(frozen=True)
class DPC(Compared):
    """Parts: "encoder", "head" (a `Predictive`). Memory: "stats".

    `blocks` of `frames` frames each; the batch's clips are dense, `span` frames or more, and the blocks begin anywhere in them. Crop and flip are
    drawn once for all blocks of a clip: a place of a map is the same place in all of them. Each clip of a video counts as a video, a row of B here.
    """

    blocks: int = 8

    def __post_init__(self):
        predicted = self.head.predicted
        more = Limit(f"above objective.predicted={predicted}, one at least is seen", lambda value: value > predicted)
        check_limits("objective", frames=(self.frames, at_least(1)), blocks=(self.blocks, more))

    @property
    def span(self) -> int:
        return self.blocks * self.frames

    def init(self, rng, batch):
        encoder_rng, head_rng = jax.random.split(rng)
        encoder, stats, features = self.start_encoder(encoder_rng)
        return {ENCODER: encoder, HEAD: self.head.lazy_init(head_rng, self._maps(features))["params"]}, {STATS: stats}

    def _maps(self, features) -> jax.ShapeDtypeStruct:
        """What the head gets of one clip, as a shape."""
        return jax.ShapeDtypeStruct((1, self.blocks, *features.map_BxTxHxWxD.shape[2:]), jnp.float32)

    def see(self, batch: batch_lib.Batch, rng: jax.Array) -> jax.Array:
        """The blocks of all clips, normalized [B*K, blocks, frames, h, w, 3]."""
        pieces_lib.check_span(batch, self.span, f"{self.blocks} blocks of {self.frames} frames")
        clips, length = pieces_lib.available(batch)
        if self.span < length:
            keys_BxK = keys_lib.unit_keys(keys_lib.example_keys(rng, batch, keys_lib.TASK), clips)
            starts_BxK = jax.vmap(jax.vmap(lambda key: pieces_lib.start(key, length - self.span + 1, None, self.span)))(keys_BxK)
            batch = pieces_lib.cut(batch, (starts_BxK[..., None] + jnp.arange(self.span))[:, :, None])
        view = self.view(keys_lib.example_keys(rng, batch, keys_lib.VIEW), batch)
        return view.reshape(-1, self.blocks, self.frames, *view.shape[3:])

    def predict(
        self, params: Parts, memory: Memory, batch: batch_lib.Batch, rng: jax.Array, train: bool
    ) -> tuple[Predicted, Tree, jax.Array]:
        """(targets and predictions of all clips, the new statistics, the blocks that were seen)."""
        seen = self.see(batch, rng)
        keys_B = keys_lib.example_keys(rng, batch, keys_lib.DROPOUT)
        keys_BxU = keys_lib.unit_keys(keys_lib.clip_keys(keys_B, len(seen) // len(keys_B)), self.blocks + 1)
        drawn = keys_BxU[:, 1:].reshape(-1, *keys_BxU.shape[2:])
        features, stats = self.features(params, memory, layout.frames(seen.reshape(-1, *seen.shape[2:])), drawn, train)
        maps = jnp.mean(features.map_BxTxHxWxD, axis=1, dtype=jnp.float32)
        made = self.head.apply({"params": params[HEAD]}, maps.reshape(-1, self.blocks, *maps.shape[1:]), train, keys_BxU[:, 0])
        return made, stats, seen

    def compare(self, params, memory, batch, rng, train):
        made, stats, _ = self.predict(params, memory, batch, rng, train)
        weight_B = jnp.repeat(batch[batch_lib.WEIGHT], len(made.target_BxNxHxWxD) // len(batch[batch_lib.WEIGHT]))
        judged = {direction: contrast(told, weight_B) for direction, told in made.told.items()}
        loss, metrics = sum(own for own, _ in judged.values()), {}
        for name in judged[FORWARD][1]:
            metrics[name] = sum(own[name] for _, own in judged.values()) / len(judged)
        if len(judged) > 1:
            metrics |= {f"{direction}/{LOSS}": own for direction, (own, _) in judged.items()}
        pooled_BxD = jnp.mean(made.target_BxNxHxWxD[:, -1], axis=(1, 2))  # one block of each: those of a clip are alike
        return loss, metrics | collapse.monitor(apart(pooled_BxD, weight_B), weight_B), memory | {STATS: stats}

    def pictures(self, params, memory, batch, rng):
        """The clip as it came, and what was seen of it; where the middle of the first predicted block is, and where in its clip the prediction is most
        like: (block, row, column), counted from 0.
        """
        made, _, seen = self.predict(params, memory, batch, rng, train=False)
        first = slice(None, None, len(seen) // len(batch[batch_lib.WEIGHT]))
        said, target = (x[first] for x in made.told[FORWARD])
        _, steps, rows, columns, _ = said.shape
        scores = jnp.einsum("bd,bphwd->bphw", said[:, 0, rows // 2, columns // 2], target)
        best = jnp.unravel_index(jnp.argmax(scores.reshape(len(said), -1), axis=1), (steps, rows, columns))
        label = jnp.broadcast_to(jnp.array([self.blocks - steps, rows // 2, columns // 2], jnp.int32), (len(said), 3))
        shown = denormalize(seen[first].reshape(len(said), self.span, *seen.shape[3:]), self.view.mean, self.view.std)
        return {
            "clip": unit_rgb(batch)[:, 0], "seen": jnp.clip(shown, 0, 1), "label": label,
            "prediction": jnp.stack([best[0] + self.blocks - steps, best[1], best[2]], axis=1).astype(jnp.int32),
        }  # fmt: skip

    def caption(self, label, prediction):
        place, said = ("block {}, row {}, column {}".format(*(n + 1 for n in where)) for where in (label, prediction))
        return f"The prediction of {place} is most like {said}"

    def flops(self, clips):
        """Of encoder, head and scores; the scores grow with the square of the batch."""
        encoder = self.encoder
        if getattr(encoder, "frames", self.frames) != self.frames:
            encoder = encoder.clone(frames=self.frames)
        one = flops_lib.backbone(encoder)
        if one is None:
            return None
        maps = self._maps(jax.eval_shape(lambda: self.start_encoder(jax.random.key(0)))[2]).shape
        rows = clips * self.head.predicted * maps[2] * maps[3]
        scores = 2.0 * rows**2 * self.head.dim * len(self.head.directions)
        return 3.0 * (clips * (self.blocks * one + flops_lib.traced(self.head, maps)) + scores)


def contrast(told: Told, weight_B: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
    """(the loss, the accuracies) of predictions and targets [B, P, H, W, D]: means over the places of those of weight 1; the others are no
    negatives either. log(B P H W) where all scores are alike. An accuracy against what there is none of is left out.
    """
    clips, steps, rows, columns, width = told.said_BxPxHxWxD.shape
    places = rows * columns
    said_NxD, target_NxD = (x.reshape(-1, width) for x in told)
    scores_NxN, own_N = losses.similarity(said_NxD, target_NxD), jnp.sum(said_NxD * target_NxD, axis=1)
    weight_N = jnp.repeat(weight_B, steps * places)
    clip_N, step_N, place_N = jnp.unravel_index(jnp.arange(len(own_N)), (clips, steps, places))
    same_clip, same_step, same_place = (x[:, None] == x[None, :] for x in (clip_N, step_N, place_N))
    counted = (weight_N > 0)[None, :]
    others = counted & ~(same_clip & same_step & same_place)
    against = {
        "": others,
        f"{SPATIAL}/": same_clip & same_step & ~same_place if places > 1 else None,
        f"{TEMPORAL}/": same_clip & ~same_step & same_place if steps > 1 else None,
        f"{VIDEO}/": counted & ~same_clip if clips > 1 else None,
    }
    metrics = {}
    for name, which_NxN in against.items():
        if which_NxN is not None:
            best_N = jnp.max(jnp.where(which_NxN, jax.lax.stop_gradient(scores_NxN), -jnp.inf), axis=1)
            metrics[name + ACCURACY] = losses.mean((own_N > best_N).astype(jnp.float32), weight_N)
    return losses.mean(losses.info_nce(own_N, scores_NxN, others), weight_N), metrics


def apart(x_BxD: jax.Array, weight_B: jax.Array) -> jax.Array:
    """Unit vectors from the mean of the rows that count to each; shorter where it is less than a hundredth of the row's length away.

    A vector that is added to all targets changes no loss, so targets have a large one in common, which the monitor of collapse would take for one.
    """
    away_BxD = x_BxD - weight_B @ x_BxD / jnp.maximum(jnp.sum(weight_B), 1.0)
    length = lambda x: jnp.sqrt(jnp.sum(jnp.square(x), axis=1, keepdims=True))  # noqa: E731
    return away_BxD / jnp.maximum(jnp.maximum(length(away_BxD), 0.01 * length(x_BxD)), 1e-6)


def from_config(config: Any) -> DPC:
    """`objective.blocks`, `frames` of a block (0: the encoder's), `predicted`, `dim`, `memory_rows` (0: DPC, else MemDPC), `dropout`, and what
    a method on one encoder that sees one view has (objectives/encoder.py).
    """
    refuse_random_labels(config)
    c, shared = config["objective"], view_fields(config)
    head = Predictive(**{name: c[name] for name in ("dim", "predicted", "memory_rows", "dropout")})
    if c["frames"]:
        shared["frames"] = c["frames"]
    return DPC(head=head, blocks=c["blocks"], **shared)
