"""Chosen frames of a video file, exact to the bit, at little more than the cost of decoding them.

The idea: frames are told apart by their times, so that the decoder may start at any keyframe and may leave out every frame that nobody
wants and no other frame needs; only wanted frames are converted. Whatever does not come out clean that way is read again from the first
packet with nothing left out, which is the definition of right, and only what fails there too is broken.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain

import numpy as np

from vssl_jax.batch import CHROMA, LUMA, VIDEO, YUV_SPACES
from vssl_jax.data.index import BrokenVideo, VideoFile, VideoIndex, open_video, packets_of, space_of

_SEEK_GAP = 4  # frames: decoding up to so many unwanted ones is cheaper than seeking past them
_SWSCALE_MATRIX = {"bt709": 1, "fcc": 4, "bt601": 5, "smpte240m": 7, "bt2020": 9}  # SWS_CS_*
_REORDER_DEPTH = 16  # frames: the most that H.264 and HEVC allow
_FULL, _LIMITED = 2, 1  # AVColorRange

Put = Callable[[int, object], None]


def read_frames(
    file: VideoFile, index: VideoIndex, wanted: Sequence[int], layout: str, canvas: tuple[int, int]
) -> tuple[dict[str, np.ndarray], tuple[int, int]]:
    """The frames `wanted` (numbers in display order; in any order, repeats allowed), turned upright, each in the top-left corner of a
    canvas (rows, columns).

    A picture larger than the canvas is reduced by an area filter, aspect kept; a smaller one is not enlarged. Interlaced frames stay woven.

    layout 'rgb': {"video": uint8 [n,Hc,Wc,3]}, through the file's own matrix and range, chroma interpolated; zero outside the picture.

    layout 'yuv420': {"luma": uint8 [n,Hc,Wc], "chroma": uint8 [n,Hc/2,Wc/2,2]}; outside the picture luma is 0 and chroma 128. These are the
    decoder's planes, untouched, where the source is 8-bit 4:2:0 in batch.YUV_SPACES[index.yuv_space], else they are converted to that (10
    bits, 4:2:2, 4:4:4, BT.2020, RGB). Sides are even: of an odd picture, the last row or column is left out. Turning moves the chroma site
    by half a pixel; that is ignored.

    Returns the arrays and (rows, columns) of the picture on the canvas.

    Raises:
      BrokenVideo: corrupt, if a wanted frame or one that it may depend on is damaged or absent, or what opening raises.
      ValueError: a number outside the video, an unknown layout, an odd canvas for yuv420.
    """
    pictures = _Pictures(index, wanted, layout, canvas)
    _decode(file, index, wanted, pictures.put)
    return pictures.arrays, (pictures.rows, pictures.cols)


def decode_only(file: VideoFile, index: VideoIndex, wanted: Sequence[int]) -> int:
    """Decodes exactly as read_frames does and converts nothing: the bound that a benchmark compares with. Returns how many frames were
    delivered."""
    delivered = []
    _decode(file, index, wanted, lambda number, frame: delivered.append(number))
    return len(delivered)


def _decode(file: VideoFile, index: VideoIndex, wanted: Sequence[int], put: Put) -> None:
    """Calls put(number, frame) for every wanted frame; a second call for the same number replaces the first."""
    numbers = sorted({int(n) for n in wanted})
    if not numbers:
        raise ValueError("no frame is wanted")
    if numbers[0] < 0 or numbers[-1] >= index.num_frames:
        raise ValueError(f"frames {numbers[0]}..{numbers[-1]} are wanted of a video with {index.num_frames}")
    again, counted = numbers, index.counted
    if not counted:
        with open_video(file) as (container, stream):
            again, counted = _seek_and_decode(container, stream, index, numbers, put)
    if again:
        with open_video(file) as (container, stream):
            _decode_from_start(container, stream, None if counted else index.times, again, put)


def _seek_and_decode(container, stream, index: VideoIndex, numbers: list[int], put: Put) -> tuple[list[int], bool]:
    """Returns the numbers that did not come out clean, and whether frames came out in another order than their times say."""
    again = []
    for group, key in _groups(index, numbers):
        packets = _packets_from(container, stream, index.keyframes, key) if key >= 0 else None
        if packets is None:
            again += group
            continue
        wanted = {int(index.times[n]): n for n in group}
        clean, ordered = _decode_group(stream.codec_context, packets, int(index.keyframes[key, 0]), wanted, index.skippable, put)
        if not ordered:
            return numbers, True
        if not clean:
            again += group
    return again, False


def _groups(index: VideoIndex, numbers: list[int]) -> list[tuple[list[int], int]]:
    """The numbers by the keyframe that decoding starts at, a row of index.keyframes or -1: the last one not shown after the frame, as what
    an open GOP shows before its keyframe needs the one before. A group goes on over a keyframe that is closer than a seek is worth."""
    groups: list[tuple[list[int], int]] = []
    last_key = None
    for number in numbers:
        key = int(np.searchsorted(index.keyframes[:, 0], index.times[number], "right")) - 1
        if groups and (key == last_key or bisect_left(index.times, index.keyframes[key, 0]) - groups[-1][0][-1] <= _SEEK_GAP):
            groups[-1][0].append(number)
        else:
            groups.append(([number], key))
        last_key = key
    return groups


def _packets_from(container, stream, keyframes: np.ndarray, key: int) -> Iterator | None:
    """The packets from a keyframe on, or None. Containers seek by display time, decoding time or position, some only roughly: wherever that
    lands, the packet's own time decides."""
    import av

    pts, dts = keyframes[key].tolist()
    for target in (pts, dts, int(keyframes[max(0, key - 1), 0])):
        try:
            container.seek(target, stream=stream)
        except av.FFmpegError:
            continue
        packets = packets_of(container, stream)
        for packet in packets:
            if packet.is_keyframe and packet.pts is not None and packet.pts >= pts:
                if packet.pts == pts:
                    return chain((packet,), packets)
                break  # landed after it
    return None


