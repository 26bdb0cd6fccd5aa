"""Tables that commands write into a README, each between two marks of its own: <!-- NAME: begin --> and <!-- NAME: end -->."""

import os
from pathlib import Path

from vssl_jax.errors import UserError


def check(path: Path, name: str) -> None:
    """Raises UserError where the file or a mark of `name` is not there."""
    _parts(path, name)


def put(path: Path, name: str, text: str) -> None:
    """Replaces what stands between the marks of `name`. Raises UserError where the file or a mark is not there; nothing is written then."""
    before, after = _parts(path, name)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(f"{before}\n{text}\n{after}", encoding="utf-8")
    os.replace(partial, path)


def _parts(path: Path, name: str) -> tuple[str, str]:
    """What stands before the table, with its mark, and what after it."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    old = path.read_text(encoding="utf-8")
    if old.count(begin) != 1 or old.count(end) != 1 or old.index(begin) > old.index(end):
        raise UserError(f"{path} needs the lines {begin} and {end}, once each, where the table is to stand")
    before, rest = old.split(begin)
    return before + begin, end + rest.split(end)[1]
