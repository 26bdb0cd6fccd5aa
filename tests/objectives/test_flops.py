"""The FLOPs that MFU stands on are those of the program: of a step's loss and gradients at full size, the matrix products within 1 %, and
XLA's own count, which has normalization, softmax, GELU and the loss too, within 2 %.

Both are of the program before optimization, unrolled (XLA counts the body of a loop once), with attention by plain products, and less the
crop, whose resampling is matrix products of its own.
"""

import jax
import jax.numpy as jnp
import pytest

from tests.configs import recipes
from vssl_jax import batch as batch_lib
from vssl_jax import objectives
from vssl_jax.compiled import account as account_lib
from vssl_jax.perturb import keys as keys_lib

PLAIN = {"scan": False, "impl": "xla", "remat": "none", "dtype": "float32"}


def config_of(name: str, **changes):
    config = recipes.recipe(name).unlock()
    config.model.update(PLAIN)
    frames, size = config.model.frames, config.model.size
    config.data.update({"layout": "rgb", "canvas": (size, size)})
    config.data.sampler.update({"frames": frames, "clips": 1})
    config.objective.view = {"crop": {"name": "whole"}, "flip": 0.0, "color": ()}
    for key, value in changes.items():
        config.objective[key] = value
    return config


def pace_on_a_transformer(backbone: str):
    config = config_of("videomae_vitb")
    config.model.name = backbone
    config.data.sampler.frames = 2 * config.model.frames
    config.objective = {"name": "pace", "paces": (1, 2), "view": config.objective.view, "eval_view": config.objective.eval_view}
    return config


CASES = {
    **{name: lambda name=name: config_of(name) for name in recipes.names("videomae")},
    **{name: lambda name=name: config_of(name, mix={}) for name in recipes.names("finetune")},
    "frozen encoder": lambda: config_of("finetune_vitb", mix={}, freeze=True),
    "pace on ViT-B": lambda: pace_on_a_transformer("vit_base"),
}


def counts(function, *shapes) -> tuple[float, float]:
    """FLOPs of the matrix products, and XLA's count."""
    lowered = jax.jit(function).lower(*shapes)
    text = lowered.compiler_ir("hlo").get_hlo_module().to_string()
    return account_lib.read(text).flops, lowered.cost_analysis()["flops"]


@pytest.mark.parametrize("case", CASES)
def test_the_analytic_count_is_xlas(case):
    config = CASES[case]()
    objective, data = objectives.build(config), config.data
    shapes = batch_lib.Spec(1, 1, data.sampler.frames, *data.canvas, data.layout).shapes()
    batch = shapes | {batch_lib.SLOT: jax.ShapeDtypeStruct((1,), jnp.int32)}
    params, memory = jax.eval_shape(lambda b: objective.init(jax.random.key(0), b), batch)
    (turn,) = objective.turns
    trained = {part: params[part] for part in (turn.trains or params)}

    def loss(trained, params, memory, batch):
        return objective.loss(params | trained, memory, batch, jax.random.key(0), turn)[0]

    whole = counts(jax.grad(loss), trained, params, memory, batch)
    crop = counts(lambda batch: objective.view(keys_lib.example_keys(jax.random.key(0), batch, keys_lib.VIEW), batch), batch)
    products, xla = (a - b for a, b in zip(whole, crop, strict=True))
    assert objective.flops(1) == pytest.approx(
        products, rel=0.01
    )  # it counts a gradient of the pixels, half a percent, which nobody asks for
    assert objective.flops(1) == pytest.approx(xla, rel=0.02)


def test_every_objective_on_a_transformer_is_among_the_cases():
    names = {CASES[case]().objective.name for case in CASES}
    assert names == set(objectives.OBJECTIVES), "add the new objective's case, and its flops"
