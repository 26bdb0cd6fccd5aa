"""A source of noise, made on the device: needs no files, no TensorFlow and no decoder, so that the same program runs and is timed where
none of them is.

Video i is always the same noise, so order, hosts and resuming behave as with files.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from vssl_jax import batch as batch_lib
from vssl_jax.data.source import UNLABELED, Video, keys_with_labels
from vssl_jax.errors import UserError


class Synthetic:
    """`videos` videos of uniform noise in `num_classes` classes, i % num_classes."""

    def __init__(self, videos: int, num_classes: int):
        if videos < 1 or num_classes < 1:
            raise UserError(f"data.source=synthetic needs videos >= 1 and num_classes >= 1, got {videos} and {num_classes}")
        self.videos = videos
        self.num_classes = num_classes
        self.classes = tuple(str(i) for i in range(num_classes))
        self.keys = keys_with_labels(self.classes)

    def __len__(self) -> int:
        return self.videos

    def name(self, i: int) -> str:
        return f"synthetic {i}"

    def open(self, i: int) -> Video:
        raise UserError("data.source=synthetic makes whole batches on the device and has no films to open: name another source")

    def make(self, indices_B: np.ndarray, spec: batch_lib.Spec) -> dict[str, jax.Array]:
        """The batch of the videos numbered `indices_B` (int32; -1 is padding, WEIGHT 0), whatever `spec.batch_size` says."""
        return _make(jnp.asarray(indices_B, jnp.int32), dataclasses.replace(spec, batch_size=1), self.num_classes)


def synthetic_source(path: str = "", videos: int = 1024, num_classes: int = 8) -> Synthetic:
    """Noise. `path` is not used; `videos` and `num_classes` are what it claims to hold."""
    return Synthetic(videos, num_classes)


@functools.partial(jax.jit, static_argnames=("row", "num_classes"))
def _make(indices_B: jax.Array, row: batch_lib.Spec, num_classes: int) -> dict[str, jax.Array]:
    def one(i: jax.Array) -> dict[str, jax.Array]:
        return {key: value[0] for key, value in batch_lib.fake(row, jax.random.fold_in(jax.random.key(0), i), num_classes).items()}

    real_B = indices_B >= 0
    made = jax.vmap(one)(indices_B)
    return made | {
        batch_lib.INDEX: indices_B,
        batch_lib.LABEL: jnp.where(real_B, indices_B % num_classes, UNLABELED),
        batch_lib.WEIGHT: real_B.astype(jnp.float32),
    }
