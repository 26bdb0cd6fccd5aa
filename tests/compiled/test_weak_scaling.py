"""Weak scaling, as far as a program can show it: what devices send under data parallelism, each with the same share of the batch.

The gradients are reduced once, whatever the number of devices; nothing else of any size moves. Real time needs real links. The compiler's own
choice is what is tested: each layer's gradients in one reduction, inside the loop over layers (so that the rest of the backward pass can go on
beside it), and all the rest in one more.
"""

import functools
import importlib.util
import math

import jax
import pytest

from tests.configs import recipes
from vssl_jax import aot, bench_step
from vssl_jax.compiled import account as account_lib
from vssl_jax.compiled import hlo
from vssl_jax.train.loop import lower_plan

ROWS = 2  # of a device
# (recipe, devices): each recipe and the fewest and the most devices once; the other pairs are `slow`.
USUAL = [("finetune_vitb", 2), ("videomae_vitb", 8)]
OTHERS = [("finetune_vitb", 4), ("finetune_vitb", 8), ("videomae_vitb", 2), ("videomae_vitb", 4)]
SCALARS = {"videomae_vitb": 1, "finetune_vitb": 3}  # metrics: the loss; for a classifier how many have a label, and the accuracy
# Reductions besides the layers': one; a classifier needs the number of labels before it has a gradient.
BESIDE = {"videomae_vitb": 1, "finetune_vitb": 2}
# As the compiler goes, without the machine code, whose making takes most of the time.
FAST = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def program(recipe: str, devices, depth: int = 2, options=None, dtype: str = "float32"):
    """(the step's text, bytes of the gradients in float32) for the recipe at toy size."""
    config = recipes.recipe(recipe, "smoke").unlock()
    config.train.batch_size = ROWS * len(devices)
    config.model.depth, config.model.unroll = depth, 1  # in a loop, as a TPU's are
    config.model.dtype = dtype
    plan = bench_step.plan_of(config, devices)
    lowered = lower_plan(plan)
    (step,) = lowered.steps.values()
    with jax.set_mesh(plan.mesh):
        text = step.compile(compiler_options=options).as_text()
    return text, 4 * sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(lowered.state_shapes.params))


@functools.cache
def simulated(recipe: str, devices: int, depth: int = 2):
    return program(recipe, jax.devices()[:devices], depth, FAST)


def instructions(text: str) -> int:
    """Reductions that the program has, a loop's once."""
    module = hlo.parse(text)
    return sum(i.opcode.startswith("all-reduce") for c in module.computations.values() for i in c.instructions.values())


@pytest.mark.parametrize(("recipe", "devices"), [*USUAL, *(pytest.param(*case, marks=pytest.mark.slow) for case in OTHERS)])
def test_gradients_are_reduced_once_and_nothing_else_moves(recipe, devices):
    text, gradients = simulated(recipe, devices)
    (found,) = account_lib.read(text, devices).collectives  # no all-gather, no all-to-all, no reduce-scatter, no permutation
    assert (found.kind, found.group) == ("all-reduce", devices)
    assert found.bytes == gradients + 4 * SCALARS[recipe]
    assert found.count == 2 + BESIDE[recipe]  # two layers


def test_deeper_networks_have_no_more_reductions_in_their_program():
    """A layer's are one, in the loop."""
    (shallow, few), (deep, more) = simulated("videomae_vitb", 8), simulated("videomae_vitb", 8, depth=4)
    assert instructions(shallow) == instructions(deep) == 2
    (found,) = account_lib.read(deep, 8).collectives
    assert found.count == 5 and found.bytes == more + 4 > few


@pytest.mark.tpu
@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="pip install '.[tpu]'")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("recipe", SCALARS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_tpus_compiler_does_the_same(recipe, dtype):
    devices = aot.topology("v5e:2x2")
    text, gradients = program(recipe, devices, dtype=dtype)
    (found,) = account_lib.read(text, 4).collectives
    assert (found.kind, found.group) == ("all-reduce", 4)
    if dtype == "float32":
        assert found.bytes == gradients + 4 * SCALARS[recipe] and found.count == 2 + BESIDE[recipe]
    else:  # gradients of matrices are summed as they come, in bfloat16; those of the norms in float32, in a reduction of their own
        assert gradients / 2 < found.bytes < 0.52 * gradients and found.count <= 2 * (2 + BESIDE[recipe])
