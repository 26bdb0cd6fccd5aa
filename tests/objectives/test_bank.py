"""A place for every video: what is written where, by which mean, and that it is split over devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vssl_jax.models.projection import unit
from vssl_jax.objectives import bank as bank_lib
from vssl_jax.objectives.bank import BANK, KNOWN
from vssl_jax.train import sharding

KEY = jax.random.key(0)
WRITE = jax.jit(bank_lib.write, static_argnums=4)


def rows(*shape, seed=1):
    return unit(jax.random.normal(jax.random.key(seed), shape))


def test_it_starts_with_unknown_unit_vectors_in_a_number_of_places_that_can_be_split():
    memory = bank_lib.start(KEY, 513, 8, (2,))
    assert memory[BANK].shape == (2, 1024, 8) and memory[KNOWN].shape == (1024,) and not memory[KNOWN].any()
    np.testing.assert_allclose(np.linalg.norm(memory[BANK], axis=-1), 1, atol=1e-5)


@pytest.mark.parametrize("copies", [(), (2,)])
def test_a_first_visit_takes_the_vector_and_a_second_the_mean(copies):
    memory, index = bank_lib.start(KEY, 20, 8, copies), np.array([3, 0, 7], np.int32)
    first, second, one = rows(*copies, 3, 8), rows(*copies, 3, 8, seed=2), np.ones(3, np.float32)
    once = WRITE(memory, index, first, one, 0.75)
    np.testing.assert_array_equal(once[BANK][..., index, :], first)
    assert sorted(np.flatnonzero(once[KNOWN])) == [0, 3, 7]
    others = np.setdiff1d(np.arange(512), index)
    np.testing.assert_array_equal(once[BANK][..., others, :], memory[BANK][..., others, :])
    mixed = 0.75 * np.asarray(first) + 0.25 * np.asarray(second)
    twice = WRITE(once, index, second, one, 0.75)[BANK][..., index, :]
    np.testing.assert_allclose(twice, mixed / np.linalg.norm(mixed, axis=-1, keepdims=True), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(WRITE(once, index, second, one, 0.0)[BANK][..., index, :], second, rtol=1e-5)


def test_videos_of_weight_0_write_nothing():
    memory, index = bank_lib.start(KEY, 20, 8), np.array([3, 0, 7], np.int32)
    after = WRITE(memory, index, rows(3, 8), np.array([0, 1, 0], np.float32), 0.75)
    assert np.flatnonzero(after[KNOWN]).tolist() == [0]
    np.testing.assert_array_equal(after[BANK][1:], memory[BANK][1:])


def test_of_a_video_that_stands_in_the_batch_twice_the_later_row_counts():
    """The last of those that count: the third has no weight."""
    memory, index, given = bank_lib.start(KEY, 20, 8), np.array([5, 5, 5, 2], np.int32), rows(4, 8)
    after = WRITE(memory, index, given, np.array([1, 1, 0, 1], np.float32), 0.5)
    np.testing.assert_array_equal(after[BANK][np.array([5, 2])], given[np.array([1, 3])])


def test_no_gradient_passes():
    memory, index = bank_lib.start(KEY, 20, 8), np.array([3, 0], np.int32)
    grad = jax.jit(jax.grad(lambda given: jnp.sum(bank_lib.write(memory, index, given, jnp.ones(2), 0.5)[BANK] ** 3)))(rows(2, 8))
    assert not np.any(grad)


def test_each_of_eight_devices_holds_an_eighth_and_writes_the_same():
    """By the rule that places parameters; the batch's rows are split too."""
    mesh = sharding.make_mesh({"data": 1, "fsdp": 8})
    start = lambda: bank_lib.start(KEY, 500, 128)  # noqa: E731
    placed = sharding.shardings({"memory": jax.eval_shape(start)}, mesh)["memory"]
    index, given, weight = np.arange(16, dtype=np.int32) * 31, np.asarray(rows(16, 128)), np.ones(16, np.float32)
    with jax.set_mesh(mesh):
        memory = jax.jit(start, out_shardings=placed)()
        split = sharding.global_batch({"index": index, "rows": given, "weight": weight}, mesh)
        after = jax.jit(bank_lib.write, static_argnums=4, out_shardings=placed)(memory, *split.values(), 0.5)
    assert {shard.data.shape for shard in after[BANK].addressable_shards} == {(64, 128)}
    alone = WRITE(start(), index, given, weight, 0.5)
    for name in (BANK, KNOWN):
        np.testing.assert_allclose(after[name], alone[name], atol=1e-6)
