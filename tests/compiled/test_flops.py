"""Matrix products and convolutions are counted as the compiler's own analysis counts them, and loops by their turns, which it does not."""

import jax
import jax.numpy as jnp
import pytest

from tests.compiled.programs import account, text
from vssl_jax.compiled import account as account_lib

NDHWC = ("NDHWC", "DHWIO", "NDHWC")


def unoptimized(function, *shapes):
    """XLA's count, before fusions could hide a product from it."""
    return jax.jit(function).lower(*(jax.ShapeDtypeStruct(s, "float32") for s in shapes)).cost_analysis()["flops"]


@pytest.mark.parametrize(
    ("equation", "left", "right", "flops"),
    [
        ("ij,jk->ik", (3, 5), (5, 7), 2 * 3 * 5 * 7),
        ("bij,bkj->bik", (4, 3, 5), (4, 7, 5), 2 * 4 * 3 * 5 * 7),
        ("bnd,dshe->bnshe", (2, 6, 8), (8, 3, 2, 4), 2 * 2 * 6 * 8 * 3 * 2 * 4),
    ],
)
def test_a_matrix_product(equation, left, right, flops):
    assert account(lambda a, b: jnp.einsum(equation, a, b, precision="highest"), left, right).flops == flops


def test_a_loop_counts_every_turn():
    def stack(x, w):
        return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, w)[0]

    one = 2 * 16 * 32 * 32
    assert account(stack, (16, 32), (12, 32, 32)).flops == 12 * one
    # forward, and two products of the same size a layer backward
    assert account(jax.grad(lambda w, x: stack(x, w).sum()), (12, 32, 32), (16, 32)).flops == 3 * 12 * one


def test_loops_in_loops():
    def inner(x, w):
        return jax.lax.scan(lambda x, _: (jnp.tanh(x @ w), None), x, None, length=5)[0], None

    assert account(lambda x, w: jax.lax.scan(inner, x, w)[0], (8, 16), (3, 16, 16)).flops == 15 * 2 * 8 * 16 * 16


CONVOLUTIONS = {
    "same": {"window_strides": (1, 1, 1), "padding": "SAME"},
    "strided": {"window_strides": (2, 2, 1), "padding": "SAME"},
    "valid": {"window_strides": (1, 1, 1), "padding": "VALID"},
    "dilated": {"window_strides": (1, 1, 1), "padding": "SAME", "rhs_dilation": (1, 2, 2)},
    "grouped": {"window_strides": (1, 1, 1), "padding": "SAME", "feature_group_count": 2},
    "transposed": {"window_strides": (1, 1, 1), "padding": [(2, 2)] * 3, "lhs_dilation": (2, 2, 2)},
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
def test_a_convolution_counts_real_positions(name, backward):
    options = CONVOLUTIONS[name]
    inputs = 4 // options.get("feature_group_count", 1)

    def convolve(x, w):
        return jax.lax.conv_general_dilated(x, w, dimension_numbers=NDHWC, **options)

    shapes = (2, 5, 6, 7, 4), (3, 3, 3, inputs, 6)
    function = jax.grad(lambda x, w: convolve(x, w).sum(), argnums=(0, 1)) if backward else convolve
    # XLA counts additions outside of the products too: some of the gradient's.
    assert account(function, *shapes).flops == pytest.approx(unoptimized(function, *shapes), rel=0.02)


def test_padding_is_no_work():
    """A window of 3 in 3 places: 2 + 3 + 2 of the 9 pairs are real."""

    def convolve(x, w):
        return jax.lax.conv_general_dilated(x, w, (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC"))

    assert account(convolve, (1, 3, 4), (3, 4, 8)).flops == 2 * 7 * 4 * 8


KERNEL = """HloModule m

ENTRY %main (p: bf16[2,4,256,64]) -> bf16[2,4,256,64] {
  %p = bf16[2,4,256,64]{3,2,1,0} parameter(0)
  ROOT %NAME.1 = bf16[2,4,256,64]{3,2,1,0} custom-call(%p, %p, %p), custom_call_target="tpu_custom_call", frontend_attributes={kernel_metadata={
"note":"in
}"
}}, backend_config={CONFIG}
}
"""


@pytest.mark.parametrize(
    ("name", "config", "flops", "uncounted"),
    [
        ("splash_mha_fwd_segmented", "", 2 * 2 * 2 * 4 * 256 * 256 * 64, set()),
        ("splash_mha_dkv_no_residuals", "", 4 * 2 * 2 * 4 * 256 * 256 * 64, set()),
        ("mine", '"cost_estimate":{"flops":"123"}', 123, set()),
        ("mine", "", 0, {"tpu_custom_call"}),
    ],
)
def test_a_kernel_states_its_work_or_is_named(name, config, flops, uncounted):
    found = account_lib.read(KERNEL.replace("NAME", name).replace("CONFIG", config))
    assert (found.flops, found.uncounted) == (flops, uncounted)


def test_a_kernel_for_one_example_has_no_batch_and_keys_may_be_more():
    text = """HloModule m

ENTRY %main (t: s8[1,2,8], q: bf16[4,256,64], k: bf16[4,1024,64]) -> bf16[4,256,64] {
  %t = s8[1,2,8]{2,1,0} parameter(0)
  %q = bf16[4,256,64]{2,1,0} parameter(1)
  %k = bf16[4,1024,64]{2,1,0} parameter(2)
  ROOT %splash_mha_fwd.1 = bf16[4,256,64]{2,1,0} custom-call(%t, %q, %k, %k), custom_call_target="tpu_custom_call", backend_config={}
}
"""
    assert account_lib.read(text).flops == 2 * 2 * 4 * 256 * 1024 * 64


def test_the_more_expensive_branch_counts():
    def either(x, w):
        return jax.lax.cond(x[0, 0] > 0, lambda: x @ w @ w, lambda: x)

    assert "conditional" in text(either, (8, 8), (8, 8))
    assert account(either, (8, 8), (8, 8)).flops == 2 * 2 * 8**3
