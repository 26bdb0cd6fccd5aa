"""Collectives of a program for the eight simulated devices: what is moved, in which groups, how often."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from vssl_jax.compiled import account as account_lib
from vssl_jax.compiled.account import Account, Collective
from vssl_jax.train import sharding


def collectives(function, shapes, specs, out, **mesh_sizes):
    mesh = sharding.make_mesh(mesh_sizes)
    with jax.set_mesh(mesh):
        arguments = [
            jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, spec)) for shape, spec in zip(shapes, specs, strict=True)
        ]
        text = jax.jit(function, out_shardings=NamedSharding(mesh, out)).lower(*arguments).compile().as_text()
    return account_lib.read(text, mesh.size).collectives


def test_a_gradient_is_reduced_over_all_that_share_the_weights():
    found = collectives(lambda x, w: jax.grad(lambda w: jnp.sum((x @ w) ** 2))(w), [(16, 32), (32, 8)], [P("data"), P()], P(), data=8)
    assert found == (Collective("all-reduce", 8, 1, 4 * 32 * 8),)
    assert found[0].sent_bytes == 2 * 7 / 8 * 4 * 32 * 8


def test_groups_are_those_of_an_axis():
    found = collectives(lambda x: jnp.sum(x, axis=1), [(4, 16)], [P("data", "fsdp")], P("data"), data=2, fsdp=4)
    assert found == (Collective("all-reduce", 4, 1, 4 * 2),)  # each group of 4 has 2 of the 4 rows


def test_gathered_bytes_are_those_of_the_whole():
    found = collectives(lambda x: x * 2, [(16, 32)], [P("fsdp")], P(), fsdp=8)
    assert found == (Collective("all-gather", 8, 1, 4 * 16 * 32),)
    assert found[0].sent_bytes == 7 / 8 * 4 * 16 * 32


def test_in_a_loop_they_count_every_turn():
    def stack(x, w):
        return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, w)[0]

    shapes, specs = [(8, 16), (5, 16, 16)], [P(), P(None, "model", None)]
    (found,) = [c for c in collectives(stack, shapes, specs, P(), model=8) if c.kind == "all-reduce"]
    assert found == Collective("all-reduce", 8, 5, 5 * 4 * 8 * 16)


@pytest.mark.parametrize(
    ("groups", "size"),
    [
        ("replica_groups={{0,1},{2,3}}", 2),
        ("replica_groups=[2,4]<=[8]", 4),
        ("replica_groups=[4,2]<=[2,4]T(1,0)", 2),
        ("replica_groups=mesh['a'=4,'b'=2] {'a'}", 4),
        ("replica_groups=mesh['a'=4,'b'=2] {'a','b'}", 8),
        ("replica_groups=mesh['a'=1,'b'=2,'c'=4], device_ids=([4,2]T(1,0)) {'b'}", 2),
        ("replica_groups={}", 8),
    ],
)
def test_groups_in_every_notation(groups, size):
    text = f"""HloModule m

%add (x: f32[], y: f32[]) -> f32[] {{
  %x = f32[] parameter(0)
  %y = f32[] parameter(1)
  ROOT %s = f32[] add(%x, %y)
}}

ENTRY %main (p: f32[6]) -> f32[6] {{
  %p = f32[6]{{0}} parameter(0)
  ROOT %r = f32[6]{{0}} all-reduce(%p), channel_id=1, {groups}, to_apply=%add
}}
"""
    assert account_lib.read(text, 8).collectives == (Collective("all-reduce", size, 1, 24),)


def test_groups_in_another_notation_are_refused():
    with pytest.raises(ValueError, match="notation that is not known"):
        account_lib._group(", replica_groups=other[8]", 8)


CHAIN = """HloModule m

%begin (a: bf16[128]) -> (bf16[128], bf16[512], u32[]) {
  %a = bf16[128]{0} parameter(0)
  %g0 = bf16[512]{0} all-gather(%a), channel_id=7, replica_groups=[1,4]<=[4], dimensions={0}, frontend_attributes={chain_id="2"}
  ROOT %c0 = (bf16[128]{0}, bf16[512]{0}, u32[]{:S(2)}) custom-call(%g0), custom_call_target="AsyncCollectiveStart"
}

