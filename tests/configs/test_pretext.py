"""The recipes of pretext tasks: settings of the papers pinned, every full-size recipe checked by shapes, `:local` alike for all."""

import pytest

from tests.configs.published import CONTRASTIVE, DPC, PRETEXT
from tests.configs.recipes import full_size_loss, recipe
from tests.models import cnn3d
from vssl_jax import objectives
from vssl_jax.data.decode import picture_size
from vssl_jax.errors import UserError
from vssl_jax.objectives.encoder import OnEncoder
from vssl_jax.perturb.color import ColorJitter, EachFrame, Gray
from vssl_jax.perturb.view import IMAGENET_MEAN, IMAGENET_STD

# What keeps a task from being answered without looking at motion or content, and what else its paper does to the picture:
# recipe -> (crop, its side's share, flip, what shares a crop, rows of the film, the rest of the view and of the task)
GUARDS = {
    "appearance_change_r3d18": ("multiscale", 0.875, 0.5, "clip", 128, {}),  # no colors: they are the question
    "clip_order_r3d10_ucf101": ("multiscale", 0.875, 0.0, "clip", 128, {}),
    "cubic_puzzle_r3d18": ("center", 1.0, 0.5, "video", 256, {"color": "one_channel"}),
    "frame_order_c3d_ucf101": (
        "multiscale",
        1 / 3,
        0.5,
        "video",
        240,
        {"color": "one_channel", "shift": 5 / 80, "by_motion": True, "dropout": 0.5},
    ),
    "jigsaw_r3d18": ("multiscale", 0.875, 0.5, "video", 256, {"picture": 224, "gap": 8, "hidden": 512, "dropout": 0.5}),
    "motion_statistics_r3d10_ucf101": ("multiscale", 0.875, 0.5, "clip", 128, {}),
    "odd_one_out_r3d18_ucf101": ("multiscale", 0.875, 0.5, "clip", 128, {"hidden": 128, "dropout": 0.5}),
    "order_verification_c3d_ucf101": ("whole", 1.0, 0.0, "video", 128, {"by_motion": True, "dropout": 0.0}),
    "pace_r2plus1d10": ("multiscale", 0.875, 0.5, "clip", 128, {"color": "each_frame"}),
    "playback_rate_r3d10_ucf101": ("center", 0.875, 0.0, "clip", 128, {}),
    "relative_speed_r2plus1d10": ("random_resized", (0.4, 1.0), 0.5, "clip", 256, {"color": "gray, jitter", "weights": (1.0, 1.0)}),
    "rotation_r3d18": ("multiscale", 0.875, 0.5, "clip", 128, {}),
    "speediness_s3dg": ("multiscale", 0.875, 0.5, "video", 256, {}),
    "temporal_transform_r3d18_ucf101": ("multiscale", 0.5, 0.5, "clip", 256, {"color": "each_frame"}),
}
# Whose authors' code decays all parameters.
PYTORCH = (
    "clip_order_r3d10_ucf101", "motion_statistics_r3d10_ucf101", "pace_r2plus1d10", "playback_rate_r3d10_ucf101", "relative_speed_r2plus1d10",
    "rotation_r3d18",
)  # fmt: skip
each = pytest.mark.parametrize("name", sorted(PRETEXT))


@each
def test_published_settings(name):
    c, (model, clip, dense, videos, epochs, rate, decay, drops, own) = recipe(name), PRETEXT[name]
    assert (c.model.name, (c.model.frames, c.model.size), (c.data.sampler.frames, c.data.sampler.stride)) == (model, clip, dense)
    own = {"optimizer": "sgd"} | own
    steps = epochs * c.data.num_examples // videos if epochs else own.pop("steps")
    assert (c.train.batch_size, c.train.epochs, c.train.steps) == (videos, epochs, steps)
    o = c.optimizer
    assert o.decay_all == (name in PYTORCH)
    assert (o.name, o.learning_rate, o.weight_decay, o.lr_batch, tuple(o.drops)) == (own.pop("optimizer"), rate, decay, 0, drops)
    assert (o.schedule, o.momentum) == (own.pop("schedule", "steps" if drops else "none"), 0.9)
    assert {key: tuple(v) if isinstance(v := c.objective[key], list | tuple) else v for key in own} == own


