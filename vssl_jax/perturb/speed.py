"""Playback speed on the device: a clip is every p-th frame of a dense one.

The dense clip is long enough for the fastest speed, so no clip ever wraps round: the seam of a loop would tell the speed without any motion.
"""

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