def _decode_group(context, packets: Iterable, key_pts: int, wanted: dict[int, int], skip: bool, put: Put) -> tuple[bool, bool]:
    """Returns (all wanted frames came out and nothing is damaged, frames came in the order of their times). `wanted` maps times to numbers.

    Frames shown before the keyframe are expected to be damaged: they belong to the GOP before. A damaged frame after it spoils the group,
    since wanted frames may depend on it and the decoder does not say.
    """
    clean, delivered, last = True, 0, None
    for pts, frame in _outputs(context, packets, wanted, skip):
        if frame is None:
            clean = clean and pts is not None and pts < key_pts
            continue
        if pts is None or (last is not None and pts <= last):
            return False, False
        last = pts
        if frame.is_corrupt and pts >= key_pts:
            clean = False
        if pts in wanted:
            put(wanted[pts], frame)
            delivered += 1
    return clean and delivered == len(wanted), True


def _outputs(context, packets: Iterable, until: Iterable[int], skip: bool) -> Iterator[tuple[int | None, object | None]]:
    """(time, frame) as they come out while the packets go in, and what is left inside then; (time, None) for a packet that fails.

    Packets go in until those with the times `until` are in, or all where that is empty.
    With `skip` the non-reference frames among the other packets are not decoded.
    """
    import av

    left, skipping = set(until), False
    context.skip_frame = "DEFAULT"
    for packet in packets:
        hit = packet.pts in left
        if skip and hit == skipping:
            skipping = not hit
            context.skip_frame = "NONREF" if skipping else "DEFAULT"
        try:
            for frame in context.decode(packet):
                yield frame.pts, frame
        except av.error.InvalidDataError:
            yield packet.pts, None
        if hit:
            left.discard(packet.pts)
            if not left:
                break
    try:
        for frame in context.decode(None):
            yield frame.pts, frame
    except av.error.InvalidDataError:
        yield None, None


def _decode_from_start(container, stream, times: range | np.ndarray | None, numbers: list[int], put: Put) -> None:
    """Decodes everything from the first packet on, up to the last number. Frames are told apart by `times`, or counted if that is None."""
    number_of = None if times is None else {int(pts): n for n, pts in enumerate(times)}
    left, damaged, count, last_put = set(numbers), False, -1, None
    until = () if times is None else [int(times[n]) for n in numbers]
    for pts, frame in _outputs(stream.codec_context, packets_of(container, stream), until, skip=False):
        if frame is None:
            damaged = True
            continue
        count += 1
        damaged = frame.is_corrupt or (damaged and not frame.key_frame)
        number = count if number_of is None else number_of.get(pts)
        # A frame that goes wrong may come out after those that were made from it, at most the depth of a decoder's reordering later.
        if damaged and (number in left or (last_put is not None and count - last_put <= _REORDER_DEPTH)):
            raise BrokenVideo("corrupt", f"frame {count} of the stream is damaged, or made from a damaged one")
        if number in left:
            put(number, frame)
            left.discard(number)
            last_put = count
        if number_of is None and not left and count - last_put > _REORDER_DEPTH:
            return
    if left:
        raise BrokenVideo("corrupt", f"frame {min(left)} never comes out of the decoder")


