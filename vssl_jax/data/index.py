"""Where the frames of a video file are: one pass over its packets, which decodes only the first frame.

The idea: a frame's number is its rank among the times of the packets that are shown. The header of a file may promise anything, packets are
what is there. With the times and the keyframes known, any frame is found by seeking, and nothing is guessed from a frame rate.

Containers that store no display times (H.264 in AVI, packed B-frames of XviD, raw streams) or store one twice are marked `counted`: there
the number of a frame is how many came out of the decoder before it, and reading starts at the first packet. So are interlaced films whose
packets are fields (H.264 as camcorders and broadcasts write it): two of them are a frame.
"""

import io
import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from vssl_jax.batch import YUV_SPACES

TOO_SHORT = "too_short"
CAUSES = ("missing", "empty", "not_a_video", "no_video_stream", "truncated", "corrupt", TOO_SHORT, "unreadable", "no_flow")
MISSING_PACKETS = 0.05  # a file is truncated if more than this part of the packets that its header lists is not there

# AVColorSpace (ITU-T H.273) -> matrix; 2 is unspecified. The last three are no YUV_SPACES: such frames are converted to BT.709.
_MATRICES = {1: "bt709", 5: "bt601", 6: "bt601", 4: "fcc", 7: "smpte240m", 9: "bt2020", 10: "bt2020"}
# Codecs whose non-reference frames can be left out with every other frame unchanged bit by bit (HEVC only without temporal layers).
_SKIPPABLE = ("h264", "hevc", "mpeg2video", "mpeg4")
_TIMELESS = ("avi", "h264", "hevc", "m4v", "mpegvideo", "obu", "vc1")  # containers without display times: the demuxer makes them up
_FIELDS = ("h264", "mpegts")  # where a packet is what the parser finds: of a picture in two fields, each of them
_PLACEHOLDER_BYTES = 19  # an MPEG-4 packet no larger stands for a B-frame that is packed with the frame before

VideoFile = str | os.PathLike | bytes


class BrokenVideo(Exception):
    """A file, or a part of it, that cannot be used: `cause` (one of CAUSES) is what broken files are counted by, `detail` is for people."""

    def __init__(self, cause: str, detail: str):
        if cause not in CAUSES:
            raise ValueError(f"{cause!r} is no cause: {CAUSES}")
        self.cause, self.detail = cause, " ".join(detail.split())
        super().__init__(cause, self.detail)

    def __str__(self) -> str:
        return f"{self.cause}: {self.detail}"


@dataclass(frozen=True, eq=False)
class VideoIndex:
    """The frames of one video stream.

    times       int [N]      in the stream's ticks, sorted; a range where they are evenly apart, which takes no memory
    tick                     seconds of a tick
    keyframes   int64 [K,2]  display and decoding time of each keyframe, sorted, also of those not shown
    height, width            of the picture as displayed, that is after rotation; square pixels are assumed
    rotation                 0, 90, 180 or 270 degrees counterclockwise that the decoded picture is turned for display
    mirrored                 whether it is then flipped left to right
    yuv_space                position in batch.YUV_SPACES. Where the file does not say: BT.601 if it is coded with less than 720 rows, else
    BT.709; limited
                             range. Other matrices, and sources that are not YUV, are converted to BT.709, limited range.
    skippable                whether leaving out non-reference frames keeps the others exact
    counted                  whether frames have to be counted from the first packet, see the module's docstring
    """

    times: range | np.ndarray
    tick: Fraction
    keyframes: np.ndarray
    height: int
    width: int
    rotation: int
    yuv_space: int
    mirrored: bool = False
    skippable: bool = False
    counted: bool = False

    @property
    def num_frames(self) -> int:
        return len(self.times)

    @property
    def seconds(self) -> np.ndarray:
        """float64 [N], from the first shown frame: divided once, so that frame k of f a second is at k / f to the last digit."""
        ticks = np.asarray(self.times)
        return (ticks - ticks[0]) * self.tick.numerator / self.tick.denominator

    @property
    def nbytes(self) -> int:
        """What it takes in memory, roughly."""
        return 600 + self.keyframes.nbytes + (0 if isinstance(self.times, range) else self.times.nbytes)


