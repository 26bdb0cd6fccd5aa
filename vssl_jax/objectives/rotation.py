"""3DRotNet (Jing et al. 2018, https://arxiv.org/abs/1811.11387, section 3): by how many quarters is the whole clip turned?

All four turns of a clip are in the batch, as in the paper, so no color or scene goes with a label. A view is square. The turn comes last, after
crop, flip and colors, so a color operation must not depend on where in the picture it is; what leaks is a border: crops never reach the canvas around the
picture.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from vssl_jax.errors import UserError
from vssl_jax.models.piece_heads import ConcatHead
from vssl_jax.objectives.pretext import Pretext, Question, shared_fields
from vssl_jax.perturb import keys as keys_lib
from vssl_jax.perturb.view import pair

TURNS = 4


@dataclass(frozen=True)
class Rotation(Pretext):
    """`every`: each clip is asked about in all four turns; otherwise in one that is drawn."""

    every: bool = True

    timed: ClassVar[bool] = False

    def __post_init__(self):
        rows, columns = pair(self.view.size)
        if rows != columns:
            raise UserError(f"rotation needs square views, model.size gives {rows} x {columns}")

    @property
    def questions_per_clip(self):
        return TURNS if self.every else 1

    def ask(self, memory, batch, rng):
        view = self.view(keys_lib.example_keys(rng, batch, keys_lib.VIEW), batch)
        clips_NxTxHxWx3 = view.reshape(-1, *view.shape[2:])
        turned_NxRxTxHxWx3 = jnp.stack([jnp.rot90(clips_NxTxHxWx3, turn, axes=(2, 3)) for turn in range(TURNS)], axis=1)
        if self.every:
            asked = turned_NxRxTxHxWx3.reshape(-1, 1, *clips_NxTxHxWx3.shape[1:])
            return Question(asked, jnp.tile(jnp.arange(TURNS, dtype=jnp.int32), clips_NxTxHxWx3.shape[0])[:, None])
        keys_N = keys_lib.clip_keys(keys_lib.example_keys(rng, batch, keys_lib.TASK), view.shape[1])
        turn_N = jax.vmap(lambda key: jax.random.randint(key, (), 0, TURNS, jnp.int32))(keys_N)
        return Question(jax.vmap(lambda x, turn: x[turn])(turned_NxRxTxHxWx3, turn_N)[:, None], turn_N[:, None])

    def caption(self, label, prediction):
        return f"Turned by {90 * label[0]} degrees, said {90 * prediction[0]}"


def from_config(config: Any) -> Rotation:
    """Rotation from a recipe: `objective.every`, and what every task has."""
    return Rotation(head=ConcatHead(TURNS), classes=(TURNS,), every=config["objective"]["every"], **shared_fields(config))
