"""The fine-tuning recipes: published hyper-parameters pinned, every full-size recipe checked by shapes."""

import jax
import pytest

from tests.configs.recipes import full_size_loss, names, recipe
from vssl_jax import config as config_lib
from vssl_jax import objectives
from vssl_jax.perturb.erase import RandomErase
from vssl_jax.perturb.mix import NoMix
from vssl_jax.perturb.randaugment import RandAugment

# (backbone, classes, videos, epochs, batch, of them per GPU, base rate, final rate, layer decay, drop path, dropout): the scripts of the authors' repository
PUBLISHED = {
    "finetune_vits": ("vit_small", 400, 240_436, 150, 384, 12, 5e-4, 1e-6, 0.75, 0.1, 0.0),
    "finetune_vitb": ("vit_base", 400, 240_436, 75, 384, 6, 5e-4, 1e-6, 0.75, 0.1, 0.0),
    "finetune_vitl": ("vit_large", 400, 240_436, 35, 128, 2, 2e-3, 1e-6, 0.75, 0.1, 0.0),
    "finetune_vith": ("vit_huge", 400, 240_436, 50, 512, 8, 1e-3, 1e-5, 0.75, 0.2, 0.5),
    "finetune_vits_ssv2": ("vit_small", 174, 168_913, 40, 384, 12, 1e-3, 1e-6, 0.7, 0.1, 0.0),
    "finetune_vitb_ssv2": ("vit_base", 174, 168_913, 30, 384, 6, 5e-4, 1e-6, 0.75, 0.1, 0.0),
    "finetune_vitb_ucf101": ("vit_base", 101, 9_537, 100, 128, 16, 5e-4, 1e-5, 0.7, 0.2, 0.5),
}


def test_every_recipe_is_listed():
    assert names("finetune") == sorted(PUBLISHED)


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_published_hyper_parameters(name):
    backbone, classes, videos, epochs, batch, per_gpu, rate, final, decay, path, dropout = PUBLISHED[name]
    c = recipe(name)
    assert (c.model.name, c.model.drop_path, c.model.final_norm, tuple(c.initial.drop)) == (backbone, path, False, ("norm",))
    assert (c.objective.classes, c.objective.head.dropout, c.objective.smoothing) == (classes, dropout, 0.1)
    assert (c.train.batch_size, c.train.steps, c.optimizer.warmup_steps) == (batch, epochs * videos // batch, 5 * videos // batch)
    assert (c.optimizer.learning_rate, c.optimizer.final_learning_rate, c.optimizer.lr_batch) == (rate, final, 256)
    assert (c.optimizer.b1, c.optimizer.b2, c.optimizer.weight_decay, c.optimizer.layer_decay) == (0.9, 0.999, 0.05, decay)
    assert c.optimizer.start_learning_rate == 0.0 and c.optimizer.clip_norm == 0.0
    assert dict(c.objective.mix) == {"mixup": 0.8, "cutmix": 1.0, "prob": 1.0, "switch": 0.5, "group": 2 * per_gpu}
    assert c.data.sampler.pad and c.eval.test.sampler.pad
    something = name.endswith("ssv2")
    assert c.objective.view.flip == (0.0 if something else 0.5), "left and right are classes of Something-Something"
    assert (c.data.sampler.name, c.data.sampler.frames, c.data.sampler.clips) == ("segments" if something else "dense", 16, 2)
    assert something or c.data.sampler.stride == 4
    tested = c.eval.test.sampler
    assert (tested.name, tested.clips, c.eval.classifier.view.crops) == (("segment_views", 2, 3) if something else ("views", 5, 3))


def test_the_augmentation_is_the_papers():
    randaugment, erase = objectives.build(recipe("finetune_vitb")).view.color
    assert randaugment == RandAugment(layers=4, magnitude=7.0, magnitude_std=0.5, prob=0.5)  # rand-m7-n4-mstd0.5-inc1
    assert isinstance(erase, RandomErase) and (erase.prob, erase.area) == (0.25, (0.02, 1 / 3))
    crop = objectives.build(recipe("finetune_vitb")).view.crop
    assert (crop.area, crop.aspect) == ((0.08, 1.0), (3 / 4, 4 / 3))


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_full_size_loss_has_its_shapes(name):
    c = recipe(name)
    state, metrics = full_size_loss(c, videos=c.objective.mix.group // 2)
    assert metrics["accuracy"].shape == ()
    if name == "finetune_vitb":  # the count of transformers' classification model
        assert sum(x.size for x in jax.tree.leaves(state.params)) == pytest.approx(86.535e6, rel=1e-5)


@pytest.mark.parametrize("name", sorted(PUBLISHED))
@pytest.mark.parametrize("variant", ["smoke", "local"])
def test_variants_have_the_keys_of_the_recipe(name, variant):
    full, small = recipe(name), recipe(name, variant)
    left_out = {f"objective.mix.{key}" for key in full.objective.mix}
    assert set(config_lib.paths(full)) <= set(config_lib.paths(small)) | left_out
    assert objectives.build(small).mix == NoMix() and objectives.build(small).view.color == ()
    assert small.data.source == small.eval.test.source == "embedded" and small.is_locked
