"""The soundtrack: a struck tone each time the labeled sprite flashes. It tells the event's time and the sprite's texture, and nothing of
the motion.

The phase of the event is random for each video, and the offset of the motion too, so the tone's time is uniform and independent of path and
direction, also together with any one frame. Its pitch belongs to the texture. Picture and sound together tell when things happen (the
flash), not which way they go.
"""

import numpy as np

from vssl_jax.data.world.draws import Draws
from vssl_jax.data.world.scene import SOUND, Scene
from vssl_jax.data.world.spec import WorldSpec
from vssl_jax.data.world.textures import sine

PITCHES = {"striped": 440.0, "plaid": 660.0, "spotted": 990.0, "marbled": 1485.0, "photographic": 550.0}  # Hz, fifths apart
DECAY = 0.2  # seconds from the stroke to silence
ATTACK = 0.004
LOUDNESS = 0.5
HISS = 0.002  # standard deviation of the noise under it, so that no spectrum is log(0)


def onsets(scene: Scene, spec: WorldSpec) -> tuple[float, ...]:
    """When it sounds, in seconds from the first frame: the times of the frames that flash."""
    return tuple((np.flatnonzero(scene.target_phases(spec.phases) == scene.event) / spec.fps).tolist())


def soundtrack(scene: Scene, spec: WorldSpec) -> np.ndarray:
    """float32 [n] in -1..1, as long as the frames."""
    length = scene.frames * spec.sample_rate // spec.fps
    audio = Draws(*scene.key, SOUND, 0).noise((length,)) * np.float32(HISS)
    seconds = (np.arange(int(DECAY * spec.sample_rate)) / spec.sample_rate).astype(np.float32)
    fade = 1 - seconds / np.float32(DECAY)
    envelope = np.minimum(seconds / np.float32(ATTACK), 1) * (fade * fade * fade)
    tone = np.float32(LOUDNESS) * envelope * sine(np.float32(PITCHES[scene.target.texture]) * seconds)
    for onset in onsets(scene, spec):
        start = round(onset * spec.sample_rate)
        audio[start : start + len(tone)] += tone[: length - start]
    return audio
