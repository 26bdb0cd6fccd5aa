"""Masks: exact counts, partitions, what each mask promises, and independence of the device mesh."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from vssl_jax.errors import UserError
from vssl_jax.perturb import keys, masks

GRID = (8, 14, 14)  # 16 frames of 224 in tubelets of 2x16x16
SPLITS = {
    "tube .9": (masks.Tube(0.9), (160, 1408)),
    "tube .75": (masks.Tube(0.75), (392, 1176)),
    "random .9": (masks.Random(0.9), (156, 1412)),
    "running cell": (masks.RunningCell(), (784, 784)),
    "block .4": (masks.Block(0.4), (941, 627)),
}
MULTI = {
    "short": masks.MultiBlock(360, 760),
    "long": masks.MultiBlock(104, 1120, blocks=2, shape=masks.Cuboids(area=(0.7, 0.7))),
}
ALL = {name: mask for name, (mask, _) in SPLITS.items()} | MULTI


@partial(jax.jit, static_argnums=(0, 2, 3))
def jitted(mask, rng, rows, grid):
    return mask(keys.example_keys(rng, {"label": jnp.zeros(rows, jnp.int32)}, keys.MASK), grid)


jitted_membership = jax.jit(masks.membership, static_argnums=1)


def draw(mask, rng, rows=8, grid=GRID):
    return jax.tree.map(np.asarray, jitted(mask, rng, rows, grid))


def hidden(ids_BxM):
    return np.asarray(jitted_membership(ids_BxM, 1568)).reshape(-1, *GRID)


@pytest.mark.parametrize("name", SPLITS)
def test_counts_and_partition(name, rng):
    mask, counts = SPLITS[name]
    ids = draw(mask, rng)
    assert mask.counts(GRID) == counts == (ids.visible_BxV.shape[1], ids.masked_BxM.shape[1])
    assert ids.visible_BxV.dtype == ids.masked_BxM.dtype == np.int32
    together = np.sort(np.concatenate([ids.visible_BxV, ids.masked_BxM], axis=1), axis=1)
    np.testing.assert_array_equal(together, np.tile(np.arange(1568), (8, 1)))


@pytest.mark.parametrize("name", ALL)
def test_ids_ascend_and_lists_are_disjoint(name, rng):
    ids = draw(ALL[name], rng)
    assert (np.diff(ids.visible_BxV) > 0).all() and (np.diff(ids.masked_BxM) > 0).all()
    for visible, masked in zip(*ids, strict=True):
        assert not set(visible) & set(masked) and masked.max() < 1568


@pytest.mark.parametrize("name", ALL)
def test_examples_differ_and_a_key_always_draws_the_same(name, rng):
    ids, again = draw(ALL[name], rng), draw(ALL[name], rng)
    np.testing.assert_array_equal(ids.visible_BxV, again.visible_BxV)
    distinct = len({tuple(row) for row in ids.visible_BxV})
    assert distinct > 1 if name == "running cell" else distinct == 8  # a running cell starts at one of four places
    assert (draw(ALL[name], jax.random.key(1)).visible_BxV != ids.visible_BxV).any()


@pytest.mark.parametrize("name", ["tube .9", "random .9", "running cell", "block .4", "short"])
def test_same_on_one_device_and_on_eight(name, rng):
    assert len(jax.devices()) == 8
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    keys_B = keys.example_keys(rng, {"label": jnp.zeros(8, jnp.int32)}, keys.MASK)
    sharded = jax.jit(lambda k: ALL[name](k, GRID), in_shardings=sharding, out_shardings=sharding)(keys_B)
    one = draw(ALL[name], rng)
    np.testing.assert_array_equal(sharded.visible_BxV, one.visible_BxV)
    np.testing.assert_array_equal(sharded.masked_BxM, one.masked_BxM)


@pytest.mark.parametrize("ratio", [0.9, 0.75])
def test_tube_is_constant_over_time(ratio, rng):
    tubes = hidden(draw(masks.Tube(ratio), rng).masked_BxM).reshape(8, 8, 196)
    assert (tubes == tubes[:, :1]).all() and (tubes.sum(-1) == int(ratio * 196)).all()


def test_random_hides_every_token_equally_often(rng):
    ids = draw(masks.Random(0.5), rng, rows=2000, grid=(2, 3, 3))
    often = np.asarray(masks.membership(ids.masked_BxM, 18)).mean(0)
    assert np.abs(often - 0.5).max() < 4.5 * 0.5 / 2000**0.5


def test_running_cell_decodes_each_place_in_half_of_four_slots(rng):
    decoded = hidden(draw(masks.RunningCell(), rng).visible_BxV)
    for start in range(5):
        assert (decoded[:, start : start + 4].sum(1) == 2).all()
    assert (decoded[:, 4:] == decoded[:, :4]).all()  # period four
    assert (decoded == np.tile(decoded[:, :, :2, :2], (1, 1, 7, 7))).all()  # tiled from one cell
    ring = decoded[:, :, :2, :2].reshape(8, 8, 4)
    assert (ring[:, 1:] == np.roll(ring[:, :-1], -1, axis=-1)).all()  # moves by one place per slot


def test_block_hides_cuboids(rng):
    blocks = hidden(draw(SPLITS["block .4"][0], rng).masked_BxM)
    for axis in (1, 2, 3):
        alike = np.diff(blocks.astype(int), axis=axis) == 0
        assert alike.mean() > 0.75  # 0.52 for tokens hidden one by one
    assert 0 < blocks.any((2, 3)).mean() <= 1 and blocks.sum((1, 2, 3)).tolist() == [627] * 8


def test_multi_block_predicts_from_outside_the_union():
    ids = [draw(MULTI["short"], jax.random.key(seed)) for seed in range(8)]
    masked = np.concatenate([hidden(x.masked_BxM) for x in ids]).reshape(64, 8, 196).any(1)
    visible = np.concatenate([hidden(x.visible_BxV) for x in ids]).reshape(64, 8, 196).any(1)
    # Blocks last all the clip, so a place is in the union at all times or never: no place has both kinds, unless the lists were filled up.
    assert ((masked & visible).sum(1) == 0).mean() > 0.9


def test_errors_name_the_setting():
    with pytest.raises(UserError, match=r"1\.0"):
        masks.Tube(1.0)
    with pytest.raises(UserError, match="even"):
        masks.RunningCell().counts((8, 7, 14))
    with pytest.raises(UserError, match="fit"):
        masks.MultiBlock(30, 60).counts((2, 4, 4))
    with pytest.raises(UserError, match=r"0\.1"):
        masks.RunningCell(0.1)
