"""3DRotNet: quarter turns that can be undone, all four of every clip."""

import dataclasses

import numpy as np
import pytest

from tests.objectives.questions import SPEC, TASKS, ask
from tests.train import tiny
from vssl_jax.errors import UserError


@pytest.mark.parametrize("name", ["rotation", "rotation_drawn"])
def test_turned_back_by_the_label_it_is_the_clip(name):
    batch = tiny.batches(1, SPEC)[0]
    asked = ask(TASKS[name], batch)
    each = len(asked.label_QxA) // 16
    clips = np.repeat(batch["video"].reshape(16, 16, 16, 16, 3), each, axis=0)
    for clip, (shown,), (label,) in zip(clips, np.rint(asked.pieces_QxPxTxHxWx3 * 255), asked.label_QxA, strict=True):
        np.testing.assert_array_equal(np.rot90(shown, -label, axes=(1, 2)), clip)
    if each == 4:
        np.testing.assert_array_equal(asked.label_QxA[:, 0], np.tile(np.arange(4), 16))


def test_a_view_that_is_not_square_is_refused():
    with pytest.raises(UserError, match="square"):
        dataclasses.replace(TASKS["rotation"], view=dataclasses.replace(TASKS["rotation"].view, size=(16, 24)))