def index_video(file: VideoFile) -> VideoIndex:
    """Reads all packets of a file (a path, or the file's content as bytes).

    What a player shows is indexed: not the pre-roll of an edit list, and nothing before the first frame that decodes cleanly. A Matroska or
    MPEG file cut short has fewer frames, since nothing in it says how many there should be. Where the container does list its packets (mp4,
    AVI) and more than MISSING_PACKETS of them are gone, the file is refused as truncated.

    Raises:
      BrokenVideo: missing, empty, not_a_video, no_video_stream, truncated, corrupt (no frame decodes), unreadable (no permission, no
      decoder, odd rotation).
    """
    with open_video(file) as (container, stream):
        packets, first = _scan(container, stream)
        _refuse_truncated(container, stream, packets)
        if first is None:
            raise BrokenVideo("corrupt", f"none of its {len(packets)} packets decodes to a clean frame")
        codec = stream.codec_context.codec.canonical_name
        rotation, mirrored = _orientation(first)
        height, width = first.height, first.width
        layered = codec == "hevc" and not _single_layer(stream.codec_context.extradata)
        counted = first.pts is None or _is_counted(container, stream, codec, packets)
        start = None if counted else max(first.pts, 0) if _has_edits(container) else first.pts
        shown = [p for p in packets if p.shown and (start is None or p.pts >= start)]
        ticks, tick = _times(stream, shown)
        may_be_fields = codec == "h264" and container.format.name in _FIELDS and first.interlaced_frame
    if may_be_fields and len(frames := _decoded_times(file, tick)) < len(shown):
        ticks, counted = frames, True
    if not shown:
        raise BrokenVideo("corrupt", "no packet of the video is shown")
    if min(height, width) < 2:
        raise BrokenVideo("unreadable", f"the picture is {height}x{width}")
    keys = sorted((p.pts, p.pts if p.dts is None else p.dts) for p in packets if p.key and p.pts is not None)
    return VideoIndex(
        times=_spaced(ticks),
        tick=tick,
        keyframes=np.array(keys, np.int64).reshape(-1, 2),
        height=width if rotation in (90, 270) else height,
        width=height if rotation in (90, 270) else width,
        rotation=rotation,
        yuv_space=YUV_SPACES.index(storable_space(space_of(first))),
        mirrored=mirrored,
        skippable=codec in _SKIPPABLE and not layered,
        counted=counted,
    )


@contextmanager
def open_video(file: VideoFile) -> Iterator[tuple]:
    """The opened container and its video stream, on one thread; every error of opening, and of FFmpeg in the body, becomes BrokenVideo.

    One thread, since parallelism comes from reading several files, and since PyAV's log callback and frame threads can lock each other out:
    logging from Python stays off for the same reason.
    """
    import av

    av.logging.set_level(None)
    container = _open(av, file)
    try:
        stream = _video_stream(av, container)
        for other in container.streams:
            if other is not stream:
                other.discard = av.stream.Discard.all
        stream.codec_context.thread_type = "NONE"
        stream.codec_context.thread_count = 1
        stream.codec_context.open()
        yield container, stream
    except av.FFmpegError as error:
        raise BrokenVideo("corrupt", str(error)) from error
    finally:
        container.close()


def packets_of(container, stream) -> Iterator:
    """The packets with data. One of none is PyAV's sign of the end, or in AVI a place without a frame, which decoders take for the end."""
    try:
        for packet in container.demux(stream):
            if packet.size:
                yield packet
    except IndexError:  # how PyAV ends a file in which another stream has appeared on the way
        return


