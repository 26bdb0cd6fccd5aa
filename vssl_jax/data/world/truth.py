"""Exact masks and optical flow, from the same poses and the same coverage that the frames are drawn from.

Flow says where the point seen at a pixel goes in the next frame: flow[t, r, c] = (dx, dy) in pixels, x right and y down, the shortest way
round the torus. It is the displacement itself and not a derivative, so warping by it is exact, also for turning and growing and where a
zoom snaps back. The last frame's flow goes to where the action would go on to.
"""

import numpy as np

from vssl_jax.data.world.motion import Pose
from vssl_jax.data.world.render import background_shift, box_of, first_frames, sprite_poses
from vssl_jax.data.world.scene import Scene
from vssl_jax.data.world.spec import WorldSpec


def masks_and_flow(scene: Scene, spec: WorldSpec) -> tuple[np.ndarray, np.ndarray]:
    """What is seen where, and where it goes.

    Returns masks uint8 [T,H,W]: 0 is background and i the i-th sprite in drawing order where it covers more than half of the pixel and
    nothing above it does (the labeled sprite, drawn last, has the highest number); and flow float32 [T,H,W,2].
    """
    masks = np.zeros((scene.frames, spec.size, spec.size), np.uint8)
    shift = _shortest(np.diff(background_shift(scene, spec), axis=0), spec.size)
    flow = np.broadcast_to(shift[:, None, None, :].astype(np.float32), (*masks.shape, 2)).copy()
    for number, sprite in enumerate(scene.sprites, start=1):
        pose = sprite_poses(sprite, spec)
        box = box_of(sprite, first_frames(pose), spec.size)
        covered = box.alpha_Txbxb > 0.5
        t, rows, cols = (np.broadcast_to(part, covered.shape)[covered] for part in box.index)
        masks[t, rows, cols] = number
        flow[t, rows, cols] = _displacement(pose, box.u_Txbxb, box.v_Txbxb, spec.size)[covered]
    return masks, flow


def _displacement(pose: Pose, u: np.ndarray, v: np.ndarray, size: int) -> np.ndarray:
    """float32 [T,b,b,2]: how far the sprite's points (u, v) move from pose t to pose t+1."""
    ax, ay, bx, by = ((pose.scale * part)[:, None, None] for part in (pose.cos, pose.sin, -pose.sin, pose.cos))
    dx, dy = (_shortest(np.diff(center), size)[:, None, None] for center in (pose.x, pose.y))
    ax, ay, bx, by = (np.diff(part, axis=0) for part in (ax, ay, bx, by))
    return np.stack([dx + u * ax + v * bx, dy + u * ay + v * by], axis=-1).astype(np.float32)


def _shortest(displacement: np.ndarray, size: int) -> np.ndarray:
    """The same displacement on the torus, in [-size/2, size/2)."""
    return (displacement + size / 2) % size - size / 2
