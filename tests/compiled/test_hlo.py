"""The text of a program is read whole, and refused where it cannot be."""

import jax
import jax.numpy as jnp
import pytest

from tests.compiled.programs import text
from vssl_jax.compiled import hlo
from vssl_jax.compiled.hlo import Shape


def test_every_instruction_of_a_real_program_is_read():
    def function(x):
        return jax.lax.scan(lambda c, _: (jnp.sort(jnp.tanh(c @ c)), c.sum()), x, None, length=3)

    program = text(function, (8, 8))
    module = hlo.parse(program)
    lines = [line for line in program.splitlines() if line.startswith("  ") and " = " in line]
    assert sum(len(c.instructions) for c in module.computations.values()) == len(lines) > 10
    for computation in module.computations.values():
        assert computation.root.root
        for instruction in computation.instructions.values():
            assert all(operand in computation.instructions for operand in instruction.operands)
            assert all(name in module.computations for names in instruction.called.values() for name in names)


@pytest.mark.parametrize(("dtype", "bits"), [("pred", 8), ("s4", 4), ("bf16", 16), ("f32", 32), ("f8e4m3fn", 8), ("c64", 64), ("token", 0)])
def test_bits(dtype, bits):
    assert hlo.bits(dtype) == bits
    assert Shape(dtype, (3, 5)).bytes == -(-15 * bits // 8)


def test_shapes_have_their_memory():
    line = (
        '  %a = (f32[2,3]{1,0:T(8,128)S(1)}, /*index=1*/bf16[4]{0:T(1024)(2,1)}, u32[]{:S(2)}) copy-start(%b), metadata={op_name="x/(y)"}'
    )
    found = hlo._instruction(line)
    assert (found.name, found.opcode, found.operands) == ("a", "copy-start", ("b",))
    assert found.shapes == (Shape("f32", (2, 3), 1), Shape("bf16", (4,), 0), Shape("u32", (), 2))


def test_what_is_no_program_is_refused():
    with pytest.raises(ValueError, match="no ENTRY"):
        hlo.parse("nothing of the kind")
