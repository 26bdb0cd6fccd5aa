"""Small video files for tests, written with PyAV: every codec, GOP, container and oddity that the readers must survive.

The pictures are noise with moving shapes: no two frames are alike, so that a frame that is off by one, or decoded from a wrong reference,
cannot pass for another.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

# codec -> the encoder in the PyAV wheel and the options that make it fast
ENCODERS = {
    "h264": ("libx264", {"preset": "veryfast", "crf": "23"}),
    "hevc": ("libx265", {"preset": "ultrafast", "crf": "28"}),
    "vp9": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "crf": "40", "b": "0"}),
    "av1": ("libsvtav1", {"preset": "13", "crf": "45"}),
    "mpeg2": ("mpeg2video", {}),
    "mpeg4": ("mpeg4", {}),
}


@dataclass(frozen=True)
class Clip:
    """How a test video is written. `times` are frame times in ticks of 1/1000 s (variable frame rate), else `rate` frames a second."""

    codec: str = "h264"
    gop: int = 12
    b_frames: int = 2
    rate: int = 25
    times: Sequence[int] | None = None
    drops: int = 0  # of so many frames the last is missing, as a camera that is late leaves a place empty
    audio: bool = False
    rotation: int = 0  # degrees counterclockwise that a player turns the picture, as av_display_rotation_get says
    mirrored: bool = False  # a player flips the picture left to right, after turning it
    pix_fmt: str = "yuv420p"
    matrix: int | None = None  # AVColorSpace: 1 is BT.709, 5 and 6 are BT.601, 9 is BT.2020
    full_range: bool | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    muxer: Mapping[str, str] = field(default_factory=dict)  # for example {"movflags": "faststart"}


def shapes_NxHxWx3(num_frames: int, height: int = 48, width: int = 64, seed: int = 0) -> np.ndarray:
    """uint8 [N,H,W,3]: a noisy background that drifts, with a bright square and a dark disc that move on their own."""
    rng = np.random.default_rng(seed)
    ground = rng.integers(40, 200, (height // 4 + 1, width // 4 + 1, 3)).repeat(4, 0).repeat(4, 1)[:height, :width]
    rows, cols = np.mgrid[:height, :width]
    out = np.empty((num_frames, height, width, 3), np.uint8)
    for n in range(num_frames):
        frame = np.roll(ground, (n // 2, n), (0, 1)) + rng.integers(-12, 13, (height, width, 3))
        top, left = (3 * n) % max(1, height - height // 4), (5 * n) % max(1, width - width // 4)
        frame[top : top + height // 4, left : left + width // 4] = (230, 40 + (7 * n) % 160, 60)
        center = height / 2 + height / 4 * np.sin(n / 5), width / 2 + width / 4 * np.cos(n / 7)
        frame[(rows - center[0]) ** 2 + (cols - center[1]) ** 2 < (height / 8) ** 2] = (20, 30, 40 + (11 * n) % 180)
        out[n] = frame.clip(0, 255)
    return out


def write_video(path: str | os.PathLike, frames_NxHxWx3: np.ndarray, clip: Clip | None = None) -> str:
    """Encodes the frames as `clip` says and returns the path; the container is the one that the file's name asks for."""
    import av

    clip = Clip() if clip is None else clip
    encoder, fast = ENCODERS.get(clip.codec, (clip.codec, {}))
    with av.open(os.fspath(path), "w", options=dict(clip.muxer)) as container:
        stream = container.add_stream(encoder, rate=clip.rate, options={**fast, "g": str(clip.gop), **_threads(clip), **clip.options})
        stream.height, stream.width = frames_NxHxWx3.shape[1:3]
        stream.pix_fmt = clip.pix_fmt
        if clip.codec in ("h264", "mpeg2", "mpeg4"):
            stream.codec_context.max_b_frames = clip.b_frames
        if clip.times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if clip.matrix is not None:
            stream.codec_context.colorspace = clip.matrix
        if clip.full_range is not None:
            stream.codec_context.color_range = 2 if clip.full_range else 1
        if clip.rotation or clip.mirrored:
            stream.set_display_rotation(clip.rotation, hflip=clip.mirrored)
        sound = container.add_stream("aac", rate=16000, layout="mono") if clip.audio else None
        for number, array_HxWx3 in enumerate(frames_NxHxWx3):
            if clip.drops and number % clip.drops == clip.drops - 1:
                continue
            container.mux(stream.encode(_to_frame(array_HxWx3, number, clip)))
        container.mux(stream.encode(None))
        if sound is not None:
            _write_tone(container, sound, seconds=len(frames_NxHxWx3) / clip.rate)
    return os.fspath(path)


