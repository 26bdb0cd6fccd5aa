"""One video with all that is known about it, made in memory: what the files hold, and the truths that files cannot."""

from dataclasses import dataclass

import numpy as np

from vssl_jax.data.world import captions, render, sound, truth
from vssl_jax.data.world.scene import draw_scene, label_of
from vssl_jax.data.world.spec import WorldSpec
from vssl_jax.data.world.steps import Step, steps


@dataclass(frozen=True)
class Sample:
    """A video and its truths. Times are in seconds from the first frame."""

    frames_TxHxWx3: np.ndarray  # uint8, RGB, before the codec
    label: int  # of spec.classes; -1 in step videos
    caption: str
    counterpart: str  # the caption with the direction reversed
    audio: np.ndarray  # float32 [n], spec.sample_rate
    onsets: tuple[float, ...]  # when it sounds
    steps: tuple[Step, ...]
    masks_TxHxW: np.ndarray  # uint8: 0 background, else the sprite's number; the labeled sprite has the highest
    flow_TxHxWx2: np.ndarray  # float32: (dx, dy) in pixels to the next frame, see truth.py


def video(spec: WorldSpec, split: str, index: int) -> Sample:
    """Video `index` of a split ('train', 'validation', 'test'): a pure function, bit-identical everywhere."""
    scene = draw_scene(spec, split, index)
    masks, flow = truth.masks_and_flow(scene, spec)
    return Sample(
        frames_TxHxWx3=render.render(scene, spec),
        label=label_of(spec, split, index),
        caption=captions.caption(scene),
        counterpart=captions.counterpart(scene),
        audio=sound.soundtrack(scene, spec),
        onsets=sound.onsets(scene, spec),
        steps=steps(scene, spec),
        masks_TxHxW=masks,
        flow_TxHxWx2=flow,
    )
