"""Where a sprite is at a phase. A path is a closed loop, and a direction is which way the phase runs along it.

The pose is a function of an integer phase, and phase(t) = offset + direction * t, modulo the number of phases. So the film of one
direction, played backwards, is the film of the other direction from another offset, to the last bit. Offsets are uniform: no frame, no set
of frames, no sound tells which. Every path starts and ends (phase 0) at the sprite's resting pose, so actions can be chained without a
jump.

x runs right and y down; turns grow clockwise as seen on the screen. The picture is a torus: what leaves on one side comes in on the other.
"""

import math
from dataclasses import dataclass

import numpy as np

STILL = "still"


@dataclass(frozen=True)
class Path:
    """A loop: how often it winds round the torus in x and y, or that it orbits, spins or zooms; and the words for its two directions."""

    kind: str  # 'slide', 'orbit', 'spin', 'zoom' or 'still'
    forward: str
    backward: str
    winding: tuple[int, int] = (0, 0)


PATHS: dict[str, Path] = {
    "slide-horizontal": Path("slide", "right", "left", (1, 0)),
    "slide-vertical": Path("slide", "down", "up", (0, 1)),
    "slide-diagonal": Path("slide", "down-right", "up-left", (1, 1)),
    "slide-antidiagonal": Path("slide", "up-right", "down-left", (1, -1)),
    "slide-shallow": Path("slide", "right-slightly-down", "left-slightly-up", (2, 1)),
    "slide-steep": Path("slide", "down-slightly-right", "up-slightly-left", (1, 2)),
    "slide-antishallow": Path("slide", "right-slightly-up", "left-slightly-down", (2, -1)),
    "slide-antisteep": Path("slide", "up-slightly-right", "down-slightly-left", (1, -2)),
    "orbit": Path("orbit", "clockwise", "counterclockwise"),
    "spin": Path("spin", "clockwise", "counterclockwise"),
    "zoom": Path("zoom", "in", "out"),
}


def class_name(path: str, direction: int) -> str:
    """The class of a path (key of PATHS) and a direction (+1 or -1), as 'slide-right'."""
    return f"{PATHS[path].kind}-{PATHS[path].forward if direction > 0 else PATHS[path].backward}"


def class_names(path: str) -> tuple[str, str]:
    """The forward and the backward class of a path."""
    return class_name(path, 1), class_name(path, -1)


CLASS_ACTIONS: dict[str, tuple[str, int]] = {class_name(path, k): (path, k) for path in PATHS for k in (1, -1)}


@dataclass(frozen=True)
class Action:
    """A path gone along in a direction (+1, -1) for some frames, from the phase `offset`."""

    path: str
    direction: int
    frames: int
    offset: int = 0

    def phases(self, num_phases: int, extra: int = 0) -> np.ndarray:
        """int64 [frames + extra]: the phase at each frame."""
        return (self.offset + self.direction * np.arange(self.frames + extra)) % num_phases

    def reversed(self) -> "Action":
        """The action whose frames are these, last to first."""
        return Action(self.path, -self.direction, self.frames, self.offset + self.direction * (self.frames - 1))


@dataclass(frozen=True)
class Rest:
    """A sprite's pose at phase 0 (pixels, turns), and the circle it runs when it orbits."""

    x: float
    y: float
    turn: float
    orbit_radius: float
    orbit_turn: float  # where on the circle phase 0 is


@dataclass(frozen=True)
class Pose:
    """Poses of a sprite, one per frame, float64 [T]: center in pixels on the torus, (cos, sin) of its angle, size relative to rest."""

    x: np.ndarray
    y: np.ndarray
    cos: np.ndarray
    sin: np.ndarray
    scale: np.ndarray


def circle(turns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """cos and sin of angles in turns, rounded to 9 digits: libraries differ in the last bit of a sine, and pixels must not."""
    points = [(round(math.cos(math.tau * t), 9), round(math.sin(math.tau * t), 9)) for t in turns.tolist()]
    return np.array([c for c, _ in points]), np.array([s for _, s in points])


def _along(name: str, phases: np.ndarray, rest: Rest, size: int, num_phases: int) -> tuple[np.ndarray, ...]:
    """(x, y, turn, scale) at the phases; at phase 0 it is the resting pose whatever the path."""
    u = phases / num_phases
    x, y, turn, scale = (np.full(len(u), value) for value in (rest.x, rest.y, rest.turn, 1.0))
    if name == STILL:
        return x, y, turn, scale
    path = PATHS[name]
    if path.kind == "slide":
        x, y = x + path.winding[0] * size * u, y + path.winding[1] * size * u
    elif path.kind == "orbit":
        cos, sin = circle(np.append(u, 0.0) + rest.orbit_turn)
        x, y = x + rest.orbit_radius * (cos[:-1] - cos[-1]), y + rest.orbit_radius * (sin[:-1] - sin[-1])
    elif path.kind == "spin":
        turn = turn + u
    elif path.kind == "zoom":  # grows by 2 in a loop from 2^-1/2 and snaps back; half a loop in, at phase 0, it is 1
        scale = np.array([round(2.0 ** ((value + 0.5) % 1.0 - 0.5), 9) for value in u.tolist()])
    else:
        raise ValueError(f"path {name!r} has kind {path.kind!r}")
    return x, y, turn, scale


def poses(actions: tuple[Action, ...], rest: Rest, size: int, num_phases: int) -> Pose:
    """The poses of a row of actions: one per frame and one more, where the last action would go on to."""
    parts = []
    for i, action in enumerate(actions):
        phases = action.phases(num_phases, extra=1 if i == len(actions) - 1 else 0)
        parts.append(_along(action.path, phases, rest, size, num_phases))
    x, y, turn, scale = (np.concatenate(values) for values in zip(*parts, strict=True))
    cos, sin = circle(turn)
    return Pose(x % size, y % size, cos, sin, scale)
