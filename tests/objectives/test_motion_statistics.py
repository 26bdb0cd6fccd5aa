"""Motion and appearance statistics as a task: what is measured, how it is scored. (The numbers: tests/perturb/test_statistics.py; what it owes
as any task: test_pretext.py.)
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.objectives.questions import MEASURED, SPEC, ask
from tests.train import tiny
from vssl_jax import batch as batch_lib
from vssl_jax import objectives
from vssl_jax.errors import UserError
from vssl_jax.models.piece_heads import ConcatHead
from vssl_jax.objectives.pretext import Question
from vssl_jax.perturb import statistics
from vssl_jax.perturb.color import ColorJitter, EachFrame
from vssl_jax.perturb.crop import RandomResizedCrop

ENTROPY = MEASURED["motion_statistics"]
TASK = dataclasses.replace(ENTROPY, error="squares", head=ConcatHead(27))


def cropped(**changes):
    return dataclasses.replace(TASK, view=dataclasses.replace(TASK.view, crop=RandomResizedCrop(area=(0.3, 0.8)), flip=0.5, **changes))


def test_answers_are_measured_after_crop_and_flip_and_before_colors():
    """In what the network gets, as far as it is not colored: measured again in the pieces they are the same, and colors change none of them."""
    tasks = [cropped(), cropped(color=(EachFrame((ColorJitter(0.8, 0.8, 0.8, 0.2),)),))]
    batch = tiny.batches(1, SPEC)[0]
    asked, again = jax.device_get(jax.jit(lambda key: measured_again([task.ask({}, batch, key) for task in tasks]))(jax.random.key(0)))
    plain, colored = asked
    assert len(np.unique(plain.label_QxA, axis=0)) == 16
    assert np.mean(again == plain.label_QxA) > 0.99  # of near ties another program may take the other
    assert np.mean(plain.label_QxA == colored.label_QxA) > 0.99
    assert np.abs(plain.pieces_QxPxTxHxWx3 - colored.pieces_QxPxTxHxWx3).mean() > 0.05


def measured_again(asked):
    return asked, jax.vmap(lambda clip: statistics.numbers(clip, TASK.bins))(asked[0].pieces_QxPxTxHxWx3[:, 0])


def scored(task, logits, labels):
    batch = {batch_lib.WEIGHT: jnp.ones(len(labels))}
    return jax.device_get(jax.jit(task._judge)(logits, Question(jnp.zeros(()), labels), batch))


def test_squares_of_the_numbers_are_weighted_1_and_a_tenth():
    labels = np.tile(np.arange(27, dtype=np.int32) % 2, (2, 1))
    logits = labels + np.where(np.arange(27) < 14, 2.0, 3.0).astype(np.float32)
    loss, metrics = scored(TASK, logits, labels)
    assert loss == pytest.approx(4 + 0.1 * 9)
    assert metrics == pytest.approx({"motion/loss": 4, "motion/accuracy": 0, "appearance/loss": 9, "appearance/accuracy": 0})
    _, metrics = scored(TASK, labels + np.float32(0.4), labels)
    assert metrics["motion/accuracy"] == metrics["appearance/accuracy"] == 1
    assert scored(dataclasses.replace(TASK, motion=0.5, appearance=1.0), logits, labels)[0] == pytest.approx(0.5 * 4 + 9)


def test_cross_entropy_on_zero_logits_is_the_mean_logarithm():
    loss, _ = scored(ENTROPY, np.zeros((2, sum(TASK.classes)), np.float32), np.ones((2, 27), np.int32))
    assert loss == pytest.approx(np.mean(np.log(TASK.classes[:14])) + 0.1 * np.mean(np.log(TASK.classes[14:])))


def test_what_has_no_answer_costs_nothing():
    """A still clip has no motion to be asked for. It is one of the videos all the same: among others of which few move it would else count for more."""
    labels = np.array([[-1] * 14 + [2] * 13, [3] * 14 + [-1] * 13], np.int32)
    logits = np.full((2, 27), 5, np.float32)
    _, metrics = scored(TASK, logits, labels)
    assert (metrics["motion/loss"], metrics["appearance/loss"]) == (4 / 2, 9 / 2)
    nothing = scored(TASK, logits, np.full((2, 27), -1, np.int32))
    assert nothing[0] == 0


def test_predictions_are_numbers_that_there_are():
    said = np.asarray(TASK._said(jnp.array([[-3.0] * 27, [2.4] * 27, [100.0] * 27])))
    assert (said[0] == 0).all() and (said[1] == 2).all() and (said[2] == np.array(TASK.classes) - 1).all()


@pytest.mark.parametrize("change", [{"error": "mse"}, {"bins": 1}, {"frames": 1}, {"view": dataclasses.replace(TASK.view, per="frame")}])
def test_settings_that_make_no_sense_are_refused(change):
    with pytest.raises(UserError, match=r"squares|2 or more|per to clip"):
        dataclasses.replace(TASK, **change)


def test_clips_of_another_length_are_refused():
    with pytest.raises(UserError, match="one of 16 frames, the clips have 15"):
        ask(TASK, tiny.batches(1, dataclasses.replace(SPEC, frames=15))[0])


@pytest.mark.parametrize("error, outputs", [("squares", 27), ("cross_entropy", sum(statistics.classes(4)))])
def test_a_recipe_makes_it(error, outputs):
    view = {"crop": {"name": "whole"}, "flip": 0.0, "color": ()}
    config = {
        "model": {"name": "cnn_small", "frames": 4, "size": 16, "width": 4},
        "objective": {
            "name": "motion_statistics", "error": error, "motion": 2.0, "appearance": 0.5, "bins": 16, "view": view, "eval_view": {"crops": 1},
        },
    }  # fmt: skip
    made = objectives.build(config)
    assert (made.classes, made.head.classes, made.error, made.motion, made.appearance, made.bins) == (
        statistics.classes(4), outputs, error, 2.0, 0.5, 16,
    )  # fmt: skip
