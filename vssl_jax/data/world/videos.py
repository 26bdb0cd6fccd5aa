"""The files of single videos: the part of a build that processes share."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from vssl_jax.data.world import encode, render, sound
from vssl_jax.data.world.scene import draw_scene
from vssl_jax.data.world.spec import WorldSpec


def file_name(index: int) -> str:
    """'00042.mp4'."""
    return f"{index:05d}.mp4"


def write_video(spec: WorldSpec, split: str, index: int, path: str | os.PathLike) -> None:
    """Renders and encodes one video."""
    scene = draw_scene(spec, split, index)
    frames, audio = render.render(scene, spec), sound.soundtrack(scene, spec)
    encode.write_mp4(Path(path), frames, audio, encode.key_frames(scene, spec), spec)


def write_missing(spec: WorldSpec, split: str, folder: Path, indices: Iterable[int], go_on: Callable[[], bool] = lambda: True) -> None:
    """Writes those of the videos that are not in the folder yet, until `go_on` says no."""
    for index in indices:
        path = folder / file_name(index)
        if not path.exists() and go_on():
            write_video(spec, split, index, path)
