"""Shards of JPEG frames: SequenceExamples with the keys of MediaSequence and DMVR, so that shards made for those read here and the other
way round.

Twelve times the bytes of H.264, and the fastest to read: frames are chosen before they are decoded, and there is nothing to seek.

    context        clip/label/index   int64      class
                   clip/label/text    bytes      its name                        (written, not read)
                   clip/data_path     bytes      where the frames came from      (written, not read)
                   image/format       bytes      "jpeg"                          (written, not read: PNG is told by its bytes)
    feature lists  image/encoded      bytes      one picture per frame
                   image/timestamp    int64      microseconds from the first frame
    beside them    classes.txt        the class names, one a line
"""

import collections
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vssl_jax.data.index import BrokenVideo
from vssl_jax.data.records import Part, Records
from vssl_jax.data.source import UNLABELED, keys_with_labels, read_class_names
from vssl_jax.data.stills import StillsVideo, open_stills
from vssl_jax.data.tensorflow_host import tensorflow
from vssl_jax.errors import UserError

CLASSES_FILE = "classes.txt"


class _Pictures(Sequence):
    """The pictures of a record, each copied out of it when it is wanted."""

    def __init__(self, features):
        self._features = features

    def __len__(self) -> int:
        return len(self._features)

    def __getitem__(self, number: int) -> bytes:
        return self._features[number].bytes_list.value[0]


class TFRecordSource:
    """Records of JPEG frames (source.Source). `fps` is the rate of records that have no timestamps."""

    def __init__(self, paths: Sequence[str], classes: tuple[str, ...], fps: float):
        self.classes = classes
        self.keys = keys_with_labels(classes)
        self._records = Records([Part(path) for path in paths])
        self._fps = fps

    def __len__(self) -> int:
        return len(self._records)

    def name(self, i: int) -> str:
        return self._records.name(i)

    def open(self, i: int) -> StillsVideo:
        example = _parse(self._records[i])
        lists = example.feature_lists.feature_list
        frames = _Pictures(lists["image/encoded"].feature)
        ticks = [feature.int64_list.value[0] for feature in lists["image/timestamp"].feature]
        if ticks and len(ticks) != len(frames):
            raise BrokenVideo("corrupt", f"{len(frames)} frames, {len(ticks)} timestamps")
        seconds = (np.array(ticks, np.int64) - ticks[0]) / 1e6 if ticks else np.arange(len(frames)) / self._fps
        return open_stills(frames, seconds, self._label(i, example))

    def _label(self, i: int, example) -> int:
        """Without class names labels have no meaning here and are not given."""
        values = example.context.feature["clip/label/index"].int64_list.value
        if not self.classes or not values:
            return UNLABELED
        if not 0 <= values[0] < len(self.classes):
            raise UserError(f"{self.name(i)} has the label {values[0]}, but there are {len(self.classes)} class names: mend {CLASSES_FILE}")
        return values[0]


def tfrecord_source(path: str, classes: str = "", fps: float = 25.0) -> TFRecordSource:
    """All shards in a folder (files with '.tfrecord' in their names, in sorted order), or one file.

    Class names come from the text file `classes`, or from classes.txt beside the shards; where there is neither, the videos are unlabeled.
    """
    root = Path(path)
    if not root.exists():
        raise UserError(f"data.path {path!r} is not there: the source 'tfrecord' needs a folder of shards, or one")
    shards = [root] if root.is_file() else sorted(file for file in root.iterdir() if ".tfrecord" in file.name)
    if not shards:
        raise UserError(
            f"the folder {path} holds no file with '.tfrecord' in its name: make shards with python -m vssl_jax.data.make_shards"
        )
    _check_whole([shard.name for shard in shards] if root.is_dir() else [])
    beside = shards[0].parent / CLASSES_FILE
    names = read_class_names(classes) if classes else read_class_names(beside) if beside.exists() else ()
    source = TFRecordSource([str(shard.absolute()) for shard in shards], names, fps)
    if not len(source):
        raise UserError(f"the shards in {path} hold no record")
    return source


def _check_whole(names: Sequence[str]) -> None:
    """Raises UserError where of shards that count themselves, as in shard-00003-of-00016.tfrecord, some are not there."""
    sets = collections.defaultdict(set)
    for name in names:
        if match := re.search(r"(\d+)-of-(\d+)", name):
            sets[name[: match.start()], int(match[2]), name[match.end() :]].add(int(match[1]))
    for (before, count, behind), numbers in sets.items():
        if len(numbers) < count:
            raise UserError(
                f"of {count} shards {before}...{behind} {count - len(numbers)} are not there: copy or make them again, or rename those that are to be read"
            )


def serialize(frames: Sequence[bytes], seconds: Sequence[float], label: int, label_name: str, origin: str) -> bytes:
    """One video as a record: `frames` are JPEGs, `seconds` their times. A video without a label gets no label keys."""
    train = tensorflow().train

    def of_bytes(value: bytes):
        return train.Feature(bytes_list=train.BytesList(value=[value]))

    def of_int(value: int):
        return train.Feature(int64_list=train.Int64List(value=[value]))

    context = {"clip/data_path": of_bytes(os.fsencode(origin)), "image/format": of_bytes(b"jpeg")}
    if label != UNLABELED:
        context |= {"clip/label/index": of_int(label), "clip/label/text": of_bytes(label_name.encode())}
    lists = {
        "image/encoded": train.FeatureList(feature=[of_bytes(frame) for frame in frames]),
        "image/timestamp": train.FeatureList(feature=[of_int(round(s * 1e6)) for s in seconds]),
    }
    example = train.SequenceExample(context=train.Features(feature=context), feature_lists=train.FeatureLists(feature_list=lists))
    return example.SerializeToString()


def _parse(data: bytes):
    from google.protobuf.message import DecodeError

    try:
        return tensorflow().train.SequenceExample.FromString(data)
    except DecodeError as error:
        raise BrokenVideo("corrupt", f"its record is no SequenceExample: {error}") from error
