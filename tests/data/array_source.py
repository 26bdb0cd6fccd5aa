"""A source of videos in memory for tests: frame t of video i has the value 10 * i + t everywhere, so that a batch says which frames it
shows."""

from dataclasses import dataclass, field

import numpy as np

from vssl_jax.data.index import BrokenVideo
from vssl_jax.data.source import TimeIndex, keys_with_labels


@dataclass(frozen=True)
class ArrayVideo:
    index: TimeIndex
    label: int
    span: tuple[float, float] | None
    number: int
    on_read: object = None

    def read(self, wanted, layout, canvas):
        if self.on_read is not None:
            self.on_read(self.number)
        values = np.array([(10 * self.number + t) % 256 for t in wanted], np.uint8)
        (rows, cols), n = (self.index.height, self.index.width), len(wanted)
        if layout == "rgb":
            video = np.zeros((n, *canvas, 3), np.uint8)
            video[:, :rows, :cols] = values[:, None, None, None]
            return {"video": video}, (rows, cols)
        luma, chroma = np.zeros((n, *canvas), np.uint8), np.zeros((n, canvas[0] // 2, canvas[1] // 2, 2), np.uint8)
        luma[:, :rows, :cols] = values[:, None, None]
        return {"luma": luma, "chroma": chroma}, (rows, cols)


@dataclass
class ArraySource:
    """`broken` maps a video's number to its cause. `on_read` is called with the number of every video that is read."""

    videos: int
    num_frames: int = 10
    broken: dict = field(default_factory=dict)
    classes: tuple = ("a", "b", "c")
    fps: float = 5.0
    on_read: object = None

    def __post_init__(self):
        self.keys = keys_with_labels(self.classes)

    def __len__(self):
        return self.videos

    def name(self, i):
        return f"video {i}"

    def open(self, i):
        if i in self.broken:
            raise BrokenVideo(self.broken[i], f"made so: {i}")
        index = TimeIndex(np.arange(self.num_frames) / self.fps, 4, 6, 2)
        return ArrayVideo(index, i % len(self.classes), None, i, self.on_read)
