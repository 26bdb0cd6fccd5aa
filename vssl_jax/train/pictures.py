"""Clips as pictures for a person: arrays of frames in, animated GIF or WebP bytes out.

The idea: a run saves arrays, not pictures, so that the report can lay them out anew; encoding happens where a picture is shown. Pillow is
imported where it is used, because the core runs without it.
"""

import io
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

FOLDER = "report/pictures"
FRAME_MILLISECONDS = 125  # slow enough to follow by eye: a clip of 16 frames takes two seconds


def to_uint8(clip) -> np.ndarray:
    """[0, 1] floats as 0 to 255; values outside are clipped, as a display would, and NaN is black. uint8 passes unchanged."""
    clip = np.asarray(clip)
    if clip.dtype == np.uint8:
        return clip
    return np.rint(np.clip(np.nan_to_num(clip.astype(np.float32)), 0, 1) * 255).astype(np.uint8)


def side_by_side(clips_BxTxHxWx3: np.ndarray | Sequence[np.ndarray], gap: int = 2) -> np.ndarray:
    """Clips of one size in a row, [T, H, B*W + gaps, 3] uint8, so that they play in step. The gap is mid gray, seen on light and dark."""
    clips = [np.asarray(clip) for clip in clips_BxTxHxWx3]
    t, h = clips[0].shape[:2]
    bar = np.full((t, h, gap, 3), 128, np.uint8)
    parts = [clips[0]]
    for clip in clips[1:]:
        parts += [bar, clip]
    return np.concatenate(parts, axis=2)


def encode_gif(frames_TxHxWx3: np.ndarray, milliseconds: int = FRAME_MILLISECONDS) -> bytes:
    """uint8 frames as a looping GIF (256 colors per frame)."""
    return _encode(frames_TxHxWx3, "GIF", milliseconds, optimize=False, disposal=1)


def encode_webp(frames_TxHxWx3: np.ndarray, milliseconds: int = FRAME_MILLISECONDS, quality: int = 85) -> bytes:
    """uint8 frames as a looping lossy WebP: a fifth of the GIF's size, in full color. One frame makes a still picture."""
    return _encode(frames_TxHxWx3, "WEBP", milliseconds, quality=quality, method=2)


def _encode(frames_TxHxWx3: np.ndarray, kind: str, milliseconds: int, **options) -> bytes:
    from PIL import Image

    first, *rest = [Image.fromarray(frame) for frame in frames_TxHxWx3]
    if rest:
        options |= {"save_all": True, "append_images": rest, "duration": milliseconds, "loop": 0}
    out = io.BytesIO()
    first.save(out, format=kind, **options)
    return out.getvalue()


CAPTIONS = "captions"  # beside the pictures: a line of text for each clip


def save_pictures(
    workdir: str | os.PathLike, step: int, pictures: Mapping[str, np.ndarray], most: int = 4, captions: Sequence[str] = ()
) -> Path:
    """Keeps the first `most` clips of each {name: float [B,T,H,W,3] in [0, 1]} in WORKDIR/report/pictures/step_00001000.npz as uint8, and a
    caption for each, where there are any, for the report.
    """
    folder = Path(workdir) / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step_{step:08d}.npz"
    partial = path.with_suffix(".partial")
    with open(partial, "wb") as file:
        arrays = {name: to_uint8(clip_BxTxHxWx3[:most]) for name, clip_BxTxHxWx3 in pictures.items()}
        np.savez_compressed(file, **arrays | ({CAPTIONS: np.array(captions[:most])} if captions else {}))
    os.replace(partial, path)
    return path


def load_pictures(workdir: str | os.PathLike) -> dict[int, dict[str, np.ndarray]]:
    """What `save_pictures` kept, {step: {name: uint8 [B,T,H,W,3]}}, in order of steps and names in order of saving; CAPTIONS are strings [B]."""
    out = {}
    for path in sorted((Path(workdir) / FOLDER).glob("step_*.npz")):
        with np.load(path) as arrays:
            out[int(re.fullmatch(r"step_(\d+)", path.stem).group(1))] = {name: arrays[name] for name in arrays.files}
    return dict(sorted(out.items()))
