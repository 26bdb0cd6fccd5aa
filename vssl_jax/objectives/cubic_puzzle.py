"""Space-time cubic puzzles (Kim, Cho, Kweon 2019, https://arxiv.org/abs/1811.09795, section 3): four pieces of a 2 x 2 x 4 grid of a clip, along space or along
time; which of the 4! orders are they in?

Along space: the four cells of one time. Along time: the four times of one cell. The draw of which is no part of the answer. A second answer,
the paper's rotation term, is whether all pieces are upside down. Guards: each piece lies at a drawn place in its cell, and has one color channel
(`one_channel`) that is drawn for the whole question with `view.per = video`, or for each time.

Letters as in pretext.py, and N clips, S cells of a piece's picture.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from vssl_jax.errors import UserError
from vssl_jax.models.piece_heads import ConcatHead
from vssl_jax.objectives.pretext import Pretext, Question, shared_fields
from vssl_jax.perturb import jigsaw as jigsaw_lib
from vssl_jax.perturb import keys as keys_lib
from vssl_jax.perturb import pieces as pieces_lib

PIECES, GRID, ORDERS = 4, 2, 24


@dataclass(frozen=True)
class CubicPuzzle(Pretext):
    """Pieces of `frames` frames and `tile` pixels; a cell is 1/4 of the dense clip long, and half the view high and wide."""

    tile: int = 80

    answers: ClassVar[tuple[str, ...]] = ("order", "rotation")
    pieces: ClassVar[int] = PIECES

    @property
    def clip_size(self):
        return self.tile, self.tile

    def ask(self, memory, batch, rng):
        clips, length = pieces_lib.available(batch)
        cell = length // PIECES
        if cell < self.frames:
            raise UserError(
                f"a puzzle of {PIECES} times {self.frames} frames needs {PIECES * self.frames}, the clips have {length}: raise data.sampler.frames"
            )
        orders = jnp.asarray(pieces_lib.permutations(PIECES))

        def window(key):
            starts_P = jax.random.randint(key, (PIECES,), 0, cell - self.frames + 1) + cell * jnp.arange(PIECES)
            return starts_P[:, None] + jnp.arange(self.frames)

        keys_BxK = keys_lib.unit_keys(keys_lib.example_keys(rng, batch, keys_lib.TASK), clips)
        draws_BxKx6 = jax.vmap(jax.vmap(lambda key: jax.random.split(key, 6)))(keys_BxK)
        frames_BxKxPxT = jax.vmap(jax.vmap(window))(draws_BxKx6[..., 0])
        view = self.view(keys_lib.example_keys(rng, batch, keys_lib.VIEW), pieces_lib.cut(batch, frames_BxKxPxT))
        view_NxPxTxHxWx3 = view.reshape(-1, PIECES, *view.shape[2:])

        def puzzle(keys_5, view_PxTxHxWx3):
            tile_key, kind_key, fixed_key, order_key, turn_key = keys_5
            keys_P = jax.random.split(tile_key, PIECES)
            cut_PxSxTxHxWx3 = jax.vmap(lambda key, clip: jigsaw_lib.tiles(key, clip, GRID, self.tile))(keys_P, view_PxTxHxWx3)
            fixed = jax.random.randint(fixed_key, (), 0, PIECES)  # the one time, or the one cell
            along_space = jax.random.bernoulli(kind_key)
            four = jnp.where(along_space, cut_PxSxTxHxWx3[fixed], cut_PxSxTxHxWx3[:, fixed])
            which = jax.random.randint(order_key, (), 0, ORDERS, jnp.int32)
            turned = jax.random.bernoulli(turn_key)
            four = jnp.where(turned, four[:, :, ::-1, ::-1], four)
            return four[orders[which]], jnp.stack([which, turned.astype(jnp.int32)])

        pieces, label_Nx2 = jax.vmap(puzzle)(draws_BxKx6.reshape(-1, 6)[:, 1:], view_NxPxTxHxWx3)
        return Question(pieces, label_Nx2)

    def caption(self, label, prediction):
        orders = pieces_lib.permutations(PIECES) + 1
        right, said = ("-".join(map(str, orders[c])) + (" upside down" if turned else "") for c, turned in (label, prediction))
        return f"Order {right}, said {said}"


def from_config(config: Any) -> CubicPuzzle:
    """A cubic puzzle from a recipe: `objective.picture` (the side that is cut up), `hidden`, `dropout`, and what every task has; a piece has
    model.size pixels.
    """
    c = config["objective"]
    fields = shared_fields(config, picture=c["picture"])
    head = ConcatHead(ORDERS + 2, c["hidden"], c["dropout"])
    return CubicPuzzle(head=head, classes=(ORDERS, 2), tile=fields["encoder"].size, **fields)
