"""Turns of a loop: noted, counted in steps, behind fusions; where the text does not tell, one turn counts, and the loop is named."""

import jax
import jax.numpy as jnp
import pytest

from tests.compiled.programs import account, text
from vssl_jax.compiled import hlo
from vssl_jax.compiled.loops import trip_count

# A ring that counts two parts a turn, its sum behind a fusion, as the compiler writes a product beside the passing of its matrix.
RING = """HloModule m

%sum (c: u32[], s: u32[]) -> u32[] {
  %c = u32[] parameter(0)
  %s = u32[] parameter(1)
  ROOT %a = u32[] add(%c, %s)
}

%body (b: (f32[4], u32[])) -> (f32[4], u32[]) {
  %b = (f32[4]{0}, u32[]) parameter(0)
  %x = f32[4]{0} get-tuple-element(%b), index=0
  %i = u32[] get-tuple-element(%b), index=1
  %two = u32[] constant(STEP)
  %next = u32[] fusion(%i, %two), kind=kLoop, calls=%sum
  ROOT %t = (f32[4]{0}, u32[]) tuple(%x, %next)
}

%condition (d: (f32[4], u32[])) -> pred[] {
  %d = (f32[4]{0}, u32[]) parameter(0)
  %j = u32[] get-tuple-element(%d), index=1
  %end = u32[] constant(END)
  ROOT %l = pred[] compare(%j, %end), direction=LT
}

ENTRY %main (p: f32[4], q: u32[]) -> (f32[4], u32[]) {
  %p = f32[4]{0} parameter(0)
  %q = u32[] parameter(1)
  %zero = u32[] constant(START)
  %near = u32[]{:S(6)} copy(%zero)
  %values = (f32[4]{0}, u32[]) tuple(%p, COUNTER)
  ROOT %w = (f32[4]{0}, u32[]) while(%values), condition=%condition, body=%body
}
"""


def turns(program: str) -> int:
    module = hlo.parse(program)
    loops = [(i, c) for c in module.computations.values() for i in c.instructions.values() if i.opcode == "while"]
    ((loop, computation),) = loops
    return trip_count(loop, computation, module)


def ring(start=0, end=8, step=2, counter="%near") -> str:
    return RING.replace("START", str(start)).replace("END", str(end)).replace("STEP", str(step)).replace("COUNTER", counter)


@pytest.mark.parametrize(("start", "end", "step", "expected"), [(0, 8, 2, 4), (0, 8, 1, 8), (1, 8, 2, 4), (0, 7, 3, 3), (8, 8, 1, 0)])
def test_a_counter_from_a_start_in_steps(start, end, step, expected):
    assert turns(ring(start, end, step)) == expected


def test_a_scan():
    assert turns(text(lambda x: jax.lax.scan(lambda c, _: (jnp.tanh(c @ c), None), x, None, length=7)[0], (8, 8))) == 7


@pytest.mark.parametrize(
    "program",
    [ring(counter="%q"), ring(step=0), ring().replace("direction=LT", "direction=NE")],
    ids=["from a value", "no step", "another comparison"],
)
def test_an_unknown_length(program):
    assert turns(program) is None


def test_a_loop_that_ends_by_its_data_counts_once_and_is_named():
    def until(x):
        return jax.lax.while_loop(lambda x: x[0, 0] < 100, lambda x: x @ x, x)

    assert turns(text(until, (8, 8))) is None
    found = account(until, (8, 8))
    assert found.flops == 2 * 8**3 and [name.split("/")[-1] for name in found.open_ended] == ["while"]
    assert account(lambda x: jnp.tanh(x @ x), (8, 8)).open_ended == frozenset()
