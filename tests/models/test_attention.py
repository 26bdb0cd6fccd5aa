import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractDevice, AbstractMesh, AxisType
from jax.sharding import PartitionSpec as P

from tests.models.noise import normal
from vssl_jax.errors import UserError
from vssl_jax.models import attention as lib


def reference(q, k, v):
    """softmax(q k^T / sqrt(hd)) v in float32 at the highest precision, [B,N,H,hd]."""
    q, k, v = (x.astype(jnp.float32) for x in (q, k, v))
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k, precision="highest") / q.shape[-1] ** 0.5
    return jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores, axis=-1), v, precision="highest")


def qkv(length, heads=2, hd=8, dtype=jnp.float32):
    return [normal(2, length, heads, hd, seed=i).astype(dtype) for i in range(3)]


@pytest.mark.parametrize(
    "platform, dtype, length, expected",
    [
        ("cpu", "float32", 127, "xla"),
        ("cpu", "float32", 128, "chunked"),
        ("cpu", "float32", 1568, "chunked"),
        ("cpu", "bfloat16", 1568, "chunked"),
        ("gpu", "bfloat16", 127, "xla"),
        ("gpu", "bfloat16", 128, "cudnn"),
        ("gpu", "float16", 1568, "cudnn"),
        ("gpu", "float32", 1568, "xla"),
        ("tpu", "bfloat16", 1023, "xla"),
        ("tpu", "bfloat16", 1568, "splash"),
        ("tpu", "float32", 1024, "splash"),
    ],
)
def test_choice_is_a_function_of_platform_dtype_and_length(platform, dtype, length, expected):
    assert lib.choose(platform, jnp.dtype(dtype), length) == expected


@pytest.mark.parametrize(
    "impl, length, scores",
    [
        ("xla", 37, None),
        ("chunked", 37, None),
        ("chunked", 37, 3 * 37 * 37),
        ("chunked", 37, 37 * 37),
        ("chunked", 392, 392 * 100),
        ("chunked", 401, 401 * 100),
    ],
    ids=["xla", "all heads at once", "two heads", "one head", "a head in four chunks", "and the last is shorter"],
)
def test_matches_the_float32_reference_forward_and_backward(impl, length, scores, monkeypatch):
    monkeypatch.setattr(lib, "SCORES", scores or lib.SCORES)
    args = qkv(length)
    weight = normal(*args[0].shape, seed=3)

    @functools.partial(jax.jit, static_argnums=0)
    def run(f, *args):
        out, vjp = jax.vjp(f, *args)
        return out, vjp(weight)

    ours, theirs = run(functools.partial(lib.attention, impl=impl), *args), run(reference, *args)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=5e-6), ours, theirs)


def test_fewer_queries_than_keys(monkeypatch):
    """A device that has some of the tokens asks with them, of all."""
    monkeypatch.setattr(lib, "SCORES", 100)
    q, (_, k, v) = normal(2, 11, 2, 8, seed=5), qkv(50)

    def run(f):
        return jax.jit(lambda *args: (f(*args), jax.grad(lambda *args: jnp.sum(jnp.sin(f(*args))), argnums=(0, 1, 2))(*args)))(q, k, v)

    ours, theirs = run(functools.partial(lib.attention, impl="chunked")), run(reference)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=5e-6), ours, theirs)


@pytest.mark.parametrize("impl, scores", [("xla", None), ("chunked", None), ("chunked", 100 * 401)])
def test_softmax_is_float32_in_bfloat16(impl, scores, monkeypatch):
    """Only what goes in and comes out is rounded, and in the backward pass the weights and their gradients: bfloat16 roundings (2^-8) of values below 4, not
    an accumulation of them.
    """
    monkeypatch.setattr(lib, "SCORES", scores or lib.SCORES)
    args, weight = qkv(401, dtype=jnp.bfloat16), normal(2, 401, 2, 8, seed=3).astype(jnp.bfloat16)

    def run(f, weight):
        def both(*args):
            out, vjp = jax.vjp(f, *args)
            return out, *vjp(weight)

        return jax.jit(both)(*args)

    made, expected = run(functools.partial(lib.attention, impl=impl), weight), run(reference, weight.astype(jnp.float32))
    assert {x.dtype for x in made} == {jnp.dtype("bfloat16")}
    for ours, theirs in zip(made, expected, strict=True):
        np.testing.assert_allclose(ours.astype(jnp.float32), theirs.astype(jnp.float32), atol=4 * 2**-8)


