"""Joint embedding: views of a video become vectors, and a loss says which of them should be alike.

The one idea: contrastive methods, their clustering and their self-distillation kin are the same up to a vector for every view of every video,
[B, V, D]. `vectors` goes that far, for the network that trains and, in `Taught`, for its moving average; what a method adds is `compare`.

`chunk` makes batches possible whose activations do not fit: vectors are made of so many clips at a time, and made again for the backward pass
(gradient caching, Gao et al. 2021, https://arxiv.org/abs/2101.06983, as recomputation). The loss is of the whole batch, and so is its gradient:
train.grad_accumulation, which cuts the batch before the loss, takes negatives away. Batch normalization is then over a chunk.

Letters, where they are not as in batch.py: V views of a video, A of them that ask and G that give, N clips that go through the network together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from vssl_jax import batch as batch_lib
from vssl_jax.errors import UserError
from vssl_jax.models import backbone as backbone_lib
from vssl_jax.models import layout, projection
from vssl_jax.models.backbone import Features
from vssl_jax.models.projection import MLP
from vssl_jax.objectives import average as average_lib
from vssl_jax.objectives.average import Average
from vssl_jax.objectives.encoder import HEAD, Compared, encoder_fields, refuse_random_labels
from vssl_jax.objectives.protocol import ENCODER, STATS, Memory, Parts
from vssl_jax.perturb import keys as keys_lib
from vssl_jax.perturb import recipe
from vssl_jax.perturb.clip_view import ClipView, Pairing
from vssl_jax.perturb.view import denormalize, pair, unit_rgb

HEAD_STATS, EMA = "head_stats", "average"
PREDICTOR, PREDICTOR_STATS = "predictor", "predictor_stats"
NETWORK, RUNNING = (ENCODER, HEAD), (STATS, HEAD_STATS)

Seen = list[jax.Array]  # views, each normalized [B, T, h, w, 3]


@dataclass(frozen=True)
class JointEmbedding(Compared):
    """Parts: "encoder", "head" (models/projection.py: pooled features -> vectors), and what the method adds. Memory: "stats" and "head_stats",
    their batch statistics. `view` is the first of `views`. `pairing`, of two views: what they have in common. `chunk` 0: all clips at once.
    """

    least_views: ClassVar[int] = 2  # a method that compares a view with what it remembers has 1

    views: tuple[ClipView, ...]
    chunk: int = 0
    pairing: Pairing | None = None

    def __post_init__(self):
        if self.pairing and len(self.views) != 2:
            raise UserError(f"objective.pairing is of two views, objective.views has {len(self.views)}")
        if len(self.views) < self.least_views:
            raise UserError(f"objective.views has {len(self.views)}: {type(self).__name__} needs {self.least_views} or more")
        if not (self.head.unit_length or getattr(self, PREDICTOR, None)):
            raise UserError(
                "objective.head.unit_length is false, and no predictor reads its vectors: what is compared must be of unit length, set it to true"
            )

    def init(self, rng, batch):
        encoder_rng, head_rng = jax.random.split(rng)
        encoder, stats, features = self.start_encoder(encoder_rng)
        head, head_stats = projection.start(self.head, head_rng, features.pooled_BxD.shape[-1])
        return {ENCODER: encoder, HEAD: head}, {STATS: stats, HEAD_STATS: head_stats}

    def see(self, batch: batch_lib.Batch, rng: jax.Array) -> Seen:
        keys_BxV = keys_lib.unit_keys(keys_lib.example_keys(rng, batch, keys_lib.VIEW), len(self.views) + 1)
        if not self.pairing:
            return [view(keys_BxV[:, v], batch) for v, view in enumerate(self.views)]
        clip_Bx2, colored_Bx2 = self.pairing.draw(keys_BxV[:, -1], self.views)
        return [view(keys_BxV[:, v], batch, clip_Bx2[:, v], colored_Bx2[:, v]) for v, view in enumerate(self.views)]

    def project(self, net: Parts, features: Features, running: Memory, train: bool) -> tuple[jax.Array, Memory]:
        """What is compared of a clip's features, [N, ...], and the head's new statistics."""
        z, stats = projection.apply(self.head, net[HEAD], running[HEAD_STATS], features.pooled_BxD, train)
        return z, {HEAD_STATS: stats}

    def vectors(self, net: Parts, running: Memory, seen: Seen, keys_B: jax.Array, train: bool) -> tuple[jax.Array, Memory]:
        """(vectors [B, V, D] of the views, the new statistics). `keys_B`: a key per video, for what draws in training."""
        made, running = [], {name: running[name] for name in RUNNING}
        for shape in dict.fromkeys(x.shape for x in seen):  # views of one size go through the network together
            which = [v for v, x in enumerate(seen) if x.shape == shape]
            clips = jnp.stack([seen[v] for v in which], axis=1)  # the views of a video stand together, on its device
            keys_N = keys_lib.unit_keys(keys_B, len(seen))[:, jnp.array(which)].reshape(-1, *keys_B.shape[1:])
            z, running = self._in_chunks(net, running, layout.frames(clips.reshape(-1, *shape[1:])), keys_N, train)
            z = z.reshape(*clips.shape[:2], *z.shape[1:])
            made += [(v, z[:, i]) for i, v in enumerate(which)]
        return jnp.stack([z for _, z in sorted(made, key=lambda pair: pair[0])], axis=1), running

    def _in_chunks(self, net, running, clips_NxTxHxWx3, keys_N, train):
        def one(running, given):
            clips, keys = given
            features, stats = backbone_lib.apply(
                self.encoder, net[ENCODER], running[STATS], clips, train=train, rng=keys if train else None, method="features"
            )
            z, own = self.project(net, features, running, train)
            return {STATS: stats, **own}, z

        rows = len(clips_NxTxHxWx3)
        if not self.chunk or rows <= self.chunk:
            running, z = one(running, (clips_NxTxHxWx3, keys_N))
            return z, running
        if rows % self.chunk:
            raise UserError(
                f"objective.chunk is {self.chunk}, which does not divide the {rows} clips of a batch: change it, or train.batch_size"
            )
        count = rows // self.chunk
        # Chunk c has rows c, c + count, ...: every device splits its own.
        cut = lambda x: jnp.swapaxes(x.reshape(-1, count, *x.shape[1:]), 0, 1)  # noqa: E731
        running, z = jax.lax.scan(jax.checkpoint(one, prevent_cse=False), running, (cut(clips_NxTxHxWx3), cut(keys_N)))
        return jnp.swapaxes(z, 0, 1).reshape(rows, *z.shape[2:]), running

    def look(self, params: Parts, memory: Memory, batch: batch_lib.Batch, rng: jax.Array, train: bool) -> tuple[jax.Array, Memory]:
        """Vectors [B, V, D] of all views by the network that trains, and its new statistics."""
        return self.vectors(params, memory, self.see(batch, rng), keys_lib.example_keys(rng, batch, keys_lib.DROPOUT), train)

    def pictures(self, params, memory, batch, rng):
        """The clip as it came, and every view of it."""
        shown = [denormalize(seen, self.view.mean, self.view.std) for seen in self.see(batch, rng)]
        return {"clip": unit_rgb(batch)[:, 0]} | {f"view {v + 1}": jnp.clip(view, 0, 1) for v, view in enumerate(shown)}

    @property
    def passes(self) -> float:
        """Of a video through the network, a forward one counted as 1 and one with its backward as 3."""
        return 3.0 * len(self.views)

    def flops(self, clips):
        """Without the head. None where a view has another size than the encoder's own."""
        sizes = {(view.frames, *pair(view.view.size)) for view in self.views}
        one = super().flops(1)
        if one is None or sizes != {(self.encoder.frames, *pair(self.encoder.size))}:
            return None
        videos = clips / (1 + max(view.clip for view in self.views))
        return one / 3 * self.passes * videos


