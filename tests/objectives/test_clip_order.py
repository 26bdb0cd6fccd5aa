"""Clip order: the label's order undoes the question, bit for bit."""

import dataclasses

import numpy as np
import pytest

from tests.objectives.questions import SPEC, TASKS, ask
from tests.train import tiny
from vssl_jax import batch as batch_lib
from vssl_jax.errors import UserError
from vssl_jax.perturb import pieces
from vssl_jax.perturb.crop import RandomResizedCrop

TASK = TASKS["clip_order"]


def test_the_inverse_of_the_labels_order_gives_the_clip_back():
    batch = tiny.batches(1, SPEC)[0]
    asked = ask(TASK, batch)
    videos = batch["video"].reshape(16, 16, 16, 16, 3)
    starts = set()
    for clip, shown, (label,) in zip(videos, np.rint(asked.pieces_QxPxTxHxWx3 * 255).astype(np.uint8), asked.label_QxA, strict=True):
        back = shown[np.argsort(pieces.permutations(3)[label])]
        start = next(s for s in range(3) if np.array_equal(clip[s : s + 4], back[0]))
        wanted = [clip[start + i * 5 : start + i * 5 + 4] for i in range(3)]  # gaps of one frame
        np.testing.assert_array_equal(back, wanted)
        starts.add(start)
    assert starts == {0, 1, 2}  # 14 frames of 16


def test_clips_that_are_too_short_are_refused():
    short = dataclasses.replace(SPEC, frames=13)
    with pytest.raises(UserError, match="span 14 frames, the clips have 13: raise"):
        ask(TASK, tiny.batches(1, short)[0])


@pytest.mark.parametrize("change", [{"count": 1}, {"count": 6}, {"gap": -1}])
def test_settings_that_make_no_sense_are_refused(change):
    with pytest.raises(UserError, match=r"objective\.(count is [16]: it must be from 2 to 5|gap is -1: it must be 0 or more)"):
        dataclasses.replace(TASK, **change)


def test_each_piece_has_a_crop_of_its_own():
    spec = batch_lib.Spec(batch_size=4, clips=1, frames=16, height=24, width=24)
    view = dataclasses.replace(TASK.view, crop=RandomResizedCrop(area=(0.2, 0.6)), flip=0.0)
    asked = ask(dataclasses.replace(TASK, view=view, gap=0), still(tiny.batches(1, spec)[0]))
    assert all(not np.array_equal(question[0], question[1]) for question in asked.pieces_QxPxTxHxWx3)
    together = dataclasses.replace(view, per="video")
    asked = ask(dataclasses.replace(TASK, view=together, gap=0), still(tiny.batches(1, spec)[0]))
    assert all(np.array_equal(question[0], question[1]) for question in asked.pieces_QxPxTxHxWx3)


def still(batch):
    """Every frame is the first."""
    return dict(batch, video=np.broadcast_to(batch["video"][:, :, :1], batch["video"].shape))