def space_of(frame) -> tuple[str, bool]:
    """(matrix, full range) of a decoded frame, with the rule of VideoIndex.yuv_space where the file does not say."""
    unspecified = "bt601" if frame.height < 720 else "bt709"
    if frame.format.is_rgb or frame.colorspace == 2:
        matrix = unspecified
    elif frame.colorspace in _MATRICES:
        matrix = _MATRICES[frame.colorspace]
    else:
        raise BrokenVideo("unreadable", f"its colors are in a matrix that is not supported (AVColorSpace {frame.colorspace})")
    return matrix, not frame.format.is_rgb and (frame.color_range == 2 or frame.format.name.startswith("yuvj"))


def storable_space(space: tuple[str, bool]) -> tuple[str, bool]:
    """The YUV space that planes in `space` are handed on in."""
    return space if space in YUV_SPACES else ("bt709", False)


@dataclass(frozen=True, slots=True)
class _Packet:
    pts: int | None
    dts: int | None
    size: int
    key: bool
    shown: bool


def _scan(container, stream) -> tuple[list[_Packet], object]:
    """All packets as decoded, and the first clean frame, or None. It has the display matrix; a stream cut within a GOP begins there."""
    import av

    context, packets, first = stream.codec_context, [], None
    vp8 = context.codec.canonical_name == "vp8"

    def first_clean(packet):
        try:
            return next((frame for frame in context.decode(packet) if not frame.is_corrupt), None)
        except av.error.InvalidDataError:
            return None  # damaged, or it needs a packet that is not in the file

    for packet in packets_of(container, stream):
        hidden = packet.is_discard or packet.is_corrupt or (vp8 and not memoryview(packet)[0] & 16)
        packets.append(_Packet(packet.pts, packet.dts, packet.size, packet.is_keyframe, not hidden))
        if first is None:
            first = first_clean(packet)
    return packets, first_clean(None) if first is None else first


def _decoded_times(file: VideoFile, tick: Fraction) -> np.ndarray:
    """Times of the frames that come out of the decoder, by a whole decode; at the stream's rate where frames have none of their own. Of damaged packets none
    come, here as when frames are counted in reading.
    """
    import av

    times = []
    with open_video(file) as (container, stream):
        for packet in itertools.chain(packets_of(container, stream), (None,)):
            with suppress(av.error.InvalidDataError):
                times += [frame.pts for frame in stream.codec_context.decode(packet)]
        if None not in times and (np.diff(times) > 0).all():
            return np.array(times, np.int64)
        step = 1 if not stream.average_rate else 1 / (Fraction(stream.average_rate) * tick)
        return np.rint(np.arange(len(times)) * float(step)).astype(np.int64)


def _open(av, file: VideoFile):
    try:
        if not isinstance(file, bytes) and os.path.exists(file) and not os.path.isfile(file):
            raise BrokenVideo("unreadable", "it is a folder or a device")
        if (len(file) if isinstance(file, bytes) else os.path.getsize(file)) == 0:
            raise BrokenVideo("empty", "it has no bytes")
        # PyAV 18 refuses a file whose title is no UTF-8; 19 has no such option and needs none
        options = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
        # "file:" since a colon in a plain path would be read as the name of a protocol
        return av.open(io.BytesIO(file) if isinstance(file, bytes) else f"file:{os.fspath(file)}", **options)
    except FileNotFoundError as error:
        raise BrokenVideo("missing", "there is no such file") from error
    except (av.error.InvalidDataError, av.error.EOFError) as error:
        if _head(file)[4:8] == b"ftyp":
            raise BrokenVideo(
                "truncated", "an mp4 without its index (moov box): the file was cut, or its writing never finished"
            ) from error
        raise BrokenVideo("not_a_video", "it is in no known video format") from error
    except (av.FFmpegError, OSError) as error:
        raise BrokenVideo("unreadable", str(error)) from error


def _head(file: VideoFile) -> bytes:
    if isinstance(file, bytes):
        return file[:8]
    with open(file, "rb") as f:
        return f.read(8)