class _Pictures:
    """The canvases, and how a decoded frame gets onto them."""

    def __init__(self, index: VideoIndex, wanted: Sequence[int], layout: str, canvas: tuple[int, int]):
        from av.video.reformatter import Interpolation, VideoReformatter

        if layout not in ("rgb", "yuv420"):
            raise ValueError(f"layout is {layout!r}: it must be 'rgb' or 'yuv420'")
        if layout == "yuv420" and (canvas[0] % 2 or canvas[1] % 2):
            raise ValueError(f"a yuv420 canvas needs even sides, got {canvas[0]}x{canvas[1]}")
        self.index, self.layout = index, layout
        self.rows, self.cols, reduced = picture_size(index.height, index.width, canvas, even=layout == "yuv420")
        source = (self.rows, self.cols) if reduced else (index.height, index.width)
        self.size = source if index.rotation in (0, 180) else source[::-1]  # rows, columns before turning; not yet cropped to even
        self.space = YUV_SPACES[index.yuv_space]
        self.slots = {}
        for slot, number in enumerate(wanted):
            self.slots.setdefault(int(number), []).append(slot)
        shape = (len(wanted), *canvas)
        if layout == "rgb":
            self.arrays = {VIDEO: np.zeros((*shape, 3), np.uint8)}
        else:
            self.arrays = {LUMA: np.zeros(shape, np.uint8), CHROMA: np.full((shape[0], shape[1] // 2, shape[2] // 2, 2), 128, np.uint8)}
        self.reformatter = VideoReformatter()
        # Without the last two swscale takes a table that is up to 3 levels too dark, and repeats chroma instead of interpolating it.
        self.interpolation = Interpolation.AREA | Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND

    def put(self, number: int, frame) -> None:
        """Converts the frame and writes it to each slot that wants it."""
        if self.layout == "rgb":
            frame = self._convert(frame, "gbrp")  # planar: 7 times as fast as rgb24 with these flags
            green, blue, red = (self._upright(plane) for plane in frame.planes)
            targets = [(self.arrays[VIDEO][..., c], plane, self.rows, self.cols) for c, plane in enumerate((red, green, blue))]
        else:
            whole = (frame.height, frame.width) == self.size and frame.format.name in ("yuv420p", "yuvj420p")
            if not whole or space_of(frame) != self.space:
                frame = self._convert(frame, "yuv420p")
            luma, u, v = (self._upright(plane, chroma=c > 0) for c, plane in enumerate(frame.planes))
            half = self.rows // 2, self.cols // 2
            targets = [(self.arrays[LUMA], luma, self.rows, self.cols)]
            targets += [(self.arrays[CHROMA][..., c], plane, *half) for c, plane in enumerate((u, v))]
        for slot in self.slots[number]:
            for canvas_nxHxW, plane, rows, cols in targets:
                canvas_nxHxW[slot, :rows, :cols] = plane[:rows, :cols]

    def _convert(self, frame, pix_fmt: str):
        """The frame in another format, in the size before turning. Untold, PyAV takes an untagged frame for BT.601, and many cores."""
        matrix, full = space_of(frame)
        rgb = pix_fmt == "gbrp"
        return self.reformatter.reformat(
            frame,
            width=self.size[1],
            height=self.size[0],
            format=pix_fmt,
            src_colorspace=_SWSCALE_MATRIX[matrix],
            dst_colorspace=None if rgb else _SWSCALE_MATRIX[self.space[0]],
            src_color_range=_FULL if full or frame.format.is_rgb else _LIMITED,
            dst_color_range=_FULL if rgb or self.space[1] else _LIMITED,
            interpolation=self.interpolation,
            threads=1,
        )

    def _upright(self, plane, chroma: bool = False) -> np.ndarray:
        """A view of the plane without its padding, as displayed."""
        stride = plane.line_size
        view_HxW = np.frombuffer(plane, np.uint8).reshape(plane.height, abs(stride))[:, : plane.width]
        view_HxW = view_HxW if stride > 0 else view_HxW[::-1]
        if self.layout == "yuv420":
            rows, cols = (side // 2 if chroma else side // 2 * 2 for side in self.size)
            view_HxW = view_HxW[:rows, :cols]
        if self.index.rotation:
            view_HxW = np.rot90(view_HxW, self.index.rotation // 90)  # counterclockwise
        return view_HxW[:, ::-1] if self.index.mirrored else view_HxW


def picture_size(height: int, width: int, canvas: tuple[int, int], even: bool) -> tuple[int, int, bool]:
    """(rows, columns) of a height x width picture on the canvas, and whether it is reduced to them; with `even` both are even."""
    scale = min(1.0, canvas[0] / height, canvas[1] / width)
    rows, cols = (max(1, int(side * scale + 0.5)) for side in (height, width))
    rows, cols = min(rows, canvas[0]), min(cols, canvas[1])
    if even:
        rows, cols = max(2, rows // 2 * 2), max(2, cols // 2 * 2)
    return rows, cols, scale < 1
