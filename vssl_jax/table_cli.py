"""The command line of the commands that fill a table cell by cell: where results are kept, which cells, and the README to write."""

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from absl import flags

from vssl_jax import cli, readme
from vssl_jax.errors import UserError


class _Named(Protocol):
    """A cell of a table."""

    @property
    def name(self) -> str: ...


Named = TypeVar("Named", bound=_Named)


def parse(argv: Sequence[str], usage: str, results: str) -> flags.FlagValues:
    """The flags of a command that fills a table. Raises UserError where one is unknown, or an argument is none."""
    values = flags.FlagValues()
    flags.DEFINE_string("results", results, "See the usage.", flag_values=values)
    flags.DEFINE_string("only", "", "See the usage.", flag_values=values)
    flags.DEFINE_string("readme", "", "See the usage.", flag_values=values)
    flags.DEFINE_bool("debug", False, "Show tracebacks.", flag_values=values)
    if "--help" in argv or "-h" in argv:
        print(usage)
        raise SystemExit(0)
    try:
        rest = values(["vssl_jax", *argv])
    except flags.Error as error:
        raise UserError(" ".join(str(error).split())) from error
    if len(rest) > 1:
        raise UserError(f"unexpected argument {rest[1]!r}: the recipes of the table are fixed; --only=REGEX chooses among its cells")
    return values


def chosen(only: str, cells: Sequence[Named]) -> list[Named]:
    """The cells whose names match. Raises UserError where none does."""
    try:
        found = [cell for cell in cells if re.search(only, cell.name)]
    except re.error as error:
        raise UserError(f"--only={only} is no regular expression: {error}") from error
    if not found:
        raise UserError(f"--only={only} matches no cell; cells are {', '.join(dict.fromkeys(cell.name for cell in cells))}")
    return found


def fill(
    values: flags.FlagValues,
    mark: str,
    cells: Sequence[Named],
    table: Callable[[], str],
    one: Callable[[Named, Callable[[str], None]], None],
    kept: str,
) -> None:
    """Does `one(cell, say)` for every cell, prints the table and writes it between the README's marks; `kept` is what a person who stops it is told."""
    if values.readme:
        readme.put(Path(values.readme), mark, table())  # what is wrong with the file shows before an hour of work
    with cli.stoppable(kept):
        for i, cell in enumerate(cells, start=1):
            one(cell, lambda line, i=i: print(f"[{i}/{len(cells)}] {line}", file=sys.stderr, flush=True))
    text = table()
    if values.readme:
        readme.put(Path(values.readme), mark, text)
    print(text)
