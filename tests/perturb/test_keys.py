"""A draw belongs to a row of the global batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vssl_jax.batch import SLOT
from vssl_jax.perturb import keys


def data(keys_B):
    return np.asarray(jax.random.key_data(keys_B))


def test_rows_computed_alone_draw_the_same(rng):
    whole = data(keys.example_keys(rng, {SLOT: jnp.arange(8, dtype=jnp.int32)}, keys.VIEW))
    for rows in ([3], [6, 7], [5, 0, 2]):
        part = data(keys.example_keys(rng, {SLOT: jnp.array(rows, jnp.int32)}, keys.VIEW))
        np.testing.assert_array_equal(part, whole[rows])


def test_without_slots_rows_count_from_zero(rng):
    counted = data(keys.example_keys(rng, {"label": jnp.zeros(4, jnp.int32)}, keys.MASK))
    np.testing.assert_array_equal(counted, data(keys.example_keys(rng, {SLOT: jnp.arange(4, dtype=jnp.int32)}, keys.MASK)))


def test_all_keys_of_a_step_differ(rng):
    batch = {SLOT: jnp.arange(8, dtype=jnp.int32)}
    rows = [data(keys.clip_keys(keys.example_keys(jax.random.fold_in(rng, step), batch, p), 2)) for step in range(2) for p in range(6)]
    assert len({tuple(row) for row in np.concatenate(rows)}) == 2 * 6 * 8 * 2


def test_clip_keys_are_row_major(rng):
    keys_B = keys.example_keys(rng, {SLOT: jnp.arange(3, dtype=jnp.int32)}, keys.VIEW)
    flat, grid = data(keys.clip_keys(keys_B, 4)), data(keys.unit_keys(keys_B, 4))
    np.testing.assert_array_equal(flat[2 * 4 + 1], grid[2, 1])


@pytest.mark.parametrize("make", [jax.random.key, jax.random.PRNGKey])
def test_both_kinds_of_key(make):
    keys_B = keys.example_keys(make(0), {SLOT: jnp.arange(3, dtype=jnp.int32)}, keys.VIEW)
    draws = jax.vmap(lambda key: jax.random.uniform(key))(keys_B)
    assert draws.shape == (3,) and len(set(np.asarray(draws).tolist())) == 3
    assert keys.clip_keys(keys_B, 2).shape[0] == 6


def test_splitting_and_folding_a_key_is_the_same_and_a_key_apart_is_neither(rng):
    """What draws from a key that was split, or folded with places, must not do so itself."""
    bits = lambda keys: {tuple(key) for key in np.asarray(jax.random.key_data(keys)).reshape(-1, 2).tolist()}  # noqa: E731
    split, folded = jax.random.split(rng, 100), keys.unit_keys(rng[None], 100)
    assert bits(split) == bits(folded)
    assert not bits(keys.apart(rng)) & bits(split)
