"""Pictures of the user's, from which worlds with real textures cut their surfaces."""

import functools
import hashlib
from pathlib import Path

import numpy as np

from vssl_jax.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


def files(folder: str) -> list[Path]:
    """The picture files under a folder, sorted. Raises UserError where there are none."""
    found = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in SUFFIXES)
    if not found:
        raise UserError(f"no picture ({', '.join(SUFFIXES)}) under {folder!r}: data.path must name a folder that has some")
    return found


def digest(folder: str) -> str:
    """Eight letters that change with the pictures' names or bytes."""
    total = hashlib.sha256()
    for path in files(folder):
        total.update(str(path.relative_to(folder)).encode() + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()[:8]


@functools.lru_cache(maxsize=4)
def load(folder: str, smallest_side: int) -> list[np.ndarray]:
    """The pictures as float32 [h,w,3] in 0..1, reduced until the shorter side is `smallest_side`. Raises UserError for a picture that
    cannot be used."""
    import av

    pictures = []
    for path in files(folder):
        try:
            with av.open(str(path)) as container:
                frame = next(container.decode(video=0))
        except (av.error.FFmpegError, StopIteration) as error:
            raise UserError(f"cannot read the picture {str(path)!r} ({error}): remove it or replace it") from error
        shorter = min(frame.width, frame.height)
        if shorter < smallest_side:
            raise UserError(f"the picture {str(path)!r} is {frame.width}x{frame.height}: both sides must be at least {smallest_side}")
        width, height = round(frame.width * smallest_side / shorter), round(frame.height * smallest_side / shorter)
        frame = frame.reformat(width=width, height=height, format="rgb24", interpolation="AREA")
        pictures.append(frame.to_ndarray().astype(np.float32) / np.float32(255))
    return pictures
