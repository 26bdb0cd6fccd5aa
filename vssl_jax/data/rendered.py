"""The embedded dataset before its codec: the same videos, as they were drawn. What a model knows of these and not of the files was lost in
coding; what it knows of the files and not of these, the codec told it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vssl_jax import batch as batch_lib
from vssl_jax.data.embedded import find_world
from vssl_jax.data.source import Source, TimeIndex, keys_with_labels
from vssl_jax.errors import UserError


@dataclass(frozen=True)
class RenderedVideo:
    """One video of a world (source.Video), drawn when it is read."""

    index: TimeIndex
    label: int
    frames: object  # () -> uint8 [T,H,W,3]
    span: None = None

    def read(self, wanted: Sequence[int], layout: str, canvas: tuple[int, int]) -> tuple[dict[str, np.ndarray], tuple[int, int]]:
        if layout != "rgb":
            raise UserError(f"data.source=rendered has no YUV planes, it was never coded: data.layout={layout} must be rgb")
        rows, cols = self.index.height, self.index.width
        if canvas[0] < rows or canvas[1] < cols:
            raise UserError(f"data.canvas is {tuple(canvas)}: videos of data.source=rendered are {rows}x{cols} and are not reduced")
        out = np.zeros((len(wanted), *canvas, 3), np.uint8)
        out[:, :rows, :cols] = self.frames()[np.asarray(wanted)]
        return {batch_lib.VIDEO: out}, (rows, cols)


@dataclass(frozen=True)
class Rendered:
    """The videos of one split of a world with one action each (source.Source)."""

    spec: object  # world.WorldSpec
    split: str
    count: int

    @property
    def classes(self) -> tuple[str, ...]:
        return self.spec.classes

    @property
    def keys(self) -> frozenset[str]:
        return keys_with_labels(self.classes)

    def __len__(self) -> int:
        return self.count

    def name(self, i: int) -> str:
        return f"{self.spec.name} {self.split} {i}"

    def open(self, i: int) -> RenderedVideo:
        from vssl_jax.data.world.render import render
        from vssl_jax.data.world.scene import draw_scene, label_of

        scene = draw_scene(self.spec, self.split, i)
        index = TimeIndex(np.arange(scene.frames) / self.spec.fps, self.spec.size, self.spec.size, 0)
        return RenderedVideo(index, label_of(self.spec, self.split, i), lambda: render(scene, self.spec))


def rendered_source(path: str = "", world: str = "slide-8", split: str = "train", world_videos: int = 0) -> Source:
    """As embedded_source, without files. Raises UserError for an unknown world or split, and for a world of step videos."""
    spec = find_world("rendered", world, path)
    if spec.long:
        raise UserError(f"world {world!r} has step videos: data.source=rendered draws worlds with one action a video")
    count = spec.split_size(split)
    return Rendered(spec, split, world_videos if world_videos else count)
