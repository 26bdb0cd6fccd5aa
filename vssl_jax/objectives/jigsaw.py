"""Video jigsaw (Ahsan, Madhok, Essa 2019, https://arxiv.org/abs/1808.07507, section 3): which permutation are the tiles of a few frames in?

Tiles are shuffled inside their frames, and the frames among each other; the classes are a set of such permutations that are far apart
(perturb/jigsaw.py). The set and its SHA-256 are in the memory, and so in every checkpoint: a resumed run asks with the set that it began with.

A frame is `frames` consecutive ones (one, for a network of pictures), `gap` left out between two. Guards of the paper: tiles at drawn places
inside their cells, and each normalized by itself.

Letters as in pretext.py, and N clips, S segments, C permutations.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vssl_jax.errors import UserError, at_least, check_limits
from vssl_jax.models.piece_heads import ConcatHead
from vssl_jax.objectives.pretext import Pretext, Question, shared_fields
from vssl_jax.perturb import jigsaw as jigsaw_lib
from vssl_jax.perturb import keys as keys_lib
from vssl_jax.perturb import pieces as pieces_lib

SET = "permutations"


@dataclass(frozen=True)
class Jigsaw(Pretext):
    """`segments` frames of grid x grid tiles of `tile` pixels, cut out of a view of view.size."""

    segments: int = 3
    grid: int = 2
    tile: int = 64
    gap: int = 8
    permutations: int = 1000
    normalize: bool = True

    def __post_init__(self):
        check_limits("objective", segments=(self.segments, at_least(1)), grid=(self.grid, at_least(1)), gap=(self.gap, at_least(0)))
        if self.pieces < 2:
            raise UserError("objective.segments and objective.grid are 1, which leaves nothing to put in order: raise one of them")

    @property
    def pieces(self):
        return self.segments * self.grid**2

    @property
    def clip_size(self):
        return self.tile, self.tile

    @property
    def span(self) -> int:
        return self.segments * self.frames + (self.segments - 1) * self.gap

    def init(self, rng, batch):
        params, memory = super().init(rng, batch)
        orders = jigsaw_lib.far_apart(self.segments, self.grid**2, self.permutations)
        return params, memory | {SET: {"orders": jnp.asarray(orders), "sha256": jnp.asarray(jigsaw_lib.digest(orders))}}

    def ask(self, memory, batch, rng):
        pieces_lib.check_span(batch, self.span, f"{self.segments} times {self.frames} frames with gaps of {self.gap}")
        clips, length = pieces_lib.available(batch)
        orders_CxP = memory[SET]["orders"]

        def window(key):
            start = jax.random.randint(key, (), 0, length - self.span + 1)
            return start + jnp.arange(self.segments)[:, None] * (self.frames + self.gap) + jnp.arange(self.frames)

        keys_BxK = keys_lib.unit_keys(keys_lib.example_keys(rng, batch, keys_lib.TASK), clips)
        draws_BxKx3 = jax.vmap(jax.vmap(lambda key: jax.random.split(key, 3)))(keys_BxK)
        frames_BxKxSxT = jax.vmap(jax.vmap(window))(draws_BxKx3[..., 0])
        view = self.view(keys_lib.example_keys(rng, batch, keys_lib.VIEW), pieces_lib.cut(batch, frames_BxKxSxT))
        view_NxSxTxHxWx3 = view.reshape(-1, self.segments, *view.shape[2:])

        def shuffle(tile_key, order_key, view_SxTxHxWx3):
            keys_S = jax.random.split(tile_key, self.segments)
            cut = jax.vmap(lambda key, clip: jigsaw_lib.tiles(key, clip, self.grid, self.tile))(keys_S, view_SxTxHxWx3)
            pieces_PxTxHxWx3 = cut.reshape(-1, *cut.shape[2:])
            if self.normalize:
                pieces_PxTxHxWx3 = jax.vmap(jigsaw_lib.normalized)(pieces_PxTxHxWx3)
            which = jax.random.randint(order_key, (), 0, orders_CxP.shape[0], jnp.int32)
            return pieces_PxTxHxWx3[orders_CxP[which]], which

        keys_Nx3 = draws_BxKx3.reshape(-1, 3)
        pieces, which_N = jax.vmap(shuffle)(keys_Nx3[:, 1], keys_Nx3[:, 2], view_NxSxTxHxWx3)
        return Question(pieces, which_N[:, None])

    def check_restored(self, memory):
        stored = jax.device_get(memory[SET])
        if not np.array_equal(jigsaw_lib.digest(stored["orders"]), stored["sha256"]):
            raise UserError(
                "the checkpoint's permutations do not have the hash that is stored with them: restore it from a backup, or use a new workdir"
            )

    def pictures(self, params, memory, batch, rng):
        """Beside the prediction the number of tiles that its permutation has where the answer's has them: the memory knows the set."""
        shown = super().pictures(params, memory, batch, rng)
        orders_BxP = (memory[SET]["orders"][shown[which][:, 0]] for which in ("label", "prediction"))
        same_B = jnp.sum(jnp.equal(*orders_BxP), axis=1, dtype=jnp.int32)
        return shown | {"prediction": jnp.column_stack([shown["prediction"], same_B])}

    def caption(self, label, prediction):
        said, same = prediction
        return f"Permutation {label[0]}, said {said}, which has {same} of {self.pieces} tiles in the same place"


def from_config(config: Any) -> Jigsaw:
    """A video jigsaw from a recipe: `objective.segments`, `grid`, `gap`, `permutations`, `picture` (the side that is cut up), `normalize`, `hidden`,
    `dropout`, and what every task has; a tile has model.size pixels.
    """
    c = config["objective"]
    own = {key: c[key] for key in ("segments", "grid", "gap", "permutations", "normalize")}
    fields = shared_fields(config, picture=c["picture"])
    head = ConcatHead(c["permutations"], c["hidden"], c["dropout"])
    return Jigsaw(head=head, classes=(c["permutations"],), tile=fields["encoder"].size, **own, **fields)
