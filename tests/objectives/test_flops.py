"""The FLOPs that MFU stands on are those of the program: of a step's loss and gradients at full size, the matrix products within 1 %, and
XLA's own count, which has normalization, softmax, GELU and the loss too, within 2 %.

Both are of the program before optimization, unrolled (XLA counts the body of a loop once), with attention by plain products, and less what
makes the input: crops and resized pieces are matrix products of their own.
"""

import jax
import jax.numpy as jnp
import pytest

from configs.tables import methods
from tests.configs import published, recipes
from vssl_jax import batch as batch_lib
from vssl_jax import objectives
from vssl_jax.compiled import account as account_lib
from vssl_jax.models import conv3d
from vssl_jax.objectives.coclr import CoCLR
from vssl_jax.objectives.dpc import DPC
from vssl_jax.objectives.joint import JointEmbedding
from vssl_jax.objectives.pretext import Pretext
from vssl_jax.perturb import keys as keys_lib

PLAINLY = {"crop": {"name": "whole"}, "flip": 0.0, "color": ()}  # of a view: what makes the input is taken away again
PLAIN = {"unroll": 99, "impl": "xla", "remat": "none", "dtype": "float32"}


def config_of(name: str, **changes):
    config = recipes.recipe(name).unlock()
    config.model.update(PLAIN)
    frames, size = config.model.frames, config.model.size
    config.data.update({"layout": "rgb", "canvas": (size, size)})
    config.data.sampler.update({"frames": frames, "clips": 1})
    config.objective.view = dict(PLAINLY)
    for key, value in changes.items():
        config.objective[key] = value
    return config


def pretext_on(backbone: str, task: str):
    """A task as its paper has it, its network replaced by a transformer for clips of the same size."""
    config = recipes.recipe(methods.PRETEXT[task]).unlock()
    clips = {"frames": config.model.frames, "size": config.model.size}
    config.model = {"name": backbone, **PLAIN, **clips}
    config.data.layout = "rgb"
    config.objective.view = dict(PLAINLY)
    return config


def joint_on(backbone: str, name: str):
    """As `pretext_on`, with views of one size: of others a transformer's work is not counted, but for BraVe, which has a network for each."""
    config = recipes.recipe(name).unlock()
    clips = {"frames": config.model.frames, "size": config.model.size}
    config.model = {"name": backbone, **PLAIN, **clips}
    config.data.layout = "rgb"
    views = [view | PLAINLY for view in config.objective.views]
    if config.objective.name == "brave":
        config.model.any_size = True
    else:
        views = [view for view in views if "size" not in view]
    config.objective.views = tuple(views)
    if "queue" in config.objective:
        config.objective.queue = 64
    if "flow" in config.objective:
        config.objective.flow = {"scales": 1, "warps": 1, "outer": 1, "inner": 1}  # little, since what it costs is taken away again
    return config


def predictive_on(backbone: str, name: str):
    """As `pretext_on`, with blocks of 4 frames: a transformer cuts clips into pairs."""
    config = recipes.recipe(name).unlock()
    config.model = {"name": backbone, **PLAIN, "frames": 4, "size": config.model.size}
    config.data.layout = "rgb"
    config.objective.view = dict(PLAINLY)
    return config


CASES = {
    **{name: lambda name=name: config_of(name) for name in recipes.names("videomae")},
    **{name: lambda name=name: config_of(name, mix={}) for name in recipes.names("finetune")},
    "frozen encoder": lambda: config_of("finetune_vitb", mix={}, freeze=True),
    **{f"{task} on ViT-B": lambda task=task: pretext_on("vit_base", task) for task in methods.PRETEXT},
    **{f"{name} on ViT-B": lambda name=name: joint_on("vit_base", name) for name in (*published.CONTRASTIVE, "coclr_s3d_ucf101")},
    **{f"{name} on ViT-B": lambda name=name: predictive_on("vit_base", name) for name in published.DPC},
}


def counts(function, *shapes) -> tuple[float, float]:
    """FLOPs of the matrix products, and XLA's count."""
    lowered = jax.jit(function).lower(*shapes)
    text = lowered.compiler_ir("hlo").get_hlo_module().to_string()
    return account_lib.read(text).flops, lowered.cost_analysis()["flops"]


def seen_in_turn(objective, turn, batch):
    """Both views by the network whose turn it is; where it learns from the other, that one's of the second."""
    rgb, flow = ([objective.see, objective.see_flow][:: -1 if "flow" in turn.name else 1][i](batch, jax.random.key(0)) for i in (0, 1))
    return rgb if turn.name.endswith("nce") else (rgb, flow[1])


def inputs_of(objective, turn):
    """What makes the encoder's input: a pretext task's pieces, the views or blocks that are compared, or the view."""
    if isinstance(objective, CoCLR):
        return lambda memory, batch: seen_in_turn(objective, turn, batch)
    if isinstance(objective, JointEmbedding | DPC):
        return lambda memory, batch: objective.see(batch, jax.random.key(0))
    if isinstance(objective, Pretext):
        return lambda memory, batch: objective.ask(memory, batch, jax.random.key(0))
    return lambda memory, batch: objective.view(keys_lib.example_keys(jax.random.key(0), batch, keys_lib.VIEW), batch)


# One for each way of counting; the others, which share it, are `slow`.
USUAL = (
    "videomae_vitb", "finetune_vitb", "frozen encoder", "clip_order on ViT-B", "playback_rate on ViT-B", "moco_slowonly50 on ViT-B",
    "dpc_r3d18 on ViT-B",
)  # fmt: skip


@pytest.mark.parametrize("case", [case if case in USUAL else pytest.param(case, marks=pytest.mark.slow) for case in CASES])
def test_the_analytic_count_is_xlas(case, monkeypatch):
    monkeypatch.setattr(conv3d, "choose", lambda *_: "direct")  # a CPU's derivative of a kernel multiplies padding, too
    config = CASES[case]()
    objective, data = objectives.build(config), config.data
    shapes = batch_lib.Spec(1, data.sampler.clips, data.sampler.frames, *data.canvas, data.layout).shapes()
    batch = shapes | {batch_lib.SLOT: jax.ShapeDtypeStruct((1,), jnp.int32)}
    params, memory = jax.eval_shape(lambda b: objective.init(jax.random.key(0), b), batch)
    found = {turn: of_turn(objective, turn, params, memory, batch) for turn in set(objective.turns)}
    steps = sum(turn.steps for turn in objective.turns)
    products, xla = (sum(turn.steps * found[turn][i] for turn in objective.turns) / steps for i in (0, 1))
    # It counts a gradient of the pixels, half a percent, which nobody asks for.
    assert objective.flops(data.sampler.clips) == pytest.approx(products, rel=0.01)
    assert objective.flops(data.sampler.clips) == pytest.approx(xla, rel=0.02)


def of_turn(objective, turn, params, memory, batch) -> list[float]:
    """FLOPs of the products and XLA's count, of a turn's loss and gradient, less the input's."""
    trained = {part: params[part] for part in (turn.trains or params)}

    def loss(trained, params, memory, batch):
        return objective.loss(params | trained, memory, batch, jax.random.key(0), turn)[0]

    whole = counts(jax.grad(loss), trained, params, memory, batch)
    return [a - b for a, b in zip(whole, counts(inputs_of(objective, turn), memory, batch), strict=True)]


def test_every_objective_on_a_transformer_is_among_the_cases():
    names = {CASES[case]().objective.name for case in CASES}
    assert names == set(objectives.OBJECTIVES), "add the new objective's case, and its flops"