@dataclass(frozen=True)
class Taught(JointEmbedding):
    """Parts besides: "predictor", where there is one. Memory besides: its statistics, and "average", the moving average of encoder, head and their
    statistics, which makes what the network is compared with. In training its batch normalization is the batch's, like the network's.
    """

    average: Average = field(default_factory=Average)
    predictor: MLP | None = None

    def __post_init__(self):
        super().__post_init__()
        if self.predictor:
            projection.check_predictor(self.predictor, self.head)

    def init(self, rng, batch):
        base_rng, own_rng = jax.random.split(rng)
        params, memory = super().init(base_rng, batch)
        # A copy: the step gives the old state's buffers away.
        memory[EMA] = jax.tree.map(jnp.copy, {part: params[part] for part in NETWORK} | {name: memory[name] for name in RUNNING})
        if self.predictor:
            params[PREDICTOR], memory[PREDICTOR_STATS] = projection.start(self.predictor, own_rng, self.head.dim)
        return params, memory

    def exchange(
        self,
        params: Parts,
        memory: Memory,
        batch: batch_lib.Batch,
        rng: jax.Array,
        train: bool,
        asking: Sequence[int],
        giving: Sequence[int],
    ) -> tuple[jax.Array, jax.Array, jax.Array, Memory]:
        """(unit vectors [B, A, D] of the views `asking` by the network, what the predictor makes of the head's output, unit vectors [B, G, D] of the
        views `giving` by the average, which no gradient passes, and the new memory).
        """
        seen, drawn = self.see(batch, rng), keys_lib.example_keys(rng, batch, keys_lib.DROPOUT)
        # Other draws than the network's.
        given_BxGxD, average = self.vectors(memory[EMA], memory[EMA], [seen[v] for v in giving], keys_lib.unit_keys(drawn, 1)[:, 0], train)
        asked_BxAxD, running = self.vectors(params, memory, [seen[v] for v in asking], drawn, train)
        said_BxAxD, memory = asked_BxAxD, memory | running | {EMA: memory[EMA] | average}
        if self.predictor:
            flat = asked_BxAxD.reshape(-1, asked_BxAxD.shape[-1])
            said, stats = projection.apply(self.predictor, params[PREDICTOR], memory[PREDICTOR_STATS], flat, train)
            said_BxAxD, memory = said.reshape(*asked_BxAxD.shape[:2], -1), memory | {PREDICTOR_STATS: stats}
            asked_BxAxD, given_BxGxD = projection.unit(asked_BxAxD), projection.unit(given_BxGxD)
        return asked_BxAxD, said_BxAxD, jax.lax.stop_gradient(given_BxGxD), memory

    def adopt(self, params, memory):
        return memory | {EMA: average_lib.copied(memory[EMA], params, memory)}

    def after_update(self, params, memory, step):
        average = memory[EMA]
        moved = self.average.follow({part: average[part] for part in NETWORK}, {part: params[part] for part in NETWORK}, step)
        return memory | {EMA: average | moved}


