"""A list of videos as a CSV file: `path[,label][,start,end]`.

With a header line the columns may stand in any order; the first line is a header if one of its cells is `path`. Without one the number
of columns says which they are: path / path,label / path,start,end / path,label,start,end. Relative paths are relative to the CSV's folder.
Labels are names, or integers from 0 (when all are; -1 is none). start and end are seconds from the first frame. Quoting is as in any CSV, '#' begins no
comment (it occurs in file names), empty lines are passed over.
"""

import csv
from pathlib import Path

from vssl_jax.data.files import FileEntry, FileSource, absolute
from vssl_jax.data.folder import EXTENSIONS
from vssl_jax.data.source import UNLABELED, number_labels, read_class_names
from vssl_jax.errors import UserError, unknown_name

COLUMNS = ("path", "label", "start", "end")
_HEADLESS = {1: ("path",), 2: ("path", "label"), 3: ("path", "start", "end"), 4: COLUMNS}


def manifest_source(path: str, classes: str = "") -> FileSource:
    """The videos a CSV file lists. `classes` names a text file with the class names in order; without it they are the sorted labels.

    A file that is missing is a broken video like any other; all missing is an error. Raises UserError, with the line's number, for what
    cannot be understood.
    """
    rows = _read(path)
    header = _columns(path, rows)
    columns = header if header else _HEADLESS.get(len(rows[0][1]))
    if columns is None:
        raise UserError(f"{path} line {rows[0][0]}: {len(rows[0][1])} columns; a manifest has path[,label][,start,end]")
    rows = rows[1:] if header else rows
    if not rows:
        raise UserError(f"{path} has a header and no videos: write one line path[,label][,start,end] for each")
    parsed = [(number, _cells(path, number, cells, columns)) for number, cells in rows]
    names, numbers = (), {}
    if "label" in columns:
        names, numbers = number_labels([cells["label"] for _, cells in parsed], read_class_names(classes) if classes else ())
    folder = Path(path).parent
    entries = []
    for number, cells in parsed:
        label = numbers[cells["label"]] if "label" in columns else UNLABELED
        entries.append(FileEntry(absolute(folder / cells["path"]), label, _span(path, number, cells)))
    if not any(Path(entry.path).exists() for entry in entries):
        raise UserError(
            f"none of the {len(entries)} videos that {path} lists exists, such as {entries[0].path}: "
            "relative paths count from the CSV's folder"
        )
    return FileSource(entries, names)


def _read(path: str) -> list[tuple[int, list[str]]]:
    """(line number, cells) of the lines that are not empty."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True, skipinitialspace=True)
            rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f"cannot read the manifest {path}: {error}; data.path must name a CSV file with lines path[,label][,start,end]"
        ) from error
    if not rows:
        raise UserError(f"the manifest {path} is empty: write one line path[,label][,start,end] for each video")
    return rows


def _columns(path: str, rows: list[tuple[int, list[str]]]) -> tuple[str, ...] | None:
    """The header's columns, or None where the first line is a video."""
    (number, first), folder = rows[0], Path(path).parent
    cells = [cell.lower() for cell in first]
    if "path" not in cells:
        no_file = not (folder / first[0]).exists() and Path(first[0]).suffix.lower() not in EXTENSIONS
        if no_file and (set(cells) & set(COLUMNS) or (len(rows) > 1 and (folder / rows[1][1][0]).exists())):
            raise UserError(
                f"{path} line {number} seems to name columns ({','.join(first)}), but none of them path: call the column of the videos' files so, "
                "and the others label, start and end"
            )
        return None
    for cell in cells:
        if cell not in COLUMNS:
            raise unknown_name(f"column (in {path} line {number})", cell, COLUMNS)
    if len(set(cells)) < len(cells) or ("start" in cells) != ("end" in cells):
        raise UserError(f"{path} line {number}: the header must name each column once, and start and end together")
    return tuple(cells)


def _cells(path: str, number: int, cells: list[str], columns: tuple[str, ...]) -> dict[str, str]:
    if len(cells) != len(columns):
        raise UserError(
            f"{path} line {number}: {len(cells)} columns where {len(columns)} are due ({','.join(columns)}); "
            "quote a path that holds a comma"
        )
    row = dict(zip(columns, cells, strict=True))
    for name in ("path", "label"):
        if row.get(name) == "":
            raise UserError(f"{path} line {number}: the {name} is empty")
    return row


def _span(path: str, number: int, cells: dict[str, str]) -> tuple[float, float] | None:
    if "start" not in cells or (cells["start"] == "" and cells["end"] == ""):
        return None
    try:
        start, end = float(cells["start"]), float(cells["end"])
    except ValueError:
        raise UserError(
            f"{path} line {number}: start {cells['start']!r} and end {cells['end']!r} must be seconds, or both empty for the whole video"
        ) from None
    if not 0 <= start < end:
        raise UserError(f"{path} line {number}: start {start:g} and end {end:g} must be 0 <= start < end, in seconds")
    return start, end
