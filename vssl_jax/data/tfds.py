"""Any TFDS dataset with a video feature. TFDS keeps a video as one PNG per frame, so its records are read like shards of pictures.

Records are read by number, from ArrayRecord files or from TFRecord files, and only the wanted frames are decoded. That needs the records as
they lie on disk, which is why this goes past `as_dataset`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vssl_jax.data.records import Part, Records
from vssl_jax.data.source import UNLABELED, keys_with_labels
from vssl_jax.data.stills import StillsVideo, open_stills
from vssl_jax.data.tensorflow_host import tensorflow
from vssl_jax.errors import UserError


class TFDSSource:
    """Prepared records of a builder (source.Source). `names` are the keys of the video and, or None, of the label."""

    def __init__(self, records: Sequence[bytes], title: str, names: tuple[str, str | None], classes: tuple[str, ...], fps: float):
        self.classes = classes
        self.keys = keys_with_labels(classes)
        self._records = records
        self._title = title
        self._video, self._label = names
        self._fps = fps

    def __len__(self) -> int:
        return len(self._records)

    def name(self, i: int) -> str:
        return f"{self._title}[{i}]"

    def open(self, i: int) -> StillsVideo:
        features = tensorflow().train.Example.FromString(self._records[i]).features.feature
        frames = features[self._video].bytes_list.value
        label = UNLABELED if self._label is None else features[self._label].int64_list.value[0]
        return open_stills(frames, np.arange(len(frames)) / self._fps, label)


def tfds_source(path: str, split: str = "train", tfds_dir: str = "", fps: float = 25.0) -> TFDSSource:
    """A prepared dataset: `path` is a TFDS name ('ucf101', 'ucf101/ucf101_1:2.0.0') looked up in `tfds_dir` (empty: TFDS' own), or a
    prepared folder.

    `split` may be anything TFDS understands ('train[:80%]'). TFDS keeps no times: `fps` says how fast the frames follow each other. Raises
    UserError where the dataset is unknown, not prepared or not all there, or has no video feature of its own (at the top level).
    """
    builder = _builder(path, tfds_dir)
    video, label = _features(builder)
    try:
        promised = builder.info.splits[split].num_examples
    except (ValueError, KeyError) as error:
        raise UserError(f"{builder.info.full_name} has no split {split!r}: it has {', '.join(sorted(builder.info.splits))}") from error
    if not promised:
        raise UserError(f"the split {split!r} of {builder.info.full_name} has no videos: take a larger share")
    try:
        records, found = _records(builder, split)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"{builder.info.full_name} cannot be read in {builder.data_dir}: {' '.join(str(error).split())[:200]}; copy or prepare it again"
        ) from error
    if found != promised:
        raise UserError(
            f"of the {promised} records of {builder.info.full_name}, {split!r}, {found} are in {builder.data_dir}: copy or prepare it again"
        )
    classes = () if label is None else tuple(builder.info.features[label].names)
    return TFDSSource(records, f"{builder.info.full_name} {split}", (video, label), classes, fps)


def _builder(path: str, tfds_dir: str) -> Any:
    tensorflow()  # before TFDS imports it, so that it keeps off the accelerators
    try:
        import tensorflow_datasets
    except ImportError as error:
        raise UserError("data.source=tfds needs tensorflow_datasets: pip install 'vssl_jax[data]'") from error
    if Path(path).is_dir():
        if not Path(path, "features.json").exists():
            raise UserError(f"{path} is no prepared TFDS dataset: a version's folder holds features.json and dataset_info.json")
        return tensorflow_datasets.builder_from_directory(path)
    try:
        builder = tensorflow_datasets.builder(path, data_dir=tfds_dir if tfds_dir else None)
    except (tensorflow_datasets.core.registered.DatasetNotFoundError, ValueError, AssertionError) as error:
        raise UserError(f"TFDS has no dataset {path!r}: {' '.join(str(error).split())[:200]}") from error
    if not builder.is_prepared():
        raise UserError(f"{path} is not prepared in {builder.data_dir}: run 'tfds build {path} --file_format=array_record' first")
    return builder


def _features(builder: Any) -> tuple[str, str | None]:
    """Names of the video and of the label: the class feature named 'label', or the only one."""
    from tensorflow_datasets import features as kinds

    features = dict(builder.info.features.items())
    videos = [name for name, feature in features.items() if isinstance(feature, kinds.Video)]
    if len(videos) != 1:
        raise UserError(f"{builder.info.full_name} has {len(videos)} video features among {', '.join(sorted(features))}: one is needed")
    labels = [name for name, feature in features.items() if isinstance(feature, kinds.ClassLabel)]
    if "label" in labels:
        return videos[0], "label"
    return videos[0], labels[0] if len(labels) == 1 else None


def _records(builder: Any, split: str) -> tuple[Sequence[bytes], int]:
    """The records of a split, and how many of them its files hold."""
    from tensorflow_datasets import decode

    instructions = builder.info.splits[split].file_instructions
    if builder.info.file_format.value == "tfrecord":
        records = Records([Part(str(one.filename), one.skip, None if one.take < 0 else one.take) for one in instructions])
        return records, len(records)
    records = builder.as_data_source(split, deserialize_method=decode.DeserializeMethod.RAW_BYTES)
    # A source opens no file before a record of it is read.
    from array_record.python.array_record_module import ArrayRecordReader

    found = 0
    for one in instructions:
        reader = ArrayRecordReader(str(one.filename))
        found += max(0, min(reader.num_records() - one.skip, one.take if one.take >= 0 else reader.num_records()))
        reader.close()
    return records, found
