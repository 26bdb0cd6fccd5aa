"""Pace prediction: every p-th frame, and a recipe's objective. (What it owes as a pretext task: test_pretext.py.)"""

import numpy as np
import pytest

from tests.objectives.questions import SPEC, TASKS, ask
from tests.train import tiny
from vssl_jax import objectives
from vssl_jax.errors import UserError
from vssl_jax.perturb.speed import RandomPace


def test_the_frames_are_an_arithmetic_progression_whose_step_is_the_label():
    batch = tiny.batches(1, SPEC)[0]
    batch["video"] = np.broadcast_to(np.arange(16, dtype=np.uint8).reshape(1, 1, 16, 1, 1, 1), batch["video"].shape)
    asked = ask(TASKS["pace"], batch)
    frames = np.rint(asked.pieces_QxPxTxHxWx3[:, 0, :, 0, 0, 0] * 255).astype(int)
    np.testing.assert_array_equal(np.diff(frames), np.repeat(np.array([1, 2, 4])[asked.label_QxA], 3, axis=1))


def test_a_recipe_makes_it():
    view = {"crop": {"name": "whole"}, "flip": 0.0, "color": ()}
    config = {
        "model": {"name": "cnn_small", "frames": 4, "size": 16, "width": 4},
        "objective": {"name": "pace", "paces": (1, 3), "view": view, "eval_view": {"crops": 1}},
    }
    made = objectives.build(config)
    assert (made.classes, made.pace, made.view.size) == ((2,), RandomPace((1, 3), 4), 16)
    config["objective"]["paces"] = (3,)
    with pytest.raises(UserError, match="paces"):
        objectives.build(config)
    assert TASKS["pace"].caption((2,), (0,)) == "Pace 4, said 1"
