"""Where an evaluation computes: on all devices of the one host that evaluates, rows of a batch over them, the weights on each."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from vssl_jax import batch as batch_lib
from vssl_jax.train import sharding


def spread(function: Callable[[Any, batch_lib.Batch], Any], weights: Any) -> Callable[[batch_lib.Batch], Any]:
    """`function(weights, batch)`, compiled, as a function of host batches, which must all have as many rows. Given the same function again, with other
    weights, nothing is compiled anew.
    """
    compiled, placed = jax.jit(function), {}

    def run(batch: Mapping[str, Any]) -> Any:
        rows = len(next(iter(batch.values())))
        if rows not in placed:
            mesh = sharding.local_mesh(rows)
            placed[rows] = mesh, jax.device_put(weights, NamedSharding(mesh, P()))
        mesh, own = placed[rows]
        with jax.set_mesh(mesh):
            return compiled(own, jax.device_put(dict(batch), sharding.batch_sharding(mesh)))

    return run
