"""Random access to TFRecord files: the n-th record without reading those before it.

A TFRecord is length (8 bytes), its checksum (4), data, checksum (4), one after another, with no table of contents; walking over the lengths
once makes that table. Local files and mounted buckets only; compressed files have no positions to jump to.
"""

import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from vssl_jax.data.index import BrokenVideo
from vssl_jax.errors import UserError

_HEADER, _FOOTER = 12, 4


def _masked_crc32c(data: bytes) -> int:
    """TFRecord's checksum: Castagnoli's CRC (RFC 3720, appendix B.4), turned by 15 bits and moved."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


@dataclass(frozen=True)
class Part:
    """Records `skip` .. `skip + take` of a file; take None: to its end."""

    path: str
    skip: int = 0
    take: int | None = None


class Records:
    """The records of some files, in order, as bytes. Threads may read at the same time."""

    def __init__(self, parts: Sequence[Part]):
        self._places: list[tuple[str, int, int]] = []
        for part in parts:
            places = _walk(part.path)
            self._places += places[part.skip : None if part.take is None else part.skip + part.take]

    def __len__(self) -> int:
        return len(self._places)

    def name(self, i: int) -> str:
        path, offset, _ = self._places[i]
        return f"{path}@{offset}"

    def __getitem__(self, i: int) -> bytes:
        """Raises BrokenVideo where the file ends before the record does."""
        path, offset, length = self._places[i]
        with open(path, "rb") as file:
            if (missing := offset + length - os.fstat(file.fileno()).st_size) > 0:
                raise BrokenVideo("truncated", f"{path} ends {missing} bytes before the end of this record")
            file.seek(offset)
            return file.read(length)


def _walk(path: str) -> list[tuple[str, int, int]]:
    """(path, offset, length) of every record; the last one may reach beyond the end of the file. Raises UserError for a length that reaches there because
    it is damaged: all that comes after it would be lost.
    """
    places, at, size = [], 0, os.path.getsize(path)
    with open(path, "rb") as file:
        while at + _HEADER <= size:
            file.seek(at)
            header = file.read(_HEADER)
            length, checksum = struct.unpack("<QI", header)
            beyond = at + _HEADER + length + _FOOTER > size
            if beyond and not places:
                raise UserError(f"{path} is no TFRecord file, or a compressed one, or cut within its first record: remove or unpack it")
            if beyond and checksum != _masked_crc32c(header[:8]):
                raise UserError(f"{path} is damaged at byte {at} or before it, after {len(places)} records: copy it again, or remove it")
            places.append((path, at + _HEADER, length))
            at += _HEADER + length + _FOOTER
    return places
