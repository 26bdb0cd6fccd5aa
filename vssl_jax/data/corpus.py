"""Films to measure the input on, where there are none: what a decoder finds in Kinetics-like files, made from a seed.

The speed of a decoder hangs on bits per frame, the distance of keyframes and B-frames, not on what is shown. So the pictures are textures
that pan, sprites that move over them and the noise of a sensor, 10 seconds of 340x256 at 30 frames a second, coded by x264 with the
settings that most published clips have: about half a megabyte each, keyframes 50 to 250 frames apart.
"""

import os
from pathlib import Path

import numpy as np

FRAMES, HEIGHT, WIDTH, RATE = 300, 256, 340, 30
GOPS = (50, 100, 250, 150, 75, 200)  # film i has GOPS[i % 6]
SPRITES = 4
_WORLD = 1024  # side of the texture that the camera pans over
_VERSION = 2  # of what is drawn: films of another version are other files


def corpus(folder: str | os.PathLike, videos: int = 8, seed: int = 0, frames: int = FRAMES) -> str:
    """The path of a folder under `folder` with `videos` mp4 files in two sub-folders (which are classes to whoever asks for labels), made if
    they are not there yet: a few seconds each, once.

    The pictures of a film are a function of (seed, its number); x264 does not always code them to the same bytes. Processes that make the
    same films at once do no harm.
    """
    root = Path(folder) / f"films-v{_VERSION}-{videos}x{frames}-seed{seed}"
    root.mkdir(parents=True, exist_ok=True)
    for number in range(videos):
        path = root / ("even", "odd")[number % 2] / f"{number:03d}.mp4"
        path.parent.mkdir(exist_ok=True)
        if not path.exists():
            partial = path.with_name(f".{path.stem}.{os.getpid()}.mp4")  # hidden: the source 'folder' does not take it for a film
            _write(partial, _film(np.random.default_rng((seed, number)), frames), GOPS[number % len(GOPS)])
            os.replace(partial, path)
    return str(root)


def _texture(rng: np.random.Generator, side: int) -> np.ndarray:
    """float32 [side,side,3], 0..255: noise at all scales, the coarse ones strongest, as in photographs."""
    out = np.zeros((side, side, 3), np.float32)
    for scale in (128, 64, 32, 16, 8, 4, 2):
        cells = rng.standard_normal((side // scale, side // scale, 3), np.float32) * scale**0.6
        out += _enlarged(_enlarged(cells, scale, 0), scale, 1)
    low, high = np.quantile(out, (0.02, 0.98))
    return ((out - low) / (high - low) * 255).clip(0, 255)


def _enlarged(x: np.ndarray, scale: int, axis: int) -> np.ndarray:
    """`scale` times as many along an axis, linear between neighbors, periodic."""
    weight = (np.arange(scale, dtype=np.float32) / scale).reshape((-1,) + (1,) * (x.ndim - axis - 1))
    here, there = np.expand_dims(x, axis + 1), np.expand_dims(np.roll(x, -1, axis), axis + 1)
    shape = (*x.shape[:axis], x.shape[axis] * scale, *x.shape[axis + 1 :])
    return (here * (1 - weight) + there * weight).reshape(shape)


def _film(rng: np.random.Generator, frames: int):
    """Yields uint8 [HEIGHT,WIDTH,3]."""
    ground = _texture(rng, _WORLD)
    grain = rng.normal(0, 2.0, (HEIGHT + 64, WIDTH + 64, 3)).astype(np.float32)
    sprites = [(_texture(rng, 128)[: int(rows), : int(cols)], *_path(rng)) for rows, cols in rng.integers(40, 110, (SPRITES, 2))]
    camera = _path(rng)
    for n in range(frames):
        top, left = _at(camera, n, _WORLD - HEIGHT, _WORLD - WIDTH)
        frame = ground[top : top + HEIGHT, left : left + WIDTH].copy()
        for picture, *path in sprites:
            rows, cols = picture.shape[:2]
            top, left = _at(path, 4 * n, HEIGHT - rows, WIDTH - cols)
            frame[top : top + rows, left : left + cols] = picture
        top, left = rng.integers(0, 64, 2)
        yield (frame + grain[top : top + HEIGHT, left : left + WIDTH]).clip(0, 255).astype(np.uint8)


def _path(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies (radians a frame) and phases of a slow Lissajous figure."""
    return rng.uniform(0.004, 0.012, 2), rng.uniform(0, 2 * np.pi, 2)


def _at(path, n: int, rows: int, cols: int) -> tuple[int, int]:
    """The place at frame n, in 0..rows, 0..cols."""
    frequencies, phases = path
    y, x = (1 + np.sin(frequencies * n + phases)) / 2
    return int(y * rows), int(x * cols)


def _write(path: Path, frames, gop: int) -> None:
    import av

    options = {"preset": "medium", "crf": "23", "g": str(gop), "bf": "3", "sc_threshold": "0", "threads": "1"}
    with av.open(os.fspath(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options=options)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        for array_HxWx3 in frames:
            frame = av.VideoFrame.from_ndarray(array_HxWx3, "rgb24").reformat(format="yuv420p", threads=1)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
