"""SpeedNet (Benaim et al. 2020, https://arxiv.org/abs/2004.06130, section 3): does a clip run at its normal speed, or faster?

Both versions of every clip are in the batch, so no scene goes with an answer. Frames are skipped at a rate that is drawn within each speed, and
every version is resized by a factor of its own and back, so that neither a fixed rhythm nor compression tells the speed.
"""

from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp

from vssl_jax.models.piece_heads import BinaryHead, SpatialMaxHead
from vssl_jax.objectives.pretext import Pretext, Question, shared_fields
from vssl_jax.perturb import keys as keys_lib
from vssl_jax.perturb import pieces as pieces_lib
from vssl_jax.perturb.resize import ResizeAndBack
from vssl_jax.perturb.speed import SpeedRanges

WORDS = ("normal", "fast")


@dataclass(frozen=True)
class Speediness(Pretext):
    """The batch's clips are dense, `speeds.span` frames or more. The paper trains on pictures of 64 to 336 pixels; shapes are fixed here, so a
    picture is resized to such a size and back to the view's, which loses the same detail. `resize` None: it is not.
    """

    speeds: SpeedRanges = field(default_factory=lambda: SpeedRanges(((1.0, 1.2), (1.7, 2.2)), 8))
    resize: ResizeAndBack | None = None

    @property
    def questions_per_clip(self):
        return len(WORDS)

    def ask(self, memory, batch, rng):
        frames_BxKxPxT = self.speeds(keys_lib.example_keys(rng, batch, keys_lib.SPEED), batch)
        view = self.view(keys_lib.example_keys(rng, batch, keys_lib.VIEW), pieces_lib.cut(batch, frames_BxKxPxT))
        if self.resize is not None:
            view = self.resize(keys_lib.unit_keys(keys_lib.example_keys(rng, batch, keys_lib.TASK), view.shape[1]), view)
        pieces = view.reshape(-1, 1, *view.shape[2:])
        return Question(pieces, jnp.tile(jnp.arange(len(WORDS), dtype=jnp.int32), pieces.shape[0] // len(WORDS))[:, None])

    def caption(self, label, prediction):
        return f"{WORDS[label[0]].capitalize()} speed, said {WORDS[prediction[0]]}"


def from_config(config: Any) -> Speediness:
    """Speediness from a recipe: `objective.normal` and `fast`, ranges of skips; `resize`, a range in sides of the view, or (); and what every task
    has.
    """
    c, fields = config["objective"], shared_fields(config)
    speeds = SpeedRanges((tuple(c["normal"]), tuple(c["fast"])), fields["frames"])
    resize = ResizeAndBack(*c["resize"]) if c["resize"] else None
    return Speediness(head=BinaryHead(SpatialMaxHead(1)), classes=(2,), speeds=speeds, resize=resize, **fields)
