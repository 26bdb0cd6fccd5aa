"""Playback speed on the device: a clip is every p-th frame of a dense one, p a whole number or not.

The dense clip is long enough for the fastest speed, so no clip ever wraps round: the seam of a loop would tell the speed without any motion.
"""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from vssl_jax import batch as batch_lib
from vssl_jax.errors import UserError
from vssl_jax.perturb import keys as keys_lib
from vssl_jax.perturb import pieces as pieces_lib


@dataclass(frozen=True)
class RandomPace:
    """Draws one of `paces` (frames skipped ahead) for every clip, each as likely, and a uniform start, and takes `frames` frames."""

    paces: tuple[int, ...]
    frames: int

    def __post_init__(self):
        if len(set(self.paces)) < 2 or min(self.paces) < 1:
            raise UserError(f"objective.paces is {self.paces}: it must be two or more different steps of 1 frame or more")

    @property
    def span(self) -> int:
        """Dense frames that the fastest pace needs."""
        return (self.frames - 1) * max(self.paces) + 1

    def __call__(self, keys_B: jax.Array, batch: batch_lib.Batch) -> tuple[dict[str, jax.Array], jax.Array]:
        """(the batch with T = `frames`, which pace each clip has: int32 [B,K]). Raises UserError where the clips are too short."""
        clips, available = batch[batch_lib.TIME].shape[1:]
        if available < self.span:
            raise UserError(
                f"{self.frames} frames at pace {max(self.paces)} span {self.span} frames, the clips have {available}: raise data.sampler.frames"
            )

        def draw(key):
            pace_key, start_key = jax.random.split(key)
            which = jax.random.randint(pace_key, (), 0, len(self.paces), jnp.int32)
            pace = jnp.asarray(self.paces, jnp.int32)[which]
            start = jax.random.randint(start_key, (), 0, available - (self.frames - 1) * pace)
            return start + pace * jnp.arange(self.frames, dtype=jnp.int32), which

        frames_BxKxT, which_BxK = jax.vmap(jax.vmap(draw))(keys_lib.unit_keys(keys_B, clips))
        return pieces_lib.cut(batch, frames_BxKxT[:, :, None]), which_BxK


@dataclass(frozen=True)
class SpeedRanges:
    """Every clip at each of several speeds. A speed is a range of skips: one is drawn uniformly from it, and frame i is the one nearest to
    i x skip after a start that is drawn uniformly.
    """

    ranges: tuple[tuple[float, float], ...]
    frames: int

    def __post_init__(self):
        ends = [end for pair in self.ranges for end in pair]
        if any(len(pair) != 2 for pair in self.ranges) or len(self.ranges) < 2 or ends != sorted(ends) or ends[0] < 1:
            raise UserError(f"the ranges of skips are {self.ranges}: give two or more (low, high) of 1 frame or more, one above the other")

    @property
    def span(self) -> int:
        """Dense frames that the fastest speed needs."""
        return math.floor((self.frames - 1) * self.ranges[-1][1] + 0.5) + 1

    def __call__(self, keys_B: jax.Array, batch: batch_lib.Batch) -> jax.Array:
        """Which frames of the dense clip make which version: int32 [B,K,P,T], P = len(ranges). Raises UserError where the clips are too short."""
        pieces_lib.check_span(batch, self.span, f"{self.frames} frames with skips of up to {self.ranges[-1][1]:g}")
        clips, available = pieces_lib.available(batch)

        def draw(key, low, high):
            skip_key, start_key = jax.random.split(key)
            skip = jax.random.uniform(skip_key, (), minval=low, maxval=high)
            offsets = jnp.floor(jnp.arange(self.frames) * skip + 0.5).astype(jnp.int32)
            offsets = jnp.minimum(offsets, self.span - 1)  # where rounding would step over the edge
            return jax.random.randint(start_key, (), 0, available - offsets[-1]) + offsets

        low, high = jnp.asarray(self.ranges, jnp.float32).T
        keys_BxKxP = jax.vmap(lambda keys: keys_lib.unit_keys(keys, len(self.ranges)))(keys_lib.unit_keys(keys_B, clips))
        return jax.vmap(jax.vmap(jax.vmap(draw), (0, None, None)), (0, None, None))(keys_BxKxP, low, high)
