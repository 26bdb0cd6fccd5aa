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
            file.seek(offset)
            data = file.read(length)
        if len(data) < length:
            raise BrokenVideo("truncated", f"{path} ends {length - len(data)} bytes before the end of this record")
        return data


def _walk(path: str) -> list[tuple[str, int, int]]:
    """(path, offset, length) of every record; the last one may reach beyond the end of the file."""
    places, at, size = [], 0, os.path.getsize(path)
    with open(path, "rb") as file:
        while at + _HEADER <= size:
            file.seek(at)
            (length,) = struct.unpack("<Q", file.read(8))
            if not places and at + _HEADER + length + _FOOTER > size:
                raise UserError(f"{path} is no TFRecord file, or a compressed one, or cut within its first record: remove or unpack it")
            places.append((path, at + _HEADER, length))
            at += _HEADER + length + _FOOTER
    return places
