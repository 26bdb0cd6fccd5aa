"""H.264 whose pictures are coded as two fields, as camcorders (AVCHD) and broadcasts write it. No encoder of PyAV's makes such, so the bits are put together
here: every macroblock is I_PCM, that is its samples as they are (ITU-T H.264, 7.3).
"""

import os
from fractions import Fraction

import numpy as np

from tests.data.video_files import Clip, _to_frame

_DELIMITER = b"\0\0\0\1\x09\x10"
_TICKS = 90_000 // 25


class _Bits:
    def __init__(self):
        self.bits: list[int] = []

    def plain(self, *pairs: tuple[int, int]) -> "_Bits":
        """(value, number of bits) each."""
        self.bits += [value >> i & 1 for value, count in pairs for i in range(count - 1, -1, -1)]
        return self

    def golomb(self, *values: int) -> "_Bits":
        for value in values:
            length = (value + 1).bit_length()
            self.plain((0, length - 1), (value + 1, length))
        return self

    def samples(self, values: np.ndarray) -> "_Bits":
        self.bits += [0] * (-len(self.bits) % 8)
        self.bits += np.unpackbits(values.astype(np.uint8).ravel()).tolist()
        return self

    def unit(self, importance: int, kind: int) -> bytes:
        """The NAL unit, with its end and with bytes that keep start codes out of it."""
        self.plain((1, 1))
        out, zeros = bytearray(), 0
        for byte in np.packbits(self.bits).tobytes():
            if zeros >= 2 and byte <= 3:
                out.append(3)
                zeros = 0
            out.append(byte)
            zeros = zeros + 1 if byte == 0 else 0
        return b"\0\0\0\1" + bytes([importance << 5 | kind]) + bytes(out)


def _parameters(rows: int, columns: int) -> bytes:
    """Of pictures that are whole macroblocks wide, and cut off to `rows` below."""
    units = -(-rows // 32)
    sequence = _Bits().plain((77, 8), (0, 8), (30, 8)).golomb(0, 0, 0, 4, 1).plain((0, 1)).golomb(columns // 16 - 1, units - 1)
    sequence.plain((0, 1), (0, 1), (1, 1), (1, 1)).golomb(0, 0, 0, (32 * units - rows) // 4).plain(
        (0, 1)
    )  # fields allowed, cropped, no VUI
    picture = _Bits().golomb(0, 0).plain((0, 1), (0, 1)).golomb(0, 0, 0).plain((0, 1), (0, 2)).golomb(0, 0, 0).plain((1, 1), (0, 1), (0, 1))
    return sequence.unit(3, 7) + picture.unit(3, 8)


def _field(number: int, bottom: int, luma: np.ndarray, chroma: list[np.ndarray]) -> bytes:
    """One field: the top one starts anew (IDR), the bottom one belongs to it."""
    bits = _Bits().golomb(0, 7, 0).plain((0, 4), (1, 1), (bottom, 1))
    if not bottom:
        bits.golomb(number % 2)
    bits.plain((bottom, 8), *(() if bottom else ((0, 1),)), (0, 1)).golomb(0, 1)
    for row in range(0, luma.shape[0], 16):
        for column in range(0, luma.shape[1], 16):
            bits.golomb(25).samples(luma[row : row + 16, column : column + 16])
            for plane in chroma:
                bits.samples(plane[row // 2 : row // 2 + 8, column // 2 : column // 2 + 8])
    return bits.unit(3, 1 if bottom else 5)


def write_fields(path: str | os.PathLike, frames_NxHxWx3: np.ndarray, by_field: bool = False) -> str:
    """A raw stream (.h264), or packets of a frame, or with `by_field` of a field, in the container that the name asks for."""
    import av

    units = []
    rows, columns = frames_NxHxWx3.shape[1:3]
    head = _DELIMITER + _parameters(rows, columns)
    for number, array in enumerate(frames_NxHxWx3):
        planes = _to_frame(array, number, Clip()).to_ndarray()
        luma, chroma = planes[:rows], planes[rows:].reshape(2, rows // 2, columns // 2)
        padded = [np.pad(plane, ((0, -rows % 32 // (1 + (plane is not luma))), (0, 0)), mode="edge") for plane in (luma, *chroma)]
        for bottom in (0, 1):
            mine = [plane[bottom::2] for plane in padded]
            units.append((_DELIMITER if bottom else head) + _field(number, bottom, mine[0], mine[1:]))
    raw = os.fspath(path) if str(path).endswith(".h264") else f"{os.fspath(path)}.h264"
    with open(raw, "wb") as file:
        file.write(b"".join(units))
    if raw == os.fspath(path):
        return raw
    packets = units if by_field else [a + b for a, b in zip(units[::2], units[1::2], strict=True)]
    with av.open(raw) as reader, av.open(os.fspath(path), "w") as writer:
        stream = writer.add_stream_from_template(reader.streams.video[0])
        for number, content in enumerate(packets):
            packet = av.Packet(content)
            packet.time_base, packet.pts = Fraction(1, 90_000), 1000 + number * _TICKS // (2 if by_field else 1)
            packet.dts, packet.is_keyframe, packet.stream = packet.pts, not by_field or number % 2 == 0, stream
            writer.mux(packet)
    return os.fspath(path)
