"""Sequences over several devices: the same attention, by the collectives that it says, in a share of the memory, and a refusal where they
do not split."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from tests.train import tiny
from vssl_jax.compiled import account as account_lib
from vssl_jax.errors import UserError
from vssl_jax.models import attention as attention_lib
from vssl_jax.models import layout
from vssl_jax.models.attention import attention
from vssl_jax.models.cnn import CNN
from vssl_jax.models.timesformer import TimeSformer
from vssl_jax.models.transformer import BlockConfig, block_stack
from vssl_jax.train import sharding
from vssl_jax.train.loop import compile_plan


def across(q, k, v, impl="xla"):
    return layout.across(functools.partial(attention, impl=impl), q, k, v)


def compiled(mesh, function, *shapes):
    """For arguments whose rows are over the batch axes and whose tokens over 'seq'."""
    with jax.set_mesh(mesh):
        placed = NamedSharding(mesh, P(("data", "fsdp"), "seq"))
        arguments = [jax.ShapeDtypeStruct(shape, jnp.float32, sharding=placed) for shape in shapes]
        return jax.jit(function).lower(*arguments).compile()


@pytest.mark.parametrize("impl", ["xla", "chunked"])
@pytest.mark.parametrize(("heads", "mesh"), [(4, {"seq": 4}), (6, {"seq": 4}), (4, {"model": 4}), (6, {"model": 4})], ids=str)
def test_output_and_gradients_are_those_of_one_device(heads, mesh, impl, monkeypatch):
    """Where heads split, and where they do not."""
    monkeypatch.setattr(attention_lib, "SCORES", 24 * 10)  # "chunked" has a head in three chunks
    q, k, v, g = jax.random.normal(jax.random.key(0), (4, 2, 24, heads, 8))

    def loss(q, k, v):
        return jnp.sum(across(q, k, v, impl) * g)

    def both():
        """Traced anew: for the mesh that is set."""
        return jax.jit(lambda q, k, v: (across(q, k, v, impl), *jax.grad(loss, argnums=(0, 1, 2))(q, k, v)))(q, k, v)

    alone = both()
    with jax.set_mesh(sharding.make_mesh({"data": 2} | mesh)):
        spread = both()
    for one, eight in zip(alone, spread, strict=True):
        np.testing.assert_allclose(one, eight, atol=1e-5)


@pytest.mark.parametrize(("heads", "expected"), [(8, {"all-to-all": 4}), (6, {"all-gather": 2})], ids=["heads split", "heads do not split"])
def test_collectives_are_those_of_its_kind(heads, expected):
    mesh = sharding.make_mesh({"data": 2, "seq": 4})
    counts = account_lib.read(compiled(mesh, across, *[(2, 64, heads, 8)] * 3).as_text(), 8).counts()
    assert {kind: count for kind, count in counts.items() if count} == expected


@pytest.mark.parametrize(("heads", "most"), [(8, 1.5 / 8), (6, 2.5 / 8)], ids=["heads split", "heads do not split"])
def test_activations_take_a_share_of_the_memory(heads, most):
    """Temporaries of forward and backward through 4 blocks on one clip, by its tokens: on eight devices an eighth, and what is whole for a
    moment. That is little where heads split; where they do not, it is keys and values.
    """
    width = 32 * heads
    stack = block_stack(4, heads, 4 * width, BlockConfig(impl="chunked", unroll=1))
    params = jax.eval_shape(lambda: stack.init(jax.random.key(0), jnp.zeros((1, 8, width)), None))
    weights = jax.tree.map(lambda s: jnp.zeros(s.shape), params)

    def grow(devices):
        """Bytes per device that twice the tokens add."""
        mesh = sharding.make_mesh({"data": 1, "seq": devices}, jax.devices()[:devices])
        gradient = jax.grad(lambda x: jnp.sum(stack.apply(weights, x, None)[0] ** 2))
        few, many = (compiled(mesh, gradient, (1, tokens, width)).memory_analysis().temp_size_in_bytes for tokens in (4096, 8192))
        return many - few

    assert grow(8) < most * grow(1)


@pytest.mark.parametrize(("tokens", "heads"), [(10, 4), (10, 6)])
def test_tokens_that_do_not_split_are_one_line(tokens, heads):
    x = jnp.zeros((2, tokens, heads, 8))
    with (
        jax.set_mesh(sharding.make_mesh({"data": 2, "seq": 4})),
        pytest.raises(UserError, match=r"10 tokens do not split over mesh\.seq=4"),
    ):
        across(x, x, x)


def test_frames_that_do_not_split_are_one_line():
    with jax.set_mesh(sharding.make_mesh({"data": 2, "seq": 4})), pytest.raises(UserError, match=r"6 frames do not split over mesh\.seq=4"):
        layout.frames(jnp.zeros((2, 6, 8, 8, 3)))


@pytest.mark.parametrize("module", [CNN(width=8), TimeSformer(width=8, depth=1, heads=2, patch=8, frames=4, size=16)])
def test_a_backbone_that_does_not_split_its_tokens_is_refused(module):
    plan = tiny.plan(tiny.classifier(encoder=module), tiny.batches(1), {"data": 4, "seq": 2})
    says = rf"mesh\.seq=2 splits the tokens of a clip, which {type(module).__name__} does not do: set mesh\.seq=1"
    with pytest.raises(UserError, match=says):
        compile_plan(plan)


def test_hosts_read_rows_of_their_own():
    """Devices that share a sequence must get the same rows: of one host."""

    class Device:
        def __init__(self, host):
            self.process_index = host

    class Mesh:
        devices, size = np.array([Device(i // 4) for i in range(8)]), 8
        shape = {"data": 1, "fsdp": 1, "seq": 8, "model": 1}  # noqa: RUF012

    with pytest.raises(UserError, match=r"mesh\.seq=8 x mesh\.model=1 reaches over hosts of 4 devices"):
        sharding.check_batch_size(8, 1, Mesh())


def test_nothing_changes_without_a_mesh():
    x = jnp.ones((2, 5, 8))
    assert layout.tokens(x) is x and layout.parts() == 1
