"""Folders that a command writes into: made and tried before the work, not after it."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from vssl_jax.errors import UserError


@contextlib.contextmanager
def writable(folder: Path, what: str, option: str) -> Iterator[None]:
    """Makes `folder`. Where the body fails before anything is in it, it is taken away again, and so are those that were made for it.

    Raises UserError where it cannot be made or written: `what` it is, and the `option` that names another.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise UserError(f"{what} {folder} is a file, or would lie in one: give another {option}") from error
    except OSError as error:
        raise UserError(f"{what} {folder} cannot be made ({error.strerror}): give another {option}") from error
    try:
        if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            raise UserError(f"{what} {folder} may not be written: mend its permissions, or give another {option}")
        yield
    except BaseException:
        with contextlib.suppress(OSError):  # not empty: something is kept
            for path in made:
                path.rmdir()
        raise