@each
def test_guards_of_the_papers(name):
    crop, share, flip, per, rows, own = GUARDS[name]
    c = recipe(name)
    view, given = c.objective.view.to_dict(), c.objective.view.crop.to_dict()
    side = given.get("area") or given.get("fraction") or given.get("scales", (1.0,))[0]
    assert (given["name"], side) == (crop, share)
    if crop == "multiscale":  # of one size, anywhere, not stretched
        assert (len(given["scales"]), given["distort"], given["places"]) == (1, 0, 0)
    assert (view["flip"], view.get("per", "clip"), c.data.canvas[0], c.data.sampler.pad) == (flip, per, rows, False)
    film = (240, 320) if name.endswith("ucf101") else (720, 1280)
    assert picture_size(*film, c.data.canvas, even=True)[0] == min(rows, film[0])  # as whole as these methods read it
    colors = ", ".join(op["name"] for op in view["color"])
    assert (colors, view.get("shift", 0.0)) == (own.pop("color", ""), own.pop("shift", 0.0))
    assert {key: tuple(v) if isinstance(v := c.objective[key], list | tuple) else v for key in own} == own


@pytest.mark.parametrize("variant", ["", "local", "smoke"])
@pytest.mark.parametrize("name", ["frame_order_c3d_ucf101", "order_verification_c3d_ucf101"])
def test_there_is_room_to_look_for_motion(name, variant):
    c = recipe(name, variant)
    assert c.objective.by_motion and c.data.sampler.frames > objectives.build(c).span


def test_rates_that_end_above_0():
    """In the authors' code of RSPNet and of temporal transformations."""
    ends = {name: (recipe(name).optimizer.final_learning_rate, recipe(name).optimizer.b2) for name in PRETEXT}
    assert ends.pop("relative_speed_r2plus1d10")[0] == 1e-4 and ends.pop("temporal_transform_r3d18_ucf101") == (3e-7, 0.99)
    assert {rate for rate, _ in ends.values()} == {0.0}


@each
def test_full_size_loss_has_its_shapes(name):
    c = recipe(name).unlock()
    if c.model.name == "s3d_g":
        assert cnn3d.TABLE[c.model.name][1] == (c.model.frames, c.model.size)  # there it sees clips of this size
        c.model.name = "r3d10_vcop"
    state, metrics = full_size_loss(c, videos=2)
    assert metrics["loss"].shape == () and set(state.params) >= {"encoder", "head"}


@each
def test_local_is_the_same_for_every_task(name):
    c, other = recipe(name, "local"), recipe("clip_order_r3d10_ucf101", "local")
    for group in ("model", "train", "optimizer", "eval", "checkpoint", "guard"):
        assert c[group].to_dict() == other[group].to_dict()
    assert {k: v for k, v in c.data.to_dict().items() if k != "sampler"} == {
        k: v for k, v in other.data.to_dict().items() if k != "sampler"
    }
    assert (c.data.sampler.stride, c.data.sampler.pad) == (1, False)
    assert isinstance(objectives.build(c), OnEncoder)
    assert c.data.sampler.frames <= 32  # the videos of the world


@each
def test_an_unknown_variant_is_refused(name):
    with pytest.raises(UserError, match="local"):
        recipe(name, "locl")


def test_every_task_has_a_recipe():
    joint = {recipe(name).objective.name for name in (*CONTRASTIVE, *DPC)}
    assert {recipe(name).objective.name for name in PRETEXT} == set(objectives.OBJECTIVES) - {"classify", "videomae", "coclr"} - joint


@pytest.mark.parametrize(
    ("name", "color"),
    [
        ("pace_r2plus1d10", (EachFrame((ColorJitter(0.8, 0.8, 0.8, 0.2, 0.8, shuffle=True),)),)),
        ("temporal_transform_r3d18_ucf101", (EachFrame((ColorJitter(32 / 255, saturation=0.5, shuffle=True), Gray(0.2))),)),
        ("relative_speed_r2plus1d10", (Gray(0.2), ColorJitter(0.4, 0.4, 0.4, 0.4, shuffle=True))),
    ],
)
def test_colors_of_the_authors_code(name, color):
    assert objectives.build(recipe(name)).view.color == color


@pytest.mark.parametrize(
    ("name", "mean", "std"),
    [
        ("relative_speed_r2plus1d10", IMAGENET_MEAN, IMAGENET_STD),
        ("temporal_transform_r3d18_ucf101", (0.5,) * 3, (0.5,) * 3),
        ("pace_r2plus1d10", (0.0,) * 3, (1.0,) * 3),
    ],
)
def test_pixels_of_the_authors_code(name, mean, std):
    view = objectives.build(recipe(name)).view
    assert (view.mean, view.std) == (mean, std)
