"""One of the views of a video that a method compares: which of its clips, which frames of that, and how they are cropped and colored.

The one idea: frames are chosen on the accelerator from a dense clip, as pixels are. So short and long, sparse and dense, early and late views of
one stretch of video come from one reading of it.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from vssl_jax import batch as batch_lib
from vssl_jax.errors import Limit, UserError, at_least, between, check_limits
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
        check_limits(
            "objective.views",
            frames=(self.frames, at_least(1)),
            stride=(self.stride, at_least(1)),
            clip=(self.clip, at_least(0)),
            first=(self.first, Limit(f"0 or more, or {ANYWHERE} for a random start", lambda value: value >= ANYWHERE)),
        )

    @property
    def span(self) -> int:
        """The frames of the clip from its first to its last."""
        return (self.frames - 1) * self.stride + 1

    def __call__(
        self, keys_B: jax.Array, batch: batch_lib.Batch, clip_B: jax.Array | None = None, colored_B: jax.Array | None = None
    ) -> jax.Array:
        """Normalized [B, frames, h, w, 3]. Raises UserError where the batch's clips are too few or too short.

        Args:
            keys_B, batch: what is drawn from, and what of.
            clip_B: of which clip it is for each video, int, where that is not `clip` for all.
            colored_B: as in RandomView.
        """
        clips, length = pieces.available(batch)
        if self.clip >= clips:
            raise UserError(f"a view is of clip {self.clip}, counted from 0, and videos have {clips}: raise data.sampler.clips")
        pieces.check_span(batch, max(self.first, 0) + self.span, f"{self.frames} frames {self.stride} apart")
        one = pieces.clip(batch, self.clip) if clip_B is None else pieces.clip_of_each(batch, clip_B)
        if self.span < length or self.stride > 1:
            steps_T = jnp.arange(self.frames) * self.stride
            if self.first == ANYWHERE:
                starts_B = jax.vmap(lambda key: jax.random.randint(jax.random.fold_in(key, 1), (), 0, length - self.span + 1))(keys_B)
            else:
                starts_B = jnp.full(keys_B.shape[:1], self.first)
            one = pieces.cut(one, (starts_B[:, None] + steps_T)[:, None, None])
        return self.view(keys_B, one, colored_B)[:, 0]


@dataclass(frozen=True)
class Pairing:
    """What the two views of a video have in common, drawn for each video (Han et al. 2020, the authors' code).

    With probability `one_clip` both are of the same one of their two clips, and the colors of one of them are changed; which clip, and which view, are
    drawn. Otherwise each is of its own clip, and its colors are changed with probability `colored`.
    """

    one_clip: float = 0.5
    colored: float = 0.3

    def __post_init__(self):
        check_limits("objective.pairing", one_clip=(self.one_clip, between(0, 1)), colored=(self.colored, between(0, 1)))

    def draw(self, keys_B: jax.Array, views: tuple[ClipView, ClipView]) -> tuple[jax.Array, jax.Array]:
        """(of which clip each view is, int [B, 2]; whether its colors are changed, bool [B, 2])."""
        clips_2 = jnp.array([view.clip for view in views])

        def one(key):
            kind_key, clip_key, side_key, colored_key = jax.random.split(key, 4)
            same = jax.random.bernoulli(kind_key, self.one_clip)
            clip, side = (jax.random.randint(k, (), 0, 2) for k in (clip_key, side_key))
            each_2 = jax.random.bernoulli(colored_key, self.colored, (2,))
            return jnp.where(same, clips_2[clip], clips_2), jnp.where(same, jnp.arange(2) == side, each_2)

        return jax.vmap(one)(keys_B)


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