def shared_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that every method takes from a recipe: `config.model` is the encoder; `objective.views` (see `build_views`), `eval_view`, `head`
    (models/projection.py), `chunk`, and `pairing` (perturb/clip_view.py; empty or left out: none).
    """
    refuse_random_labels(config)
    c, fields = config["objective"], encoder_fields(config)
    views = build_views(c["views"], fields["encoder"])
    return fields | {
        "frames": views[0].frames,
        "head": projection.build(c["head"]),
        "views": views,
        "view": views[0].view,
        "chunk": c["chunk"],
        "pairing": recipe.build_pairing(c["pairing"]) if c.get("pairing") else None,
    }


def taught_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """And those of methods with a moving average: `objective.average`, and `predictor` (empty or left out: none)."""
    c = config["objective"]
    predictor = projection.build(c["predictor"]) if c.get("predictor") else None
    return shared_fields(config) | {"average": average_lib.build(c["average"], config["train"]["steps"]), "predictor": predictor}


def build_views(config: Sequence[Mapping[str, Any]], encoder: Any) -> tuple[ClipView, ...]:
    """Views as recipes write them: {"clip": 0, "frames": 8, "stride": 1, "first": 0, "size": 96, "repeat": 2} and the entries of a view (perturb/recipe.py).

    Left out: `clip` is the first, `frames` and `size` are the encoder's, `first` 0, `repeat` 1 (how many such views there are).
    """
    own, made = ("clip", "frames", "stride", "first"), []
    for entry in config:
        entry = dict(entry)
        fields = {name: entry.pop(name) for name in own if name in entry}
        pixels, repeat = backbone_lib.pixels(encoder), entry.pop("repeat", 1)
        if "size" in entry:
            pixels = pixels._replace(size=entry.pop("size"))
        view = ClipView(recipe.build_random_view(entry, pixels), **{"frames": encoder.frames} | fields)
        made += [view] * repeat
    if not made:
        raise UserError("objective.views is empty: name the views that a video is seen in")
    return tuple(made)
