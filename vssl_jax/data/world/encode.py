"""Frames and sound into a real mp4: H.264 and AAC.

A codec looks at frames in order, and can write the order into single frames: in a group of pictures the ground that a sprite has just left
is coded anew while the ground it is about to cover still holds the noise of the last key frame. So by default every frame is a key frame
with a constant quantizer: then a decoded frame depends on its own pixels alone, and the film of a reversed scene is, bit for bit, the
reversed film. With `gop` > 1 key frames come every gop frames from a random first one, and single frames do tell: at gop 12 a linear probe
on the roughness left and right of the sprite finds the direction of slide-2 in 0.58 of 2,572 test frames (429 videos), at gop 1 in 0.48.
"""

import os
from pathlib import Path

import numpy as np

from vssl_jax.data.world.draws import Draws
from vssl_jax.data.world.scene import GOP, Scene
from vssl_jax.data.world.spec import WorldSpec

AUDIO_BITS_PER_SECOND = 32000
_BT601 = 6  # SMPTE 170M, in the numbers of ITU-T H.273
_LIMITED_RANGE = 1


def key_frames(scene: Scene, spec: WorldSpec) -> np.ndarray:
    """bool [T]: which frames are coded by themselves. The first always is; the rest do not keep step with the motion."""
    first = Draws(*scene.key, GOP, 0).integer(0, spec.gop - 1)
    keys = np.arange(scene.frames) % spec.gop == first
    keys[0] = True
    return keys


def write_mp4(path: Path, frames: np.ndarray, audio: np.ndarray, keys: np.ndarray, spec: WorldSpec) -> None:
    """Writes uint8 frames [T,H,W,3] (RGB) and float32 audio [n] as H.264 (4:2:0, BT.601) and AAC. `keys` bool [T] are the key frames.

    The file appears under its name only when it is whole. The bytes depend on the arguments and the version of PyAV alone: one thread.
    """
    import av
    from av.video.frame import PictureType
    from av.video.reformatter import VideoReformatter

    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with av.open(str(partial), "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=spec.fps, options=_x264_options(spec))
        video.width, video.height, video.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        video.thread_count = 1
        context = video.codec_context
        context.colorspace = context.color_primaries = context.color_trc = _BT601
        context.color_range = _LIMITED_RANGE
        sound = container.add_stream("aac", rate=spec.sample_rate, layout="mono", options={"aac_coder": "fast"})
        sound.bit_rate = AUDIO_BITS_PER_SECOND
        reformatter = VideoReformatter()  # one for all frames: a new one costs more than the rest of this function
        for i, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame = reformatter.reformat(frame, format="yuv420p", dst_colorspace="ITU601", dst_color_range="MPEG", threads=1)
            frame.pts = i
            frame.pict_type = PictureType.I if keys[i] else PictureType.NONE
            container.mux(video.encode(frame))
        container.mux(video.encode())
        samples = av.AudioFrame.from_ndarray(audio[None], format="fltp", layout="mono")
        samples.sample_rate, samples.pts = spec.sample_rate, 0
        container.mux(sound.encode(samples))
        container.mux(sound.encode())
    os.replace(partial, path)


def _x264_options(spec: WorldSpec) -> dict[str, str]:
    """A constant quantizer: rate control would make a frame's quality depend on the frames before it."""
    interval = "1" if spec.gop == 1 else "infinite"
    parameters = f"keyint={interval}:scenecut=0:log-level=error"
    return {"preset": "veryfast", "qp": str(spec.qp), "forced-idr": "1", "x264-params": parameters}
