"""Placement by path and shape."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from vssl_jax.errors import UserError
from vssl_jax.train import sharding


@pytest.fixture
def cube():
    return sharding.make_mesh({"data": 2, "fsdp": 2, "model": 2})


def test_the_mesh_has_auto_axes_and_fills_the_rest(cube):
    assert cube.axis_names == sharding.AXES and set(cube.axis_types) == {AxisType.Auto}
    assert dict(sharding.make_mesh({"data": -1, "fsdp": 2}).shape) == {"data": 4, "fsdp": 2, "seq": 1, "model": 1}


@dataclasses.dataclass(frozen=True)
class Chip:
    """What a mesh is laid out by, of a v5e."""

    id: int
    process_index: int
    coords: tuple[int, int, int]
    slice_index: int
    core_on_chip: int = 0
    platform: str = "tpu"
    device_kind: str = "TPU v5 lite"
    client = None


def test_only_data_goes_from_slice_to_slice(monkeypatch):
    """Places repeat in every slice; between them the network is slow."""
    monkeypatch.setattr(sharding, "Mesh", lambda placed, *args, **more: placed)
    chips = [Chip(16 * s + i, 4 * s + i // 4, (i % 4, i // 4, 0), s) for s in (0, 1) for i in range(16)]
    placed = sharding.make_mesh({"data": 4, "fsdp": 8}, chips)
    assert placed.shape == (4, 8, 1, 1) and [{chip.slice_index for chip in row.ravel()} for row in placed] == [{0}, {0}, {1}, {1}]
    with pytest.raises(UserError, match=r"mesh\.data=1 does not split over 2 slices.* make it a multiple of 2"):
        sharding.make_mesh({"fsdp": 32}, chips)
    assert sharding.make_mesh({"fsdp": 16}, chips[:16]).shape == (1, 16, 1, 1)


@pytest.mark.parametrize(
    "sizes", [{"seq": 4}, {"model": 4}, {"seq": 2, "model": 2}, {"model": 2}, {"fsdp": 4, "model": 2}, {"fsdp": 2, "seq": 4}]
)
def test_devices_that_share_rows_are_one_hosts(monkeypatch, sizes):
    """Along the torus four chips of a v5e's axis are of two hosts, whose rows differ."""
    monkeypatch.setattr(sharding, "Mesh", lambda placed, *args, **more: placed)
    chips = [Chip(x + 4 * y, x // 2 + 2 * (y // 2), (x, y, 0), 0) for y in range(4) for x in range(4)]
    placed = sharding.make_mesh({"data": -1} | sizes, chips)
    rows = placed.reshape(-1, sizes.get("seq", 1) * sizes.get("model", 1))
    assert {chip.id for chip in placed.ravel()} == set(range(16)) and all(len({chip.process_index for chip in row}) == 1 for row in rows)


@pytest.mark.parametrize("sizes", [{"data": 3}, {"data": -1, "fsdp": 3}, {"data": -1, "fsdp": -1}, {"data": 0}, {"data": -2}, {"data": 16}])
def test_sizes_that_do_not_fill_the_devices_are_refused(sizes):
    with pytest.raises(UserError, match="mesh"):
        sharding.make_mesh(sizes)


@pytest.mark.parametrize(
    ("name", "shape", "spec"),
    [
        ("params/encoder/blocks/attn/qkv/kernel", (12, 768, 3, 12, 64), P(None, "fsdp", None, "model", None)),
        ("opt/main/scale/0/mu/encoder/blocks/attn/qkv/kernel", (12, 768, 3, 12, 64), P(None, "fsdp", None, "model", None)),
        ("memory/teacher/blocks/attn/proj/kernel", (12, 12, 64, 768), P(None, "model", None, "fsdp")),
        ("params/encoder/blocks/attn/q_bias", (12, 12, 64), P(None, "model", None)),
        ("params/encoder/blocks/mlp/fc1/kernel", (12, 768, 3072), P(None, "fsdp", "model")),
        ("params/encoder/blocks/mlp/fc2/kernel", (12, 3072, 768), P(None, "model", "fsdp")),
        ("params/encoder/patch_embed/kernel", (1536, 768), P("fsdp", None)),
        ("params/encoder/blocks/norm1/scale", (12, 768), P(None, None)),  # small: replicated
        ("memory/queue", (65536, 128), P("fsdp", None)),
        ("params/conv/kernel", (3, 3, 3, 255, 511), P(None, None, None, None, None)),  # nothing divides
        ("params/x/attn/qkv/kernel", (768, 3, 7, 64), P("fsdp", None, None, None)),  # 7 heads do not split
        ("step", (), P()),
    ],
)
def test_specs(cube, name, shape, spec):
    assert sharding.spec_for(name, shape, cube) == spec


def test_axes_of_size_one_are_never_named():
    mesh = sharding.make_mesh({"data": 8})
    assert sharding.spec_for("blocks/attn/qkv/kernel", (12, 768, 3, 12, 64), mesh) == P(None, None, None, None, None)


def test_keys_are_replicated(cube):
    shapes = jax.eval_shape(lambda: {"rng": jax.random.key(0), "x": jnp.zeros((512, 256))})
    placed = sharding.shardings(shapes, cube)
    assert placed["rng"].spec == P() and placed["x"].spec == P("fsdp", None)


def test_batches_split_over_data_and_fsdp(cube):
    x = np.arange(8 * 3).reshape(8, 3)
    placed = sharding.global_batch({"x": x}, cube)["x"]
    np.testing.assert_array_equal(placed, x)
    assert {s.data.shape for s in placed.addressable_shards} == {(2, 3)}


def test_batch_sizes_that_do_not_split_are_refused(cube):
    sharding.check_batch_size(16, 2, cube)
    with pytest.raises(UserError, match="grad_accumulation"):
        sharding.check_batch_size(16, 3, cube)
    with pytest.raises(UserError, match="micro-batch of 6"):
        sharding.check_batch_size(12, 2, cube)
