"""All that one video shows, before a pixel is drawn. What things look like and which way they go come from separate streams of random
numbers.

The labels run through all classes in random order, block by block, so the first n videos of a split are balanced for any n.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np

from vssl_jax.data.world import images, motion, shapes, textures
from vssl_jax.data.world.draws import Draws
from vssl_jax.data.world.motion import Action, Rest
from vssl_jax.data.world.shapes import Outline
from vssl_jax.data.world.spec import WorldSpec, split_number
from vssl_jax.data.world.textures import Gratings, Patch
from vssl_jax.errors import UserError

LABELS, MOTION, LOOKS, NOISE, SOUND, GOP = range(6)  # purposes of random streams

COLORS: dict[str, tuple[float, float, float]] = {
    "red": (0.80, 0.18, 0.15),
    "orange": (0.88, 0.52, 0.12),
    "yellow": (0.85, 0.82, 0.20),
    "green": (0.20, 0.65, 0.22),
    "cyan": (0.20, 0.75, 0.78),
    "blue": (0.18, 0.30, 0.82),
    "purple": (0.55, 0.22, 0.72),
    "pink": (0.90, 0.52, 0.68),
}


@dataclass(frozen=True)
class Sprite:
    """A thing that moves. The names of its looks are for captions."""

    color: str
    texture: str
    shape: str
    outline: Outline
    surface: Gratings | Patch
    radius: float  # pixels
    rest: Rest
    actions: tuple[Action, ...]


@dataclass(frozen=True)
class Scene:
    """One video: `sprites` are in drawing order, the last is the one whose actions are the label. `drift` moves the background; None: it
    stands still."""

    sprites: tuple[Sprite, ...]
    background: Gratings | Patch
    drift: Action | None
    event: int  # the phase of the labeled sprite at which it flashes and sounds
    key: tuple[int, int, int]  # (seed, split, video): names the streams of the noise in picture and sound

    @property
    def target(self) -> Sprite:
        """The sprite whose actions are the label."""
        return self.sprites[-1]

    @property
    def frames(self) -> int:
        """Length of the video."""
        return sum(action.frames for action in self.target.actions)

    def target_phases(self, num_phases: int) -> np.ndarray:
        """int64 [T]: the labeled sprite's phase at each frame."""
        return np.concatenate([action.phases(num_phases) for action in self.target.actions])

    def reversed(self) -> "Scene":
        """The scene whose noise-free frames are this one's, last to first."""
        sprites = tuple(dataclasses.replace(s, actions=tuple(a.reversed() for a in reversed(s.actions))) for s in self.sprites)
        return dataclasses.replace(self, sprites=sprites, drift=self.drift and self.drift.reversed())


def label_of(spec: WorldSpec, split: str, index: int) -> int:
    """The class of a video, in 0..len(classes)-1; -1 for worlds of step videos."""
    if spec.long:
        return -1
    block, place = divmod(index, len(spec.classes))
    return Draws(spec.seed, split_number(split), block, LABELS, 0).permutation(len(spec.classes))[place]


def draw_scene(spec: WorldSpec, split: str, index: int) -> Scene:
    """The scene of video `index` of a split: a pure function of its arguments."""
    key = (spec.seed, split_number(split), index)
    move, looks = Draws(*key, MOTION, 0), Draws(*key, LOOKS, 0)
    actions = _step_actions(spec, move) if spec.long else _one_action(spec, label_of(spec, split, index), move)
    frames = sum(action.frames for action in actions)
    pictures = _pictures(spec)
    target = _draw_sprite(spec, looks, spec.radius, actions, pictures)
    others = []
    for _ in range(spec.distractors):
        action = Action(move.choice(spec.paths), move.choice((1, -1)), frames, move.integer(0, spec.phases - 1))
        others.append(_draw_sprite(spec, looks, spec.distractor_radius, (action,), pictures))
    background = _draw_background(spec, looks, [*others, target], pictures)
    drift = None
    if spec.moving_background:
        path = move.choice([path for path in motion.PATHS if max(map(abs, motion.PATHS[path].winding)) == 1])
        drift = Action(path, move.choice((1, -1)), frames, move.integer(0, spec.phases - 1))
    return Scene((*others, target), background, drift, looks.integer(0, spec.phases - 1), key)


def _one_action(spec: WorldSpec, label: int, move: Draws) -> tuple[Action, ...]:
    path, direction = motion.CLASS_ACTIONS[spec.classes[label]]
    return (Action(path, direction, spec.frames, move.integer(0, spec.phases - 1)),)


def _step_actions(spec: WorldSpec, move: Draws) -> tuple[Action, ...]:
    """A row of actions of whole loops from the resting pose, no two in a row the same."""
    actions: list[Action] = []
    count = move.integer(*spec.steps)
    while len(actions) < count:
        path, direction = motion.CLASS_ACTIONS[move.choice(spec.classes)]
        loops = move.integer(*spec.step_loops)
        if not actions or (path, direction) != (actions[-1].path, actions[-1].direction):
            actions.append(Action(path, direction, loops * spec.phases))
    return tuple(actions)


def _draw_sprite(
    spec: WorldSpec, looks: Draws, radius: tuple[float, float], actions: tuple[Action, ...], pictures: list[np.ndarray]
) -> Sprite:
    unit = spec.size / 64
    color, texture, shape = looks.choice(tuple(COLORS)), looks.choice(tuple(textures.KINDS)), looks.choice(tuple(shapes.KINDS))
    outline = shapes.draw_outline(looks, shape)
    base = np.array([value + looks.uniform(-0.05, 0.05) for value in COLORS[color]])
    surface = textures.draw_sprite_surface(looks, texture, base)
    if pictures:
        color, texture = "", "photographic"
        surface = textures.draw_patch(looks, pictures, spec.size // 2)
    rest = Rest(
        x=looks.uniform(0, spec.size),
        y=looks.uniform(0, spec.size),
        turn=looks.uniform(),
        orbit_radius=looks.uniform(10.0, 16.0) * unit,
        orbit_turn=looks.uniform(),
    )
    return Sprite(color, texture, shape, outline, surface, looks.uniform(*radius) * unit, rest, actions)


def _draw_background(spec: WorldSpec, looks: Draws, sprites: list[Sprite], pictures: list[np.ndarray]) -> Gratings | Patch:
    """A ground that every sprite stands out from."""
    if pictures:  # of a few pieces, the one whose color is farthest from the nearest sprite's
        pieces = [textures.draw_patch(looks, pictures, spec.size // 2) for _ in range(8)]
        taken = [sprite.surface.mean_color() for sprite in sprites]
        return max(pieces, key=lambda piece: min(np.abs(piece.mean_color() - color).max() for color in taken))
    taken = [np.array(COLORS[sprite.color]) for sprite in sprites]
    while True:
        color = np.array([looks.uniform(0.15, 0.85) for _ in range(3)])
        if all(np.abs(color - other).max() >= 0.35 for other in taken):
            return textures.draw_background(looks, color, spec.size)


def _pictures(spec: WorldSpec) -> list[np.ndarray]:
    if spec.images is not None:
        return images.load(spec.images, smallest_side=spec.size)
    if spec.needs_images:
        raise UserError(f"world {spec.name!r} cuts its textures from your pictures: give a folder of JPEG or PNG files as data.path")
    return []