def write_sound(path: str | os.PathLike, seconds: float = 1.0) -> str:
    """A file with an audio stream and no video."""
    import av

    with av.open(os.fspath(path), "w") as container:
        _write_tone(container, container.add_stream("aac", rate=16000, layout="mono"), seconds)
    return os.fspath(path)


def remux(source: str, path: str | os.PathLike, first_packet: int = 0, cut: bool = False) -> str:
    """Copies the video packets from `first_packet` on, not encoding again. With `cut`, a third of the frames get times before 0.

    That is what an editor leaves behind that cuts in the middle of a GOP and copies: mp4 turns it into an edit list.
    """
    import av

    with av.open(source) as reader, av.open(os.fspath(path), "w") as writer:
        stream = reader.streams.video[0]
        copy = writer.add_stream_from_template(stream)
        packets = [p for p in reader.demux(stream) if p.size][first_packet:]
        zero = sorted(p.pts for p in packets)[len(packets) // 3] if cut else None
        for packet in packets:
            if zero is not None:
                packet.pts, packet.dts = packet.pts - zero, packet.dts - zero
            packet.stream = copy
            writer.mux(packet)
    return os.fspath(path)


def rewrite(source: str, path: str | os.PathLike, change: Callable[[int, bytes], bytes]) -> str:
    """Copies the video with each packet's content changed: `change(number in decoding order, content) -> content`."""
    import av

    with av.open(source) as reader, av.open(os.fspath(path), "w") as writer:
        stream = reader.streams.video[0]
        copy = writer.add_stream_from_template(stream)
        for number, old in enumerate(p for p in reader.demux(stream) if p.size):
            packet = av.Packet(change(number, bytes(old)))
            packet.pts, packet.dts, packet.time_base, packet.is_keyframe = old.pts, old.dts, old.time_base, old.is_keyframe
            packet.stream = copy
            writer.mux(packet)
    return os.fspath(path)


def pack_b_frames(source: str, path: str | os.PathLike) -> str:
    """An MPEG-4 AVI with one B-frame between P-frames, turned into what DivX and XviD wrote: P and B in one packet, an empty picture in the
    next."""
    import av

    with av.open(source) as reader:
        packed = [bytes(p) for p in reader.demux(video=0) if p.size]
    picture = b"\0\0\1\xb6"
    b_frames = [n for n, data in enumerate(packed) if data[data.index(picture) + 4] >> 6 == 2]
    for n in b_frames:
        packed[n - 1], packed[n] = packed[n - 1] + packed[n], picture + b"\x7f\xff"
    packed[0] = packed[0].replace(picture, b"\0\0\1\xb2DivX503b1393p" + picture)  # user data by which decoders know such files
    return rewrite(source, path, lambda n, data: packed[n])


def _threads(clip: Clip) -> dict[str, str]:
    """One encoder thread, so that a file is the same on every machine, and the GOP length as each encoder wants it said."""
    if clip.codec == "hevc":
        gop = f"bframes={clip.b_frames}:keyint={clip.gop}:min-keyint={clip.gop}:scenecut=0"
        return {"x265-params": f"log-level=none:pools=1:frame-threads=1:{gop}"}
    if clip.codec == "h264":
        return {"threads": "1", "sc_threshold": "0"}
    if clip.codec == "av1":
        return {"svtav1-params": f"lp=1:keyint={clip.gop}"}
    return {"threads": "1"}


def _to_frame(array_HxWx3: np.ndarray, number: int, clip: Clip):
    import av

    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(array_HxWx3), "rgb24")
    matrix = 5 if clip.matrix in (None, 6) else clip.matrix
    frame = frame.reformat(format=clip.pix_fmt, dst_colorspace=matrix, dst_color_range=2 if clip.full_range else 1, threads=1)
    if clip.times is None:
        frame.pts, frame.time_base = number, Fraction(1, clip.rate)
    else:
        frame.pts, frame.time_base = clip.times[number], Fraction(1, 1000)
    return frame


def _write_tone(container, stream, seconds: float) -> None:
    import av

    total, step = int(16000 * seconds), 1024
    for start in range(0, total, step):
        wave = (0.2 * np.sin(np.arange(start, start + step) * 0.05)).astype(np.float32)[None]
        frame = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 16000, start, Fraction(1, 16000)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
