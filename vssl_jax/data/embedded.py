"""The embedded dataset as a source: the procedural world, built as real video files where they are not there yet, read through its
manifest."""

from vssl_jax.cache import FOLDER
from vssl_jax.data.files import FileSource
from vssl_jax.data.manifest import manifest_source


def embedded_source(path: str = "", world: str = "slide-8", split: str = "train", world_videos: int = 0, cache: str = "") -> FileSource:
    """The videos of a world's split (train, validation, test), built once into `cache` (empty: vssl_jax.cache.FOLDER).

    `world` is the difficulty, a name in world.DIFFICULTIES; `world_videos` how many to build (0: the difficulty's own number); `path` a
    folder of pictures, for the worlds that cut their textures from pictures. Raises UserError for an unknown world or split.
    """
    from vssl_jax.data.world import build, find

    spec = find(world, images=path if path else None)
    folder = build(spec, split, cache if cache else FOLDER, world_videos if world_videos else None)
    return manifest_source(str(folder / "manifest.csv"), classes=str(folder / "classes.txt"))
