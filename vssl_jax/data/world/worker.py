"""One process of a build: `python -m vssl_jax.data.world.worker`, started by cache.py. It ends when the build that started it is gone."""

import argparse
import os
from pathlib import Path

from vssl_jax.data.world.spec import spec_from_json
from vssl_jax.data.world.videos import write_missing


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("spec", "split", "folder"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("count", "share", "shares", "parent"):
        parser.add_argument(f"--{name}", required=True, type=int)
    args = parser.parse_args()
    indices = range(args.share, args.count, args.shares)
    write_missing(spec_from_json(args.spec), args.split, Path(args.folder), indices, lambda: os.getppid() == args.parent)


if __name__ == "__main__":
    _main()
