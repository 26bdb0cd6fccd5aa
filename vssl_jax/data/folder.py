"""A folder of video files. Files in sub-folders are labeled with the first folder's name under the root; files at the top have no label.

Order is the sorted order of paths, so that it is the same on every machine.
"""

import os
from pathlib import Path

from vssl_jax.data.files import FileEntry, FileSource, absolute
from vssl_jax.data.source import UNLABELED, name_labels, read_class_names
from vssl_jax.errors import UserError

SPLITS = frozenset("train training val valid validation test testing".split())
EXTENSIONS = frozenset(".3gp .avi .flv .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .ogv .ts .webm .wmv".split())


def folder_source(path: str, classes: str = "") -> FileSource:
    """All video files under `path`, recursively. `classes` names a text file with the class names in order; without it they are the sorted
    folder names.

    Raises UserError for a path that is no folder, a folder without video files, one that mixes labeled and unlabeled files, or one whose folders are named
    as splits are.
    """
    root = Path(path)
    if not root.is_dir():
        raise UserError(
            f"data.path {path!r} is {'a file' if root.is_file() else 'not there'}: the source 'folder' needs a folder of video files"
        )
    files = video_files(root)
    if not files:
        what = "is empty" if not any(root.iterdir()) else "holds no video file"
        raise UserError(f"the folder {path} {what}: put files named {', '.join(sorted(EXTENSIONS))} in it or its sub-folders")
    nested = [file for file in files if file.parent != root]
    if nested and len(nested) < len(files):
        loose = next(file for file in files if file.parent == root)
        raise UserError(
            f"the folder {path} has videos in sub-folders (labels) and beside them, such as {loose.name}: "
            "move them in, or list them in a manifest"
        )
    if not nested:
        return FileSource([FileEntry(absolute(file), UNLABELED) for file in files])
    labels = [file.relative_to(root).parts[0] for file in files]
    if SPLITS >= {label.lower() for label in labels}:
        raise UserError(
            f"the folders in {path} are splits, not classes ({', '.join(sorted(set(labels)))}): name one of them, such as data.path={root / labels[0]}"
        )
    names, numbers = name_labels(labels, read_class_names(classes) if classes else ())
    return FileSource([FileEntry(absolute(file), numbers[label]) for file, label in zip(files, labels, strict=True)], names)


def video_files(root: Path) -> list[Path]:
    """Sorted paths of the files under `root` whose extension is a video's; links to folders are followed (not to one that they are in), hidden files and
    folders are not looked at. Raises UserError where a folder cannot be listed: without its videos, hosts would draw from other lists.
    """

    def fail(error: OSError) -> None:
        raise UserError(f"the folder {error.filename} cannot be listed ({error.strerror}): mend it, or leave it out of {root}") from error

    def comes_back(here: str, name: str) -> bool:
        path = os.path.join(here, name)
        return os.path.islink(path) and Path(os.path.realpath(here)).is_relative_to(os.path.realpath(path))

    found = []
    for here, folders, names in os.walk(root, followlinks=True, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".") and not comes_back(here, name)]
        found += [Path(here, name) for name in names if not name.startswith(".") and Path(name).suffix.lower() in EXTENSIONS]
    return sorted(found)