def _video_stream(av, container):
    """The first video stream that is no cover picture."""
    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic:
            if stream.codec_context is None:
                raise BrokenVideo("unreadable", "there is no decoder for its video")
            if stream.codec_context.codec.name == "ansi":  # FFmpeg takes any .txt for terminal art
                raise BrokenVideo("not_a_video", "it is text")
            return stream
    raise BrokenVideo("no_video_stream", f"it has {len(container.streams)} streams, none of them video")


def _has_edits(container) -> bool:
    """Whether the container has edit lists: there, and only there, negative times are pre-roll."""
    return "mp4" in container.format.name.split(",")


def _refuse_truncated(container, stream, packets: list[_Packet]) -> None:
    promised, found = len(stream.index_entries) if _has_edits(container) else stream.frames, len(packets)
    if container.format.name == "avi" and packets and packets[-1].dts is not None:
        found = max(found, packets[-1].dts + 1)  # a dropped frame is a place without a packet: the header counts it, and time goes on
    if found < (1 - MISSING_PACKETS) * promised:
        raise BrokenVideo("truncated", f"its header lists {promised} frames, {found} are there")


def _is_counted(container, stream, codec: str, packets: list[_Packet]) -> bool:
    times = [p.pts for p in packets]
    if None in times or len(set(times)) < len(times):
        return True
    if container.format.name not in _TIMELESS or not stream.codec_context.has_b_frames:
        return False
    # MPEG-4 is the one codec for which the demuxer finds the right times by itself, and not where B-frames are packed
    return codec != "mpeg4" or min(p.size for p in packets) <= _PLACEHOLDER_BYTES


def _spaced(ticks: np.ndarray) -> range | np.ndarray:
    steps = np.diff(ticks)
    if len(steps) and steps[0] > 0 and (steps == steps[0]).all():
        return range(int(ticks[0]), int(ticks[-1]) + 1, int(steps[0]))
    return ticks


def _times(stream, shown: list[_Packet]) -> tuple[np.ndarray, Fraction]:
    """Times of the shown frames, sorted, and the seconds of a tick. Where packets have no time at all (raw streams), by the frame rate."""
    times = [p.dts if p.pts is None else p.pts for p in shown]
    if None not in times:
        return np.sort(np.array(times, np.int64)), Fraction(stream.time_base)
    if not stream.guessed_rate:
        raise BrokenVideo("unreadable", "its frames have no times, and it names no frame rate")
    return np.arange(len(shown), dtype=np.int64), 1 / Fraction(stream.guessed_rate)


def _single_layer(extradata: bytes | None) -> bool:
    """Whether an hvcC record (ISO/IEC 14496-15, 8.3.3.1) says one temporal layer: a picture that its own layer does not use may serve a
    higher one."""
    return extradata is not None and len(extradata) > 21 and extradata[0] == 1 and (extradata[21] >> 3) & 7 == 1


def _orientation(frame) -> tuple[int, bool]:
    """(degrees counterclockwise, mirrored afterwards) from the display matrix: 16.16 numbers a b u, c d v, x y w; a point (p, q) of the
    picture, q downwards, is shown at (a p + c q, b p + d q) (ISO/IEC 14496-12, 6.2.2)."""
    try:
        matrix = np.frombuffer(bytes(frame.side_data["DISPLAYMATRIX"]), np.int32)
    except KeyError:
        return 0, False
    values = matrix[[0, 1, 3, 4]].astype(float)
    a, b, c, d = (np.sign(values) * (abs(values) > 0.01 * abs(values).max())).astype(int).tolist()  # a scale is no business of ours
    mirrored = a * d - b * c < 0
    if mirrored:
        a, c = -a, -c
    turns = {(1, 0, 0, 1): 0, (0, -1, 1, 0): 90, (-1, 0, 0, -1): 180, (0, 1, -1, 0): 270}
    if (a, b, c, d) not in turns:
        raise BrokenVideo("unreadable", f"its display matrix is no turn by a multiple of 90 degrees: {matrix.tolist()}")
    return turns[a, b, c, d], mirrored
