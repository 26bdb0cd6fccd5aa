"""Sentences that say what a scene shows. A caption and its counterpart differ in the direction only: the hardest negative there is."""

from vssl_jax.data.world import motion
from vssl_jax.data.world.motion import Action
from vssl_jax.data.world.scene import Scene, Sprite

VERBS = {"slide": "slides", "orbit": "circles", "spin": "spins", "zoom": "zooms"}
_WORDS = {"down-right": "down and right", "up-left": "up and left", "up-right": "up and right", "down-left": "down and left"}


def action_phrase(path: str, direction: int) -> str:
    """An action in words, as 'slides down and right'."""
    way = motion.PATHS[path].forward if direction > 0 else motion.PATHS[path].backward
    return f"{VERBS[motion.PATHS[path].kind]} {_WORDS.get(way, way.replace('-slightly-', ' and slightly '))}"


def caption(scene: Scene) -> str:
    """As 'a red striped star slides right'; the actions of step videos are joined by 'then'."""
    return _sentence(scene.target, scene.target.actions)


def counterpart(scene: Scene) -> str:
    """The caption of the same scene with every action in the other direction: wrong in nothing but the order of frames."""
    actions = scene.target.actions
    return _sentence(scene.target, tuple(Action(a.path, -a.direction, a.frames, a.offset) for a in actions))


def _sentence(sprite: Sprite, actions: tuple[Action, ...]) -> str:
    thing = " ".join(word for word in (sprite.color, sprite.texture, sprite.shape) if word)
    article = "an" if thing[0] in "aeiou" else "a"
    return f"{article} {thing} " + ", then ".join(action_phrase(action.path, action.direction) for action in actions)
