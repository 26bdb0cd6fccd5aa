"""The plain way of reading frames with PyAV, which a benchmark compares with.

Seek to the keyframe, decode everything from there on, convert what is wanted. Nothing but benchmarks and tests reads like this.
"""

from collections.abc import Sequence

import numpy as np

from vssl_jax.data.index import BrokenVideo, VideoFile, VideoIndex, open_video


def read_plainly(file: VideoFile, index: VideoIndex, wanted: Sequence[int]) -> np.ndarray:
    """uint8 [n,H,W,3]: the frames `wanted` (increasing numbers), as decoded, in RGB by PyAV's own defaults.

    The index only says at which times the frames are. Raises BrokenVideo where one is not found by its time.
    """
    times = [int(index.times[n]) for n in wanted]
    found = {}
    with open_video(file) as (container, stream):
        container.seek(times[0], stream=stream)
        for frame in container.decode(stream):
            if frame.pts in times:
                found[frame.pts] = frame.to_ndarray(format="rgb24")
            if frame.pts is None or frame.pts >= times[-1]:
                break
    if len(found) < len(set(times)):
        raise BrokenVideo("corrupt", f"{len(set(times)) - len(found)} frames are not found by seeking to their times")
    return np.stack([found[time] for time in times])
