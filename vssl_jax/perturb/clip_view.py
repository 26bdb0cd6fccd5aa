"""One of the views of a video that a method compares: which of its clips, which frames of that, and how they are cropped and colored.

The one idea: frames are chosen on the accelerator from a dense clip, as pixels are. So short and long, sparse and dense, early and late views of
one stretch of video come from one reading of it.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from vssl_jax import batch as batch_lib
from vssl_jax.errors import UserError
from vssl_jax.perturb import pieces
from vssl_jax.perturb.view import RandomView

ANYWHERE = -1


@dataclass(frozen=True)
class ClipView:
    """`view` of `frames` frames, `stride` apart, of clip number `clip` of every video, from frame `first` on (ANYWHERE: a random start, each as
    likely).
    """

    view: RandomView
    frames: int
    clip: int = 0
    stride: int = 1
    first: int = 0

    def __post_init__(self):
        if self.frames < 1 or self.stride < 1 or self.clip < 0 or self.first < ANYWHERE:
            raise UserError(
                f"a view has {self.frames} frames {self.stride} apart of clip {self.clip} from frame {self.first}: they are 1 or more, 1 or more, 0 or "
                f"more, and 0 or more or {ANYWHERE}"
            )

    @property
    def span(self) -> int:
        """The frames of the clip from its first to its last."""
        return (self.frames - 1) * self.stride + 1

    def __call__(self, keys_B: jax.Array, batch: batch_lib.Batch) -> jax.Array:
        """Normalized [B, frames, h, w, 3]. Raises UserError where the batch's clips are too few or too short."""
        clips, length = pieces.available(batch)
        if self.clip >= clips:
            raise UserError(f"a view is of clip {self.clip}, counted from 0, and videos have {clips}: raise data.sampler.clips")
        pieces.check_span(batch, max(self.first, 0) + self.span, f"{self.frames} frames {self.stride} apart")
        one = pieces.clip(batch, self.clip)
        if self.span < length or self.stride > 1:
            steps_T = jnp.arange(self.frames) * self.stride
            if self.first == ANYWHERE:
                starts_B = jax.vmap(lambda key: jax.random.randint(jax.random.fold_in(key, 1), (), 0, length - self.span + 1))(keys_B)
            else:
                starts_B = jnp.full(keys_B.shape[:1], self.first)
            one = pieces.cut(one, (starts_B[:, None] + steps_T)[:, None, None])
        return self.view(keys_B, one)[:, 0]


@dataclass(frozen=True)
class WithoutLast:
    """A view (of those of perturb/view.py, or what is made of them) of clips without their last `count` frames."""

    view: Any
    count: int

    @property
    def size(self):
        return self.view.size

    def __call__(self, *args) -> jax.Array:
        """As the view is called: (keys_B, batch) or (batch,)."""
        *keys, batch = args
        return self.view(*keys, pieces.without_last(batch, self.count))
