"""The recipes of joint-embedding methods: settings of the papers pinned, every full-size recipe checked by shapes, `:local` alike for all."""

import re

import jax
import pytest

from tests.configs.published import CONTRASTIVE, SLOWONLY
from tests.configs.recipes import full_size_loss, recipe, shallow
from vssl_jax import objectives
from vssl_jax.data import world
from vssl_jax.data.decode import picture_size
from vssl_jax.objectives.joint import JointEmbedding
from vssl_jax.perturb.color import ColorJitter, DropChannel, Gamma, Gray, OneOf, Solarize
from vssl_jax.perturb.convolve import RandomConvolution
from vssl_jax.perturb.crop import SquareCrop
from vssl_jax.perturb.erase import Cutout
from vssl_jax.perturb.view import IMAGENET_MEAN, IMAGENET_STD
from vssl_jax.train import optimizer
from vssl_jax.train.sharding import path_name

COLOR = ("jitter", "gray", "blur")
each = pytest.mark.parametrize("name", sorted(CONTRASTIVE))


def plain(value):
    """Groups and lists as dicts and tuples."""
    value = value.to_dict() if hasattr(value, "to_dict") else value
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    return tuple(map(plain, value)) if isinstance(value, list | tuple) else value


@each
def test_published_settings(name):
    c, (network, clips, videos, epochs, warmup, optimizer, head, views, own) = recipe(name), CONTRASTIVE[name]
    own = dict(own)
    s, o = c.data.sampler, c.optimizer
    assert (c.model.name, (c.model.frames, c.model.size), (s.name, s.frames, s.stride)) == network and s.clips == clips
    examples = c.data.num_examples
    wanted = own.pop("examples", 9_537 if "ucf101" in name else 240_436)
    assert (examples, c.train.batch_size, c.train.epochs) == (wanted, videos, epochs)
    assert (c.train.steps, o.warmup_steps) == own.pop("steps", (epochs * examples // videos, warmup * examples // videos))
    assert (o.name, o.learning_rate, o.lr_batch, o.weight_decay) == optimizer and (o.schedule, o.momentum) == (
        own.pop("schedule", "whole_cosine" if network is SLOWONLY or name == "simclr_cvrl50" else "cosine"),
        0.9,
    )
    assert o.nesterov == (network is SLOWONLY or name == "brave_tsm50") and o.decay_all == (o.name == "adam" or name == "moco_v3_vitb")
    assert (tuple(c.objective.head.hidden), c.objective.head.dim) == head
    assert len(objectives.build(c).views) == views
    assert {key: plain(c.objective[key]) for key in own} == own


# Rows of the films that the authors read: a crop of fewer is enlarged.
ROWS = {
    "tclr_r3d18_ucf101": 240,
    "uber_nce_s3d_ucf101": 240,
    "coclr_s3d_ucf101": 240,
    "vie_r3d18": 160,
    "brave_tsm50": 256,
    "simclr_cvrl50": 256,
}


@pytest.mark.parametrize("name", sorted(ROWS))
def test_films_are_as_large_as_the_authors(name):
    film = (240, 320) if name.endswith("ucf101") else (720, 1280)
    assert picture_size(*film, recipe(name).data.canvas, even=True)[0] == ROWS[name]


@pytest.mark.parametrize("name", ["simclr_cvrl50", "brave_tsm50", "moco_slowonly50"])
def test_no_residual_branch_starts_at_0(name):
    """As in the authors' code."""
    encoder = objectives.build(shallow(recipe(name))).encoder
    assert encoder.last_scale == 1.0


def test_svts_schedules_and_views():
    c = recipe("dino_timesformer")
    assert (c.optimizer.final_learning_rate, c.optimizer.weight_decay_final, c.optimizer.clip_norm) == (
        8e-6,
        0.4,
        3.0,
    ) and c.model.drop_path == 0.1
    views = objectives.build(c).views
    assert [(v.frames, v.stride, v.view.size, v.view.crop.area) for v in views] == [(8, 8, 224, (0.4, 1.0))] * 2 + [
        (8, 1, 96, (0.05, 0.4))
    ] * 8
    assert all(v.view.color == (ColorJitter(0.4, 0.4, 0.2, prob=0.8, shuffle=True), Gray(0.2)) for v in views)


def test_tclrs_views_are_a_sparse_clip_and_its_quarters():
    c = recipe("tclr_r3d18_ucf101")
    views = [(v.first, v.frames, v.stride) for v in objectives.build(c).views]
    assert views == [(0, 16, 4)] * 2 + [(16 * part, 16, 1) for part in range(4) for _ in range(2)]
    assert (c.model.last_time_stride, c.model.last_time_dilation) == (1, 2)


def test_tclrs_colors():
    """Of the authors' code: contrast before the others, behind them or not at all; gray or one channel less, or neither; a black box; no normalization."""
    c = recipe("tclr_r3d18_ucf101")
    assert c.optimizer.warmup_steps == 5 * 9537 // 40
    for view in objectives.build(c).views:
        contrast, less, box = view.view.color
        hue, saturation, brightness = ColorJitter(hue=0.1, prob=0.3), ColorJitter(saturation=0.25, prob=0.3), ColorJitter(0.25, prob=0.3)
        first, last, without = contrast.chains
        assert first == (ColorJitter(contrast=0.25), *without) and last == (*without, first[0]) and without == (hue, saturation, brightness)
        assert contrast.probs == (0.125, 0.125, 0.75)
        assert less == OneOf(((Gray(1.0), Gamma((0.75, 1.25), 0.75)), (DropChannel(),)), (0.175, 0.125)) and box == Cutout((9, 18), 0.5)
        assert view.view.crop == SquareCrop((0.6, 1.0)) and (view.view.mean, view.view.std) == ((0.0,) * 3, (1.0,) * 3)


@pytest.mark.parametrize("name", [name for name, row in CONTRASTIVE.items() if row[0] is SLOWONLY])
def test_slowonlys_colors(name):
    """MoCo v2's, in a drawn order."""
    for view in objectives.build(recipe(name)).views:
        jitter, gray, blur = view.view.color
        assert (
            jitter == ColorJitter(0.6, 0.6, 0.6, 0.15, 0.8, shuffle=True)
            and gray == Gray(0.2)
            and (blur.prob, blur.sigma) == (0.5, (0.1, 2.0))
        )


def test_moco_v3s_views_and_what_is_frozen():
    """Of one clip; in blur and solarization they differ as BYOL's do."""
    c = recipe("moco_v3_vitb")
    views = objectives.build(c).views
    for view, blurred, more in zip(views, (1.0, 0.1), ((), (Solarize(0.2),)), strict=True):
        jitter, gray, blur, *rest = view.view.color
        assert (jitter, gray, blur.prob, blur.sigma) == (ColorJitter(0.4, 0.4, 0.2, 0.1, 0.8, shuffle=True), Gray(0.2), blurred, (0.1, 2.0))
        assert (view.clip, view.view.crop.area, view.view.flip) == (0, (0.08, 1.0), 0.5) and tuple(rest) == more
    assert c.objective.head.norm_last and c.optimizer.b2 == 0.999
    params, _ = jax.eval_shape(lambda: objectives.build(c).init(jax.random.key(0), None))
    frozen = [path_name(path) for path, still in jax.tree_util.tree_leaves_with_path(optimizer.frozen(params, c.optimizer.frozen)) if still]
    assert frozen == ["encoder/patch_embed/bias", "encoder/patch_embed/kernel"]


def test_braves_views_and_rates():
    """Of films at 25 frames a second: 16 frames 2 apart, and 64 that are 4 apart."""
    c = recipe("brave_tsm50")
    s, o = c.data.sampler, c.optimizer
    narrow, broad = objectives.build(c).views
    assert [(v.first, v.frames, v.stride * s.stride, v.view.size) for v in (narrow, broad)] == [(-1, 16, 2, 224), (0, 64, 4, 112)]
    assert broad.span == s.frames and s.target_fps == 25
    for view, radius in ((narrow.view, 11), (broad.view, 5)):
        blur, jitter, gray, *_ = view.color
        assert (view.crop.area, view.crop.aspect, view.flip) == ((0.3, 1.0), (0.5, 2.0), 0.5)
        assert (blur.prob, blur.sigma, blur.radius, gray.prob) == (1.0, (0.1, 2.0), radius, 0.2)
        assert (jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue, jitter.prob) == (32 / 255, 0.4, 0.4, 0.2, 0.8)
    assert len(narrow.view.color) == 3 and broad.view.color[3:] == (RandomConvolution(1.0, 11),)
    assert (o.nesterov, o.trust_coefficient, o.final_learning_rate, o.rates.to_dict()) == (True, 0.001, 0.0, {"predictor": 10.0})
    assert (c.model.name, objectives.build(c).encoder.shift, c.objective.head.norm_last) == ("tsm_r50", 1 / 8, True)


def test_cvrls_views_differ_in_blur_and_solarization():
    first, second = objectives.build(recipe("simclr_cvrl50")).views
    assert [op.prob for op in first.view.color] == [0.8, 0.2, 1.0] and [op.prob for op in second.view.color] == [0.8, 0.2, 0.1, 0.2]
    assert (first.view.crop.area, first.view.crop.aspect, first.view.per) == ((0.3, 1.0), (0.5, 2.0), "clip")


def test_vies_turns_rates_and_view():
    c = recipe("vie_r3d18")
    assert [(turn.name, turn.steps) for turn in objectives.build(c).turns] == [("instance", 50_000), ("aggregation", 1_550_000)]
    assert [round(share * c.train.steps) for share in c.optimizer.drops] == [974_946, 1_304_998] and not c.optimizer.by_turn
    (view,) = objectives.build(c).views
    jitter, gray = view.view.color
    assert (jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue, jitter.shuffle, gray.prob) == (0.4, 0.4, 0.4, 0.4, True, 0.3)
    sides = [112 / scale for scale in view.view.crop.scales]
    assert (round(min(sides)), round(max(sides)), len(sides), view.view.crop.places, view.view.flip) == (128, 159, 32, 0, 0.5)


@pytest.mark.parametrize(
    ("name", "mean", "std"),
    [("vie_r3d18", IMAGENET_MEAN, IMAGENET_STD), ("simclr_cvrl50", (0.0,) * 3, (1.0,) * 3), ("moco_slowonly50", (0.45,) * 3, (0.225,) * 3)],
)
def test_pixels_are_normalized_as_the_authors_do(name, mean, std):
    for view in objectives.build(recipe(name)).views:
        assert (view.view.mean, view.view.std) == (mean, std)


REMEMBER = [n for n in sorted(CONTRASTIVE) if "videos" in CONTRASTIVE[n][-1]]


@pytest.mark.parametrize("name", REMEMBER)
def test_the_places_and_the_clustering_follow_the_data(name):
    c = recipe(name)
    with c.unlocked():
        c.data.num_examples, c.train.batch_size = 9537, 32
    assert (c.objective.videos, c.objective.refresh_every) == (9537, 298)
    c.objective.videos = 10_000
    assert (c.data.num_examples, c.objective.refresh_every) == (9537, 298)


@pytest.mark.parametrize("name", REMEMBER)
def test_full_size_clusters_have_the_memorys_shapes(name):
    method = objectives.build(shallow(recipe(name)))
    params, memory = jax.eval_shape(lambda key: method.init(key, None), jax.random.key(0))
    after, _ = jax.eval_shape(method.refresh, params, memory, jax.random.key(0))
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(lambda x: (x.shape, x.dtype), memory)


@pytest.mark.parametrize("name", REMEMBER)
@pytest.mark.parametrize("variant", ["local", "smoke"])
def test_the_embedded_dataset_has_its_places(name, variant):
    c = recipe(name, variant)
    videos = c.data.world_videos or world.find(c.data.world).split_size(c.data.split)
    assert objectives.build(c).places() == videos and c.objective.refresh_every == videos // c.train.batch_size
    assert objectives.build(c).refresh_every < c.train.steps  # it learns something


@pytest.mark.parametrize("name", [n for n in sorted(CONTRASTIVE) if "slowonly" in n])
def test_views_of_the_large_scale_study(name):
    views = objectives.build(recipe(name)).views
    assert [v.clip for v in views] == list(range(len(views))) and recipe(name).data.sampler.target_fps == 30
    for v in views:
        jitter, gray, blur = v.view.color
        assert (jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue, jitter.prob, gray.prob) == (
            0.6,
            0.6,
            0.6,
            0.15,
            0.8,
            0.2,
        )
        assert (blur.prob, blur.sigma, v.view.crop.area, v.view.crop.aspect) == (0.5, (0.1, 2.0), (0.2, 0.766), (0.75, 4 / 3))


@each
def test_full_size_loss_has_its_shapes(name):
    c = recipe(name).unlock()
    if "queue" in c.objective:
        c.objective.queue = 64  # two videos divide it
    state, metrics = full_size_loss(c, videos=2)
    assert metrics["loss"].shape == () and set(state.params) >= {"encoder", "head"} and "collapse/alarm" in metrics


@each
def test_a_batch_divides_the_queue(name):
    c = recipe(name)
    if "queue" in c.objective:
        assert c.objective.queue % c.train.batch_size == 0


@each
def test_local_is_the_same_for_every_method(name):
    c, other = recipe(name, "local"), recipe("rotation_r3d18", "local")
    for group in ("model", "optimizer", "eval", "checkpoint", "guard"):
        assert c[group].to_dict() == other[group].to_dict()
    assert c.train.to_dict() == other.train.to_dict() | {"knn_every": 250}
    assert isinstance(objectives.build(c), JointEmbedding) and c.data.sampler.frames <= 32  # the videos of the world
    assert all(view.view.flip == 0 for view in objectives.build(c).views)


def test_coclrs_settings_and_turns():
    c, e = recipe("coclr_s3d_ucf101"), 9537 // 64
    o, s = c.objective, c.data.sampler
    assert (c.model.name, c.model.frames, c.model.size, s.frames, s.stride, s.clips) == ("s3d", 32, 128, 33, 1, 2)
    assert (o.queue, o.temperature, o.mined, o.drop_own, o.siblings, o.average.decay, o.flow_of) == (
        2048,
        0.07,
        5,
        0.9,
        True,
        0.999,
        "film",
    )
    jitter = {"name": "jitter", "brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1, "prob": 0.8, "shuffle": True}
    channel = {"name": "one_of", "chains": (({"name": "each_frame", "chain": ({"name": "one_channel"},)},),), "probs": (0.2,)}
    color = (jitter, channel, {"name": "blur", "prob": 0.5, "sigma": (0.1, 2.0)})
    assert [plain(view) for view in o.views] == [
        {"crop": {"name": "random_resized", "area": (0.2, 1.0)}, "flip": 0.5, "color": color, "clip": clip} for clip in (0, 1)
    ]
    assert plain(o.pairing) == plain(recipe("uber_nce_s3d_ucf101").objective.pairing) == {"one_clip": 0.5, "colored": 0.3}
    assert objectives.build(c).pairing and not objectives.build(recipe("coclr_s3d_ucf101", "local")).pairing
    assert (tuple(o.head.hidden), o.head.dim, o.head.norm) == ((1024,), 128, False)
    assert (c.optimizer.name, c.optimizer.learning_rate, c.optimizer.lr_batch, c.optimizer.weight_decay) == ("adam", 1e-3, 0, 1e-5)
    assert c.optimizer.decay_all and (tuple(c.model.pixel_mean), tuple(c.model.pixel_std)) == (IMAGENET_MEAN, IMAGENET_STD)
    assert (c.optimizer.by_turn, tuple(c.optimizer.drops), c.train.batch_size) == (True, (0.8,), 64)
    turns = objectives.build(c).turns
    lasting = [("rgb_nce", 300 * e), ("flow_nce", 300 * e)] + 2 * [("rgb", 100 * e), ("flow", 100 * e)]
    assert [(t.name, t.steps) for t in turns] == lasting and c.train.steps == sum(t.steps for t in turns)


def test_coclrs_turns_follow_the_epochs():
    c = recipe("coclr_s3d_ucf101").unlock()
    c.train.epochs, c.data.num_examples, c.train.batch_size = 10, 640, 64
    assert [turn.steps for turn in objectives.build(c).turns] == [30, 30, 10, 10, 10, 10] and c.train.steps == 100


@each
def test_clips_of_evaluation_are_as_fast_as_those_of_training(name):
    """DINO's as those that its teacher sees, which take not every frame."""
    c = recipe(name)
    apart = c.objective.views[0]["stride"] if c.objective.name == "dino" else 1
    for split in (c.eval.train, c.eval.test):
        assert all(split.sampler[key] == c.data.sampler[key] for key in ("target_fps", "pad"))
        assert split.sampler.stride == apart * c.data.sampler.stride
    assert recipe(name, "local").eval.test.sampler.target_fps == 0


@pytest.mark.parametrize("variant", ["", "local", "smoke"])
def test_coclrs_turns_fill_the_training_once(variant):
    c = recipe("coclr_s3d_ucf101", variant)
    assert sum(turn.steps for turn in objectives.build(c).turns) == c.train.steps and c.objective.queue % c.train.batch_size == 0


def test_coclrs_full_size_step_has_its_shapes():
    """With a small network: its own is that of another recipe, which is checked with it."""
    c = recipe("coclr_s3d_ucf101").unlock()
    assert c.model.to_dict() == recipe("uber_nce_s3d_ucf101").model.to_dict()
    c.model.name = "r3d10_vcop"
    c.objective.flow = {"scales": 1, "warps": 1, "outer": 1, "inner": 1}  # shapes are the same
    state, metrics = full_size_loss(c, videos=2)
    assert metrics["loss"].shape == () and set(state.params) == {"encoder", "head", "flow_encoder", "flow_head"}


def test_ucf101s_recordings():
    """Four or more clips of each recording, whose names differ in the last number."""
    pattern = recipe("coclr_s3d_ucf101").data.group
    assert re.search(pattern, "videos/ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi")[1] == "v_ApplyEyeMakeup_g08"
