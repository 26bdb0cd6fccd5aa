"""Pace prediction: the loss at zero logits, labels that are the draw's alone, and a recipe's objective."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.objectives.test_classify import Means
from tests.train import tiny
from vssl_jax import batch as batch_lib
from vssl_jax import objectives, pretrain
from vssl_jax.errors import UserError
from vssl_jax.models.heads import LinearHead
from vssl_jax.objectives.pace import Pace
from vssl_jax.perturb.crop import WholePicture
from vssl_jax.perturb.speed import RandomPace
from vssl_jax.perturb.view import EvalView, RandomView

SPEC = batch_lib.Spec(batch_size=8, clips=2, frames=13, height=16, width=16)
METHOD = Pace(
    encoder=Means(), head=LinearHead(3), classes=3, frames=4, pace=RandomPace((1, 2, 4), 4),
    view=RandomView(size=16, crop=WholePicture(), flip=0.0), eval_view=EvalView(size=16),
)  # fmt: skip


def started():
    return METHOD.init(jax.random.key(0), None)


def test_zero_logits_cost_the_logarithm_of_the_paces():
    params, memory = started()
    params = params | {"head": jax.tree.map(jnp.zeros_like, params["head"])}
    value, (_, metrics) = METHOD.loss(params, memory, tiny.batches(1, SPEC)[0], jax.random.key(0), METHOD.turns[0])
    np.testing.assert_allclose(value, np.log(3), rtol=1e-6)
    assert 0 <= metrics["accuracy"] <= 1


def test_labels_come_from_the_draw_and_not_from_the_video():
    first, other = tiny.batches(2, SPEC)
    other = dict(other, label=np.full(8, -1, np.int32), index=np.arange(8, 16, dtype=np.int32))
    labels = [np.asarray(METHOD.examples(given, jax.random.key(3))[1]) for given in (first, other)]
    np.testing.assert_array_equal(*labels)
    again = np.asarray(METHOD.examples(first, jax.random.key(4))[1])
    assert labels[0].shape == (16,) and (labels[0] != again).any()


def test_unlabeled_videos_count():
    params, memory = started()
    given = dict(tiny.batches(1, SPEC)[0])
    loss = lambda b: METHOD.loss(params, memory, b, jax.random.key(0), METHOD.turns[0])[0]  # noqa: E731
    np.testing.assert_allclose(loss(given), loss(dict(given, label=np.full(8, -1, np.int32))))
    assert batch_lib.LABEL not in METHOD.needs


def test_a_recipe_makes_it():
    view = {"crop": {"name": "whole"}, "flip": 0.0, "color": ()}
    config = {
        "model": {"name": "cnn_small", "frames": 4, "size": 16, "width": 4},
        "objective": {"name": "pace", "paces": (1, 3), "view": view, "eval_view": {"crops": 1}},
    }
    made = objectives.build(config)
    assert (made.classes, made.pace, made.view.size) == (2, RandomPace((1, 3), 4), 16)
    config["objective"]["paces"] = (3,)
    with pytest.raises(UserError, match="paces"):
        objectives.build(config)


def test_its_labels_are_its_own():
    """So the classes of the data are none of its business, and it needs none."""
    assert METHOD.label_classes() is None
    pretrain.check_classes(METHOD, ("a", "b", "c", "d", "e"))
    pretrain.check_classes(METHOD, ())
