"""From a scene to frames. All frames of a sprite are drawn at once, in a box that moves with it, so the cost is that of the sprite and not
of the picture."""

import math
from dataclasses import dataclass

import numpy as np

from vssl_jax.data.world import motion
from vssl_jax.data.world.draws import Draws
from vssl_jax.data.world.motion import Pose
from vssl_jax.data.world.scene import NOISE, Scene, Sprite
from vssl_jax.data.world.spec import WorldSpec


@dataclass(frozen=True)
class Box:
    """A sprite's surroundings in each frame, b x b pixels: where they are, how far they are covered, and which point of the sprite each one
    shows."""

    rows_Txb: np.ndarray  # int64, wrapped
    cols_Txb: np.ndarray
    alpha_Txbxb: np.ndarray  # float32, 0..1
    u_Txbxb: np.ndarray  # float32, the sprite's own coordinates, in pixels at scale 1
    v_Txbxb: np.ndarray

    @property
    def index(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Indexes an array [T,H,W,...] at the box's pixels: [T,b,b,...]."""
        return np.arange(len(self.rows_Txb))[:, None, None], self.rows_Txb[:, :, None], self.cols_Txb[:, None, :]


def box_of(sprite: Sprite, pose: Pose, size: int) -> Box:
    """Where a sprite is in each frame of its poses, on a torus of size x size pixels. Pixel (row r, column c) has its center at (x=c,
    y=r)."""
    reach = math.ceil(sprite.radius * sprite.outline.reach * float(pose.scale.max())) + 1
    if 2 * reach + 2 > size:
        raise ValueError(f"a sprite of radius {sprite.radius} px reaches {reach} px: it would overlap itself in {size} px")
    steps = np.arange(-reach, reach + 2)
    left, top = (np.floor(center).astype(np.int64)[:, None] + steps for center in (pose.x, pose.y))
    dx = (left - pose.x[:, None]).astype(np.float32)[:, None, :]
    dy = (top - pose.y[:, None]).astype(np.float32)[:, :, None]
    scale = pose.scale.astype(np.float32)[:, None, None]
    cos, sin = (value.astype(np.float32)[:, None, None] / scale for value in (pose.cos, pose.sin))
    u, v = cos * dx + sin * dy, cos * dy - sin * dx  # the turn undone, the scale divided out
    r = np.sqrt(u * u + v * v)
    safe = np.maximum(r, np.float32(1e-6))
    edge = np.float32(sprite.radius) * sprite.outline.radius(u / safe, v / safe)
    alpha = np.clip((edge - r) * scale + np.float32(0.5), 0, 1)
    return Box(top % size, left % size, alpha, u, v)


def sprite_poses(sprite: Sprite, spec: WorldSpec) -> Pose:
    """The poses of a sprite [T+1]: the last is where it would be in the frame after the video."""
    return motion.poses(sprite.actions, sprite.rest, spec.size, spec.phases)


def first_frames(pose: Pose) -> Pose:
    """Poses without the last one."""
    return Pose(pose.x[:-1], pose.y[:-1], pose.cos[:-1], pose.sin[:-1], pose.scale[:-1])


def background_shift(scene: Scene, spec: WorldSpec) -> np.ndarray:
    """float64 [T+1, 2]: how far the background has moved, (x, y) in pixels on the torus."""
    if scene.drift is None:
        return np.zeros((scene.frames + 1, 2))
    pose = motion.poses((scene.drift,), motion.Rest(0.0, 0.0, 0.0, 0.0, 0.0), spec.size, spec.phases)
    return np.stack([pose.x, pose.y], axis=1)


def render_clean(scene: Scene, spec: WorldSpec) -> np.ndarray:
    """The frames without pixel noise, float32 [T,H,W,3] in 0..1."""
    y, x = np.mgrid[: spec.size, : spec.size].astype(np.float32)
    if scene.drift is None:
        still = scene.background.sample(x, y)
        frames = np.repeat(still[None], scene.frames, axis=0)
    else:
        shift = background_shift(scene, spec)[:-1].astype(np.float32)
        frames = np.stack([scene.background.sample((x - dx) % spec.size, (y - dy) % spec.size) for dx, dy in shift])
    for sprite in scene.sprites:
        box = box_of(sprite, first_frames(sprite_poses(sprite, spec)), spec.size)
        color = sprite.surface.sample(box.u_Txbxb, box.v_Txbxb)
        if sprite is scene.target:
            lit = scene.target_phases(spec.phases) == scene.event
            color[lit] += np.float32(spec.flash) * (1 - color[lit])
        below = frames[box.index]
        frames[box.index] = below + box.alpha_Txbxb[..., None] * (color - below)
    return frames


def render(scene: Scene, spec: WorldSpec) -> np.ndarray:
    """The frames, uint8 [T,H,W,3], RGB: bit-identical on every machine."""
    frames = render_clean(scene, spec) * np.float32(255)
    if spec.noise > 0:
        frames += Draws(*scene.key, NOISE, 0).noise(frames.shape) * np.float32(255 * spec.noise)
    return np.clip(np.rint(frames, out=frames), 0, 255, out=frames).astype(np.uint8)
