"""Color and noise levels: level 0 is the clip as it is, the draws are independent, the noise is as strong as said. (What it owes as a pretext
task: test_pretext.py.)
"""

import dataclasses

import jax
import numpy as np
import pytest
from scipy import stats as scipy_stats

from tests.objectives.questions import SPEC, TASKS, ask, labels
from tests.train import tiny
from vssl_jax import objectives
from vssl_jax.errors import UserError
from vssl_jax.perturb.appearance import ADJUSTMENTS, AppearanceLevels

TASK = TASKS["appearance_change"]
GRAY = np.array([0.299, 0.587, 0.114])


def flat(color):
    """A batch whose pixels are all of one color."""
    batch = tiny.batches(1, SPEC)[0]
    return dict(batch, video=np.broadcast_to(np.array(color, np.uint8), batch["video"].shape))


def test_level_0_changes_nothing():
    batch = tiny.batches(1, SPEC)[0]
    asked = ask(dataclasses.replace(TASK, levels=AppearanceLevels("saturation", (1.0, 0.5), (0.0, 0.1))), batch)
    clips = batch["video"].reshape(16, 16, 16, 16, 3) / 255
    same = [np.allclose(shown, clip, atol=1e-5) for shown, clip in zip(asked.pieces_QxPxTxHxWx3[:, 0], clips, strict=True)]
    assert same == [tuple(label) == (0, 0) for label in asked.label_QxA] and any(same)


def test_the_amounts_are_those_of_the_levels():
    """Of a flat clip: its mean color shows the factor of saturation, its deviation the noise."""
    color = np.array([140, 100, 120])
    asked = ask(TASK, flat(color))
    gray = color @ GRAY / 255
    for (shown,), (saturation, noise) in zip(asked.pieces_QxPxTxHxWx3, asked.label_QxA, strict=True):
        wanted = gray + (color / 255 - gray) * TASK.levels.color_levels[saturation]
        np.testing.assert_allclose(shown.mean((0, 1, 2)), wanted, atol=0.01)
        assert shown.std(axis=(0, 1, 2)) == pytest.approx(TASK.levels.noise_levels[noise], rel=0.05, abs=1e-4)
    assert len(set(map(tuple, asked.label_QxA))) > 4


def test_noise_is_drawn_for_every_pixel_channel_and_frame_and_clip():
    task = dataclasses.replace(TASK, levels=AppearanceLevels(noise_levels=(0.0, 0.1)))
    asked = ask(task, flat((128, 128, 128)))
    noise = [shown[0] - 128 / 255 for shown, label in zip(asked.pieces_QxPxTxHxWx3, asked.label_QxA, strict=True) if label[1]]
    assert len(noise) > 3
    pairs = [
        (noise[0][0], noise[0][1]),
        (noise[0][:, :8], noise[0][:, 8:]),
        (noise[0][..., 0], noise[0][..., 1]),
        (noise[0], noise[1]),
    ]
    for a, b in pairs:
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 4 / np.sqrt(a.size)


def test_what_leaves_the_range_is_cut_off():
    asked = ask(TASK, flat((0, 255, 128)))
    assert asked.pieces_QxPxTxHxWx3.min() == 0 and asked.pieces_QxPxTxHxWx3.max() == 1


def test_the_two_draws_are_independent():
    found = labels(TASK, 4_000)
    table = np.zeros(TASK.classes)
    np.add.at(table, tuple(found.T), 1)
    assert table.min() > 0 and scipy_stats.chi2_contingency(table).pvalue > 1e-3, table


@pytest.mark.parametrize("color", ADJUSTMENTS)
def test_every_change_has_an_amount_that_changes_nothing(color):
    adjust, nothing = ADJUSTMENTS[color]
    rgb = np.random.default_rng(0).random((2, 4, 4, 3), np.float32)
    np.testing.assert_allclose(jax.jit(adjust)(rgb, nothing), rgb, atol=1e-6)
    assert np.abs(jax.jit(adjust)(rgb, 0.5) - rgb).max() > 0.05


@pytest.mark.parametrize(
    "change",
    [
        {"adjust": "satturation"},
        {"adjust": "hue"},
        {"adjust": "hue", "color_levels": (0.0, 0.5, 1.0)},
        {"color_levels": (0.6, 1.0)},
        {"color_levels": (1.0,)},
        {"noise_levels": (0.1, 0.2)},
        {"noise_levels": (0.0, -0.1)},
        {"noise_levels": (0.0, 0.1, 0.1)},
    ],
)
def test_levels_that_make_no_sense_are_refused(change):
    with pytest.raises(UserError, match=r"saturation|changes nothing|turns of the color wheel"):
        AppearanceLevels(**change)


def test_a_recipe_makes_it():
    view = {"crop": {"name": "whole"}, "flip": 0.0, "color": ()}
    config = {
        "model": {"name": "cnn_small", "frames": 4, "size": 16, "width": 4},
        "objective": {
            "name": "appearance_change", "adjust": "hue", "color_levels": [0.0, 0.5], "noise_levels": [0.0, 0.1, 0.2], "view": view,
            "eval_view": {"crops": 1},
        },
    }  # fmt: skip
    made = objectives.build(config)
    assert (made.classes, made.levels) == ((2, 3), AppearanceLevels("hue", (0.0, 0.5), (0.0, 0.1, 0.2)))
    assert made.caption((1, 2), (0, 2)) == "Hue 0.5, said 0; noise 0.2, said 0.2"