def test_chunked_never_holds_all_scores():
    """The largest array of the backward pass has a chunk of one head's scores, or all of a few heads."""

    def largest(length, heads):
        args = qkv(length, heads)
        jaxpr = str(jax.make_jaxpr(jax.grad(lambda *a: lib.attention(*a, impl="chunked").sum()))(*args))
        return max(math.prod(map(int, shape.split(","))) for shape in re.findall(r"f32\[([\d,]+)\]", jaxpr))

    assert largest(4000, heads=3) == 1000 * 4000 <= lib.SCORES
    assert largest(1000, heads=6) == 4 * 1000 * 1000 <= lib.SCORES


def test_splash_ignores_its_padding():
    """The TPU kernel, interpreted: 200 tokens are padded to 256, and the padding takes part in nothing."""
    args = qkv(200, heads=1, hd=128)
    out = jax.jit(functools.partial(lib._splash_local, interpret=True))(*args)
    np.testing.assert_allclose(out, jax.jit(reference)(*args), atol=5e-6)


def test_heads_that_cudnn_does_not_take_go_to_xla():
    bf16 = jnp.dtype("bfloat16")
    assert [lib.choose("gpu", bf16, 1568, hd) for hd in (80, 128, 12, 136)] == ["cudnn", "cudnn", "xla", "xla"]


@pytest.mark.parametrize("impl", ["splash", "chunked"])
@pytest.mark.parametrize("batch, heads, expected", [(4, 2, P(("data", "fsdp"), None, ("model",), None)), (1, 3, P(None, None, None, None))])
def test_kernels_are_sharded_by_the_mesh_where_it_divides(monkeypatch, batch, heads, expected, impl):
    """A batch of one (shapes at initialization) must trace under any mesh."""
    specs = []
    shard_map = jax.shard_map
    monkeypatch.setattr(lib, f"_{impl}_local", reference)
    monkeypatch.setattr(lib, "platform", lambda: "tpu")
    monkeypatch.setattr(jax, "shard_map", lambda f, **kw: specs.append(kw["out_specs"]) or shard_map(f, **kw))
    mesh = jax.make_mesh((2, 2, 2), ("data", "fsdp", "model"), axis_types=(AxisType.Auto,) * 3)
    args = [normal(batch, 128, heads, 8, seed=i) for i in range(3)]
    with jax.set_mesh(mesh):
        out = jax.jit(functools.partial(lib.attention, impl=impl))(*args)
    np.testing.assert_allclose(out, reference(*args), atol=5e-6)
    assert specs == [expected]


def test_unknown_implementation_names_the_nearest():
    with pytest.raises(UserError, match="did you mean 'cudnn'"):
        lib.attention(*qkv(4), impl="cuddn")


@pytest.mark.parametrize(
    ("impl", "platform", "dtype", "message"),
    [
        ("splash", "cpu", "bfloat16", "'splash', which runs on a TPU, and this is a CPU: set it to 'auto'"),
        ("splash", "gpu", "bfloat16", "this is a GPU"),
        ("cudnn", "cpu", "bfloat16", "runs on a GPU, and this is a CPU"),
        ("cudnn", "gpu", "float32", "takes bfloat16 or float16, and model.dtype is float32"),
    ],
)
def test_a_kernel_that_is_not_there_is_refused_in_one_line(impl, platform, dtype, message, monkeypatch):
    monkeypatch.setattr(lib, "platform", lambda: platform)
    with pytest.raises(UserError, match=message) as error:
        jax.eval_shape(functools.partial(lib.attention, impl=impl), *qkv(4, dtype=dtype))
    assert "\n" not in str(error.value)


def test_a_kernel_is_refused_for_where_the_program_will_run_and_not_for_where_it_is_traced():
    mesh = AbstractMesh((1,), ("data",), abstract_device=AbstractDevice(device_kind="TPU v5e", num_cores=1, platform="tpu"))
    with jax.sharding.use_abstract_mesh(mesh):
        assert jax.eval_shape(functools.partial(lib.attention, impl="splash"), *qkv(128, hd=128)).shape == (2, 128, 2, 128)


@pytest.mark.parametrize(
    ("capability", "capable"), [("9.0", True), ("8.0", True), ("12.0", True), ("7.5", False), ("gfx942", False), ("", False)]
)
def test_older_gpus_and_amds_have_no_cudnn_kernel(capability, capable):
    assert lib._capable(capability) is capable
