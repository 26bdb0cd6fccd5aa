"""A vector for every video of the data, as the network last saw it: what offline clustering groups, and local aggregation looks for neighbors in
(Wu et al. 2018, https://arxiv.org/abs/1805.01978, section 3.1).

Memory: "bank", float32 [..., N, D], and "known", bool [N], whether a place has been written yet; until then it holds a random unit vector. The place
of a video is its INDEX. N is the number of videos, rounded up so that the rule of train/sharding.py splits it over many devices.
"""

import logging

import jax
import jax.numpy as jnp

from vssl_jax.errors import UserError
from vssl_jax.models.projection import unit
from vssl_jax.objectives.protocol import Memory

log = logging.getLogger(__name__)

BANK, KNOWN = "bank", "known"
MULTIPLE = 512  # of places


def check_run(places: int, clusters: int, what: str, videos: int) -> None:
    """Raises UserError where there are no fewer clusters (the setting `what`) than videos, each of which would be one by itself; warns where places stay
    empty.
    """
    if clusters >= videos:
        raise UserError(f"{what} is {clusters}, but the data have {videos} videos: clusters of several need fewer, set --config.{what}")
    if videos < 0.95 * places:
        log.warning(
            "objective.videos=%d, but the data have %d videos: clusters are renewed as for the larger number, and where noise is drawn, it is so from empty "
            "places too; set data.num_examples=%d, which both follow (in variants objective.videos)", places, videos, videos,
        )  # fmt: skip


def start(rng: jax.Array, videos: int, width: int, copies: tuple[int, ...] = ()) -> Memory:
    """Nothing known. `copies` are the bank's leading dimensions: several vectors of a video."""
    places = -(-videos // MULTIPLE) * MULTIPLE
    return {BANK: unit(jax.random.normal(rng, (*copies, places, width))), KNOWN: jnp.zeros(places, bool)}


def write(memory: Memory, index_B: jax.Array, rows: jax.Array, weight_B: jax.Array, momentum: float = 0.0) -> Memory:
    """The two entries after the batch's unit vectors `rows` [..., B, D] were written: momentum x old + (1 - momentum) x new, made a unit vector again;
    at a first visit the vector itself. No gradient passes. Videos of weight 0 write nothing; of a video that stands in the batch twice the
    later row counts.
    """
    rows = jax.lax.stop_gradient(rows.astype(jnp.float32))
    counts_B = weight_B > 0
    # A scatter says of two rows for one place only that one of them wins: which, may differ with the number of devices.
    again_BxB = jnp.triu(index_B[:, None] == index_B[None, :], k=1) & counts_B[None, :]
    place_B = jnp.where(counts_B & ~jnp.any(again_BxB, axis=1), index_B, memory[KNOWN].shape[0])
    old = jnp.take(memory[BANK], index_B, axis=-2, mode="clip")
    seen_Bx1 = jnp.take(memory[KNOWN], index_B, mode="clip")[:, None]
    rows = jnp.where(seen_Bx1, unit(momentum * old + (1 - momentum) * rows), rows)
    return {
        BANK: memory[BANK].at[..., place_B, :].set(rows, mode="drop"),
        KNOWN: memory[KNOWN].at[place_B].set(True, mode="drop"),
    }
