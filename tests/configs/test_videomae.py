"""The VideoMAE recipes: published hyper-parameters pinned, every full-size recipe checked by shapes, every `:smoke` of the same keys."""

import jax
import pytest

from tests.configs.recipes import full_size_loss, names, recipe
from vssl_jax import config as config_lib
from vssl_jax.errors import UserError

# (backbone, epochs, batch, stride, mask ratio, base rate, parameters of the whole method)
PUBLISHED = {
    "videomae_vits": ("vit_small", 1600, 1024, 4, 0.9, 1.5e-4),
    "videomae_vitb": ("vit_base", 800, 2048, 4, 0.9, 1.5e-4),
    "videomae_vitl": ("vit_large", 1600, 512, 4, 0.9, 1.5e-4),
    "videomae_vith": ("vit_huge", 1600, 1024, 4, 0.9, 1.5e-4),
    "videomae_vits_ssv2": ("vit_small", 2400, 2048, 2, 0.9, 1.5e-4),
    "videomae_vitb_ssv2": ("vit_base", 800, 2048, 2, 0.9, 1.5e-4),
    "videomae_vitl_ssv2": ("vit_large", 2400, 512, 2, 0.9, 1.5e-4),
    "videomae_vith_ssv2": ("vit_huge", 2400, 1024, 2, 0.9, 1.5e-4),
    "videomae_vitb_ucf101": ("vit_base", 3200, 192, 4, 0.75, 3e-4),
}
# Not published as a whole: V2's network with VideoMAE's masks. (remat and mesh as `vssl_jax.aot` finds that it fits)
OWN = ("videomae_vitg",)
DECODERS = {"vit_small": (192, 4, 3), "vit_base": (384, 4, 6), "vit_large": (512, 12, 8), "vit_huge": (640, 12, 8)}


def test_every_recipe_is_listed():
    assert names("videomae") == sorted([*PUBLISHED, *OWN])


def test_the_giant_is_v2s_network_with_videomaes_masks():
    c = recipe("videomae_vitg")
    state, metrics = full_size_loss(c, videos=4)
    sizes = {part: sum(x.size for x in jax.tree.leaves(tree)) for part, tree in state.params.items()}
    width, hidden, depth = 1408, 6144, 40
    block = 4 * width * width + 3 * width + 2 * width * hidden + hidden + width + 4 * width  # keys have no bias
    assert sizes["encoder"] == 1176 * width + width + depth * block + 2 * width == 1_011_610_752
    assert (c.objective.decoder.width, c.objective.decoder.depth, c.objective.decoder.heads) == (512, 4, 8)
    assert (c.objective.mask_ratio, c.train.batch_size, c.optimizer.learning_rate, c.optimizer.clip_norm) == (0.9, 2048, 6e-4, 0.02)
    assert (c.mesh.data, c.mesh.fsdp, c.model.remat, tuple(c.model.tubelet)) == (-1, 64, "dots", (2, 14, 14))
    assert metrics["loss"].shape == ()


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_published_hyper_parameters(name):
    backbone, epochs, batch, stride, ratio, rate = PUBLISHED[name]
    c = recipe(name)
    assert (c.model.name, c.train.epochs, c.train.batch_size, c.data.sampler.stride) == (backbone, epochs, batch, stride)
    assert (c.objective.mask_ratio, c.optimizer.learning_rate, c.optimizer.final_learning_rate) == (ratio, rate, 1e-5)
    assert (c.model.frames, c.model.size, tuple(c.model.tubelet), c.data.sampler.frames) == (16, 224, (2, 16, 16), 16)
    assert c.data.sampler.pad
    assert (c.optimizer.b1, c.optimizer.b2, c.optimizer.eps, c.optimizer.weight_decay) == (0.9, 0.95, 1e-8, 0.05)
    assert (c.optimizer.start_learning_rate, c.optimizer.clip_norm, c.optimizer.lr_batch, c.optimizer.schedule) == (0.0, 0.0, 256, "cosine")
    assert (c.objective.view.flip, tuple(c.objective.view.color), c.objective.view.crop.name) == (0.0, (), "multiscale")
    assert (c.objective.decoder.width, c.objective.decoder.depth, c.objective.decoder.heads) == DECODERS[backbone]
    assert c.objective.normalize_target
    assert c.train.steps == epochs * c.data.num_examples // batch
    assert c.optimizer.warmup_steps == 40 * c.data.num_examples // batch


def test_steps_follow_what_the_command_line_overrides():
    c = recipe("videomae_vitb")
    c.train.batch_size = 64
    assert c.train.steps == 800 * 240_436 // 64
    c.train.epochs = 2
    assert c.train.steps == 2 * 240_436 // 64
    c.train.steps = 7
    assert (c.train.steps, c.train.batch_size) == (7, 64)


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_full_size_loss_has_its_shapes(name):
    c = recipe(name)
    state, metrics = full_size_loss(c, videos=4)
    assert metrics["loss"].shape == ()
    if c.model.name == "vit_base":
        assert sum(x.size for x in jax.tree.leaves(state.params)) == 94_210_944


@pytest.mark.parametrize("name", sorted(PUBLISHED))
@pytest.mark.parametrize("variant", ["smoke", "local"])
def test_variants_have_the_keys_of_the_recipe(name, variant):
    full, small = recipe(name), recipe(name, variant)
    assert set(config_lib.paths(full)) <= set(config_lib.paths(small)) | {f"objective.decoder.{k}" for k in full.objective.decoder}
    assert small.data.source == "embedded"
    assert small.is_locked


def test_unknown_variant_names_the_known():
    with pytest.raises(UserError, match="smoke"):
        recipe("videomae_vitb", "smok")


def test_unknown_key_is_refused():
    with pytest.raises(AttributeError):
        recipe("videomae_vitb").train.step = 3
