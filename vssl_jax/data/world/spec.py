"""What a world is made of: how many ways things can move, and what else is in the picture. A difficulty is one frozen record of numbers.

Every class is a pair (path, direction), and the other direction of the same path is always a class too: its exact time reversal. So what
path a sprite takes may be read from any one frame, and which way it goes only from the order of frames: a model blind to order is capped at
0.5 of its path accuracy. There is one natural speed, one loop per `phases` frames, and the usual window (8 frames at stride 2) sees half a
loop.
"""

import dataclasses
import hashlib
import json
from dataclasses import dataclass

from vssl_jax.data.world import motion
from vssl_jax.errors import UserError, unknown_name

VERSION = 1  # of what the code draws: raised with every change of pixels, sound or labels, so that old caches are not read as new
SPLITS = {"train": 0, "validation": 1, "test": 2}  # part of every seed: no video is in two splits
MAX_RADIUS = 14.0  # of 64: times sqrt 2 when zoomed in, times 1.32 for the outline with the longest lobes, still below 32


@dataclass(frozen=True)
class WorldSpec:
    """One difficulty. Lengths are in pixels of a 64-pixel picture and grow with `size`; brightness is in 0..1.

    Raises UserError where the numbers contradict each other.
    """

    name: str
    paths: tuple[str, ...]  # keys of motion.PATHS; two classes each
    num_videos: tuple[int, int, int] = (3000, 500, 1000)  # train, validation, test
    seed: int = 0
    size: int = 64  # rows and columns
    frames: int = 32  # of a video with one action; for step videos see `steps`
    phases: int = 32  # frames of one loop
    fps: int = 16
    sample_rate: int = 16000
    radius: tuple[float, float] = (8.0, 12.0)  # of the sprite whose action is the label
    distractors: int = 0  # sprites that move along paths of their own, drawn below the labeled one
    distractor_radius: tuple[float, float] = (4.0, 6.0)
    moving_background: bool = False
    images: str | None = None  # a folder of pictures to cut textures from; None: sums of gratings
    needs_images: bool = False
    noise: float = 0.02  # standard deviation, drawn anew for every pixel and frame
    flash: float = 0.5  # how far the labeled sprite turns white in the one frame per loop that sounds
    steps: tuple[int, int] = (1, 1)  # fewest and most actions in a row
    step_loops: tuple[int, int] = (1, 1)  # fewest and most loops of one action
    qp: int = 26  # H.264 quantizer
    gop: int = 1  # frames from one key frame to the next; see encode.py for why it is 1

    def __post_init__(self):
        for path in self.paths:
            if path not in motion.PATHS:
                raise unknown_name("path", path, motion.PATHS)
        if self.size % 16 or self.size < 32:
            raise UserError(f"world {self.name!r}: size is {self.size}, it must be a multiple of 16, at least 32")
        if max(*self.radius, *self.distractor_radius) > MAX_RADIUS:
            raise UserError(f"world {self.name!r}: a sprite's radius is at most {MAX_RADIUS:g}, or it would meet itself round the torus")
        if self.steps == (1, 1) and self.step_loops != (1, 1):
            raise UserError(f"world {self.name!r}: step_loops is for worlds of several steps; set `frames` instead")
        if not (1 <= self.steps[0] <= self.steps[1] and 1 <= self.step_loops[0] <= self.step_loops[1]):
            raise UserError(f"world {self.name!r}: steps and step_loops are (fewest, most) with 1 <= fewest <= most")

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names in the order of their labels: sorted, so that every reader of a manifest numbers them alike."""
        return tuple(sorted(name for path in self.paths for name in motion.class_names(path)))

    @property
    def long(self) -> bool:
        """True where a video is a row of several actions, with steps in place of a label."""
        return self.steps[1] > 1

    def reversal(self, label: int) -> int:
        """The label of the same path in the other direction."""
        path, direction = motion.CLASS_ACTIONS[self.classes[label]]
        return self.classes.index(motion.class_name(path, -direction))

    def split_size(self, split: str) -> int:
        """Default number of videos of a split."""
        return self.num_videos[split_number(split)]

    def digest(self) -> str:
        """Eight letters that change with anything that changes a pixel or a sound."""
        fields = dataclasses.asdict(self)
        del fields["num_videos"]  # video i does not depend on how many there are
        return hashlib.sha256(json.dumps([VERSION, fields], sort_keys=True).encode()).hexdigest()[:8]


def split_number(split: str) -> int:
    """The split's part of the seed."""
    if split not in SPLITS:
        raise unknown_name("split", split, SPLITS)
    return SPLITS[split]


_AXES_4 = ("slide-horizontal", "slide-vertical", "slide-diagonal", "slide-antidiagonal")
_AXES_8 = (*_AXES_4, "slide-shallow", "slide-steep", "slide-antishallow", "slide-antisteep")
_TURNS = ("orbit", "spin", "zoom")

_SPECS = (
    WorldSpec("slide-2", ("slide-horizontal",)),
    WorldSpec("slide-8", _AXES_4),
    WorldSpec("slide-16", _AXES_8),
    WorldSpec("mixed-8", ("slide-horizontal", *_TURNS)),
    WorldSpec("mixed-14", (*_AXES_4, *_TURNS)),
    WorldSpec("clutter-8", _AXES_4, radius=(10.0, 13.0), distractors=3),
    WorldSpec("moving-8", _AXES_4, moving_background=True),
    WorldSpec("real-8", _AXES_4, needs_images=True),
    WorldSpec("hard-14", (*_AXES_4, *_TURNS), radius=(10.0, 13.0), distractors=3, moving_background=True, noise=0.04),
    WorldSpec("long", (*_AXES_4, *_TURNS), num_videos=(400, 50, 100), steps=(3, 6), step_loops=(1, 2)),
)
DIFFICULTIES: dict[str, WorldSpec] = {spec.name: spec for spec in _SPECS}


def find(name: str, images: str | None = None) -> WorldSpec:
    """The difficulty of that name; `images` is the folder that worlds with real textures cut them from."""
    if name not in DIFFICULTIES:
        raise unknown_name("world", name, DIFFICULTIES)
    return DIFFICULTIES[name] if images is None else dataclasses.replace(DIFFICULTIES[name], images=images)


def spec_from_json(text: str) -> WorldSpec:
    """The spec that json made of dataclasses.asdict(spec): lists become tuples again."""
    return WorldSpec(**{key: tuple(value) if isinstance(value, list) else value for key, value in json.loads(text).items()})
