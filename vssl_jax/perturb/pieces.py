"""Pieces of a dense clip: which of its frames make which piece, and permutations of them.

The one idea: a piece is a clip like any other. `cut` turns a batch of K clips into one of K x P clips, so the views crop, flip and color each
piece by itself (`per: clip`) or all pieces of a video alike (`per: video`), and nothing else needs to know of pieces.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from vssl_jax import batch as batch_lib
from vssl_jax.errors import UserError

_TIMED = (batch_lib.VIDEO, batch_lib.LUMA, batch_lib.CHROMA, batch_lib.FLOW, batch_lib.TIME)  # the entries with an axis T, their third
_CLIPWISE = (batch_lib.EXTENT, batch_lib.YUV_SPACE)


def available(batch: batch_lib.Batch) -> tuple[int, int]:
    """(clips of a video, frames of a clip)."""
    return batch[batch_lib.TIME].shape[1:]


def check_span(batch: batch_lib.Batch, span: int, what: str) -> None:
    """Raises UserError where the clips have fewer than `span` frames, which `what` needs."""
    if available(batch)[1] < span:
        raise UserError(f"{what} span {span} frames, the clips have {available(batch)[1]}: raise data.sampler.frames")


def check_room(by_motion: bool, length: int, span: int) -> None:
    """Raises UserError where the window with the most motion is to be found, and there is but one."""
    if by_motion and length == span:
        raise UserError(
            f"objective.by_motion looks for motion, and the clips have just the {span} frames that are asked about: "
            "raise data.sampler.frames, or set it to False"
        )


def clip(batch: batch_lib.Batch, number: int) -> dict[str, jax.Array]:
    """The batch of one clip of every video."""
    return {key: value[:, number : number + 1] if key in (*_TIMED, *_CLIPWISE) else value for key, value in batch.items()}


def clip_of_each(batch: batch_lib.Batch, number_B: jax.Array) -> dict[str, jax.Array]:
    """The batch of one clip of every video, of each its own."""
    take = jax.vmap(lambda clips, number: jax.lax.dynamic_index_in_dim(clips, number, keepdims=True))
    return {key: take(value, number_B) if key in (*_TIMED, *_CLIPWISE) else value for key, value in batch.items()}


def without_last(batch: batch_lib.Batch, count: int) -> dict[str, jax.Array]:
    """The batch whose clips lack their last `count` frames."""
    return {key: value[:, :, : value.shape[2] - count] if key in _TIMED else value for key, value in batch.items()}


def cut(batch: batch_lib.Batch, frames_BxKxPxT: jax.Array) -> dict[str, jax.Array]:
    """The batch whose clips are the pieces, K x P of every video, P pieces of a clip together; piece p of clip k has the frames
    `frames[b, k, p]` of that clip.
    """
    pieces = frames_BxKxPxT.shape[2]

    def timed(value):
        taken = jax.vmap(jax.vmap(lambda x, frames: x[frames]))(value, frames_BxKxPxT)
        return taken.reshape(taken.shape[0], -1, *taken.shape[3:])

    made = {key: timed(value) if key in _TIMED else value for key, value in batch.items()}
    return made | {key: jnp.repeat(batch[key], pieces, axis=1) for key in _CLIPWISE if key in batch}


def start(key: jax.Array, room: int, motion_T: jax.Array | None, span: int | jax.Array) -> jax.Array:
    """Where a window of `span` frames begins: one of `room` places, each as likely, or by how much moves in it where `motion_T` is given."""
    if motion_T is None:
        return jax.random.randint(key, (), 0, room, jnp.int32)
    sums = jnp.concatenate([jnp.zeros(1), jnp.cumsum(motion_T)])
    moving_R = jax.lax.dynamic_slice_in_dim(sums, span - 1, room) - sums[:room]
    return jax.random.categorical(key, jnp.log(moving_R + 1e-6)).astype(jnp.int32)


def motion(batch: batch_lib.Batch, every: int = 4) -> jax.Array:
    """How much changes from each frame to the next, float32 [B,K,T-1]: the mean difference of every 4th pixel both ways, in [0, 1]."""
    planes = batch[batch_lib.VIDEO] if batch_lib.VIDEO in batch else batch[batch_lib.LUMA][..., None]
    few = planes[:, :, :, ::every, ::every].astype(jnp.float32) / 255
    return jnp.mean(jnp.abs(few[:, :, 1:] - few[:, :, :-1]), axis=(3, 4, 5))


def permutations(n: int) -> np.ndarray:
    """All orders of n things, int32 [n!, n], in lexicographic order: row 0 changes nothing. Row c is class c of a sorting task."""
    return np.array(list(itertools.permutations(range(n))), np.int32)
