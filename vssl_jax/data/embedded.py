"""The embedded dataset as a source: the procedural world, built as real video files where they are not there yet, read through its
manifest."""

from vssl_jax.cache import FOLDER
from vssl_jax.data.files import FileSource
from vssl_jax.data.manifest import manifest_source
from vssl_jax.errors import UserError


def find_world(source: str, world: str, path: str):
    """The world's spec. Raises UserError for an unknown one, and for a path that it does not read."""
    from vssl_jax.data.world import find

    spec = find(world, images=path if path else None)
    if path and not spec.needs_images:
        raise UserError(
            f"data.source={source} makes its videos, and reads none in data.path={path}: set data.source too, such as --config.data.source=folder"
        )
    return spec


def embedded_source(path: str = "", world: str = "slide-8", split: str = "train", world_videos: int = 0, cache: str = "") -> FileSource:
    """The videos of a world's split (train, validation, test), built once into `cache` (empty: vssl_jax.cache.FOLDER).

    `world` is the difficulty, a name in world.DIFFICULTIES; `world_videos` how many to build (0: the difficulty's own number); `path` a
    folder of pictures, for the worlds that cut their textures from pictures. Raises UserError for an unknown world or split, and for a path where pictures
    are of no use: videos there would not be read.
    """
    from vssl_jax.data.world import build

    spec = find_world("embedded", world, path)
    folder = build(spec, split, cache if cache else FOLDER, world_videos if world_videos else None)
    return manifest_source(str(folder / "manifest.csv"), classes=str(folder / "classes.txt"))
