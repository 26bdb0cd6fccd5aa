"""Bytes to and from memory: an operand once, a slice as a slice, an update in place as its part, and nothing for what stays on the chip."""

import jax
import jax.numpy as jnp
import pytest

from tests.compiled.programs import account
from vssl_jax.compiled import account as account_lib


def test_a_product_reads_both_and_writes_one():
    assert account(lambda a, b: a @ b, (64, 32), (32, 16)).traffic_bytes == 4 * (64 * 32 + 32 * 16 + 64 * 16)


def test_a_fusion_reads_and_writes_its_ends_only():
    size = 4 * 1024
    assert account(lambda x: jnp.tanh(x * 2 + 1) ** 3, (1024,)).traffic_bytes == 2 * size


def test_a_scan_reads_each_layer_once():
    """Not the whole stack in every turn, which would be 64 times as much."""
    layers, width = 64, 128

    def stack(x, w):
        return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, w)[0]

    weights = 4 * layers * width * width
    found = account(stack, (8, width), (layers, width, width)).traffic_bytes
    assert weights <= found < 4 * weights  # a copy of the slice at most (two ways), and little activations


def test_a_scan_writes_each_output_once():
    steps, size = 256, 4 * 4096

    def outputs(x):
        return jax.lax.scan(lambda x, _: (x + 1, x), x, None, length=steps)[1]

    found = account(outputs, (4096,)).traffic_bytes
    assert steps * size <= found < 8 * steps * size  # the stack in every turn: 256 x 256


MOVES = """HloModule m

%body (a: f32[12,1000], i: s32[]) -> f32[1,1000] {
  %a = f32[12,1000]{1,0} parameter(0)
  %i = s32[] parameter(1)
  %z = s32[] constant(0)
  ROOT %s = f32[1,1000]{1,0:S(1)} dynamic-slice(%a, %i, %z), dynamic_slice_sizes={1,1000}
}

%outer (b: f32[12,1000], j: s32[]) -> f32[1,1000] {
  %b = f32[12,1000]{1,0} parameter(0)
  %j = s32[] parameter(1)
  ROOT %f = f32[1,1000]{1,0:S(1)} fusion(%b, %j), kind=kLoop, calls=%body
}

ENTRY %main (p: f32[12,1000], k: s32[]) -> f32[1,1000] {
  %p = f32[12,1000]{1,0} parameter(0)
  %k = s32[] parameter(1)
  %sliced = f32[1,1000]{1,0:S(1)} fusion(%p, %k), kind=kLoop, calls=%outer
  %start = (f32[12,1000]{1,0:S(1)}, f32[12,1000]{1,0}, u32[]{:S(2)}) copy-start(%p)
  %near = f32[12,1000]{1,0:S(1)} copy-done(%start)
  %room = f32[12,1000]{1,0} custom-call(), custom_call_target="AllocateBuffer"
  ROOT %out = f32[1,1000]{1,0} add(%sliced, %sliced)
}
"""


def test_memory_on_the_chip_is_free_and_the_copy_to_it_is_not():
    """The slice of a stack through two fusions (4000 bytes and an index), the whole stack copied once (48000), the sum written (4000)."""
    assert account_lib.read(MOVES).traffic_bytes == pytest.approx(4000 + 48000 + 4000, abs=8)
    # besides: the slice written (4000), the copy written (48000), the slice read by the sum (2 x 4000)
    assert account_lib.touched_bytes(MOVES) == pytest.approx(4000 + 48000 + 4000 + 4000 + 48000 + 8000, abs=8)


def test_a_slice_on_its_way_is_the_slice():
    text = """HloModule m

ENTRY %main (p: f32[12,1000]) -> f32[3,1000] {
  %p = f32[12,1000]{1,0} parameter(0)
  %start = ((f32[12,1000]{1,0}), f32[3,1000]{1,0:S(1)}, s32[]{:S(2)}) slice-start(%p), slice={[3:6], [0:1000]}
  ROOT %near = f32[3,1000]{1,0:S(1)} slice-done(%start)
}
"""
    assert account_lib.read(text).traffic_bytes == 12000
    assert account_lib.read(text.replace(":S(1)", "")).traffic_bytes == 24000