%beside (b: bf16[128], w: bf16[512], m: u32[], x: f32[8,8]) -> (f32[8,8], bf16[128], bf16[512], bf16[512], u32[]) {
  %x = f32[8,8]{1,0} parameter(3)
  %d = f32[8,8]{1,0} dot(%x, %x), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  %b = bf16[128]{0} parameter(0)
  %w = bf16[512]{0} parameter(1)
  %g1 = bf16[512]{0} all-gather(%b), channel_id=7, replica_groups=[1,4]<=[4], dimensions={0}, frontend_attributes={chain_id="2"}
  %m = u32[]{:S(2)} parameter(2)
  ROOT %t = (f32[8,8]{1,0}, bf16[128]{0}, bf16[512]{0}, bf16[512]{0}, u32[]{:S(2)}) tuple(%d, %b, %w, %g1, %m)
}

%end (e: bf16[128], v: bf16[512], n: u32[]) -> bf16[512] {
  %e = bf16[128]{0} parameter(0)
  %v = bf16[512]{0} parameter(1)
  %n = u32[]{:S(2)} parameter(2)
  %g2 = bf16[512]{0} all-gather(%e), channel_id=7, replica_groups=[1,4]<=[4], dimensions={0}, frontend_attributes={chain_id="2"}
  ROOT %c2 = bf16[512]{0} custom-call(%e, %v, %g2, %n), custom_call_target="AsyncCollectiveDone"
}

ENTRY %main (p: bf16[128], q: f32[8,8]) -> bf16[512] {
  %p = bf16[128]{0} parameter(0)
  %q = f32[8,8]{1,0} parameter(1)
  %f0 = (bf16[128]{0}, bf16[512]{0}, u32[]{:S(2)}) fusion(%p), kind=kCustom, calls=%begin
  %f0a = bf16[128]{0} get-tuple-element(%f0), index=0
  %f0b = bf16[512]{0} get-tuple-element(%f0), index=1
  %f0c = u32[]{:S(2)} get-tuple-element(%f0), index=2
  %f1 = (f32[8,8]{1,0}, bf16[128]{0}, bf16[512]{0}, bf16[512]{0}, u32[]{:S(2)}) fusion(%f0a, %f0b, %f0c, %q), kind=kOutput, calls=%beside
  %f1a = bf16[128]{0} get-tuple-element(%f1), index=1
  %f1b = bf16[512]{0} get-tuple-element(%f1), index=3
  %f1c = u32[]{:S(2)} get-tuple-element(%f1), index=4
  ROOT %r = bf16[512]{0} fusion(%f1a, %f1b, %f1c), kind=kCustom, calls=%end
}
"""


def test_a_gather_that_is_spread_over_what_runs_beside_it_is_one():
    """Each of three fusions names it: the one where it starts counts, and its operand (256 bytes) and result (1024) are moved once."""
    found = account_lib.read(CHAIN, 4)
    assert found.collectives == (Collective("all-gather", 4, 1, 1024),)
    assert found.flops == 2 * 8**3
    assert found.traffic_bytes == 256 + 1024 + 2 * 4 * 8**2


def test_sums_merge_what_is_alike():
    a = Account(1, 10, (Collective("all-reduce", 8, 1, 4),))
    b = Account(2, 20, (Collective("all-reduce", 8, 2, 8), Collective("all-gather", 4, 1, 16)))
    total = a + b * 2
    assert (total.flops, total.traffic_bytes) == (5, 50)
    assert total.collectives == (Collective("all-gather", 4, 2, 32), Collective("all-reduce", 8, 5, 20))
    assert total.counts() == {"all-reduce": 5, "all-gather": 2, "reduce-scatter": 0, "all-to-all": 0, "collective-permute": 0}
