"""The steps of a video: which action runs from when to when. Each is a whole number of loops in step videos; other videos have one."""

from dataclasses import dataclass

from vssl_jax.data.world import motion
from vssl_jax.data.world.scene import Scene
from vssl_jax.data.world.spec import WorldSpec


@dataclass(frozen=True)
class Step:
    """An action from `start` to `end`, in seconds from the first frame; `name` is one of the world's classes."""

    start: float
    end: float
    name: str


def steps(scene: Scene, spec: WorldSpec) -> tuple[Step, ...]:
    """The steps in order: they touch, and cover the video."""
    out, frame = [], 0
    for action in scene.target.actions:
        out.append(Step(frame / spec.fps, (frame + action.frames) / spec.fps, motion.class_name(action.path, action.direction)))
        frame += action.frames
    return tuple(out)
