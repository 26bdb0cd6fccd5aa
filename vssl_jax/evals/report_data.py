"""What the report shows beside metrics and eval.json: the map of features and the nearest neighbors, as arrays in WORKDIR/report.

The idea: evaluation saves arrays and the report draws them, so a report can be written anew, on a machine without the videos or an
accelerator."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = "report"
MAP, NEIGHBORS = "feature_map.npz", "neighbors.npz"
UNLABELED = "unlabeled"


@dataclass(frozen=True)
class FeatureMap:
    """t-SNE of N features: positions float [N, 2], labels int [N] (-1: none), class names by label (may be empty), and what was mapped in
    words."""

    xy_Nx2: np.ndarray
    labels_N: np.ndarray
    class_names: tuple[str, ...] = ()
    about: str = ""


@dataclass(frozen=True)
class NeighborPictures:
    """Q queries and their K nearest videos, nearest first: clips uint8 [Q,T,H,W,3] and [Q,K,T,H,W,3] (T = 1 for stills), labels (-1: none),
    cosines."""

    query_QxTxHxWx3: np.ndarray
    neighbor_QxKxTxHxWx3: np.ndarray
    query_label_Q: np.ndarray
    neighbor_label_QxK: np.ndarray
    cosine_QxK: np.ndarray
    class_names: tuple[str, ...] = ()
    about: str = ""


def label_name(label: int, class_names: tuple[str, ...]) -> str:
    if label < 0:
        return UNLABELED
    return class_names[label] if label < len(class_names) else f"class {label}"


def save_feature_map(workdir: str | os.PathLike, feature_map: FeatureMap) -> Path:
    return _save(Path(workdir) / FOLDER / MAP, feature_map)


def save_neighbor_pictures(workdir: str | os.PathLike, pictures: NeighborPictures) -> Path:
    return _save(Path(workdir) / FOLDER / NEIGHBORS, pictures)


def remove(workdir: str | os.PathLike) -> None:
    """What `save_feature_map` and `save_neighbor_pictures` wrote."""
    for name in (MAP, NEIGHBORS):
        (Path(workdir) / FOLDER / name).unlink(missing_ok=True)


def load_feature_map(workdir: str | os.PathLike) -> FeatureMap | None:
    """What was saved, or None."""
    return _load(Path(workdir) / FOLDER / MAP, FeatureMap)


def load_neighbor_pictures(workdir: str | os.PathLike) -> NeighborPictures | None:
    """What was saved, or None."""
    return _load(Path(workdir) / FOLDER / NEIGHBORS, NeighborPictures)


def load_config(workdir: str | os.PathLike) -> dict[str, Any] | None:
    """config.json, or None."""
    path = Path(workdir) / "config.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def load_broken(workdir: str | os.PathLike) -> list[dict[str, str]]:
    """The broken videos that all hosts of the run met: {"name", "cause", "detail"} each, one entry per name."""
    found = {}
    for path in sorted(Path(workdir).glob("broken_videos*.jsonl")):
        whole = path.read_text(encoding="utf-8").split("\n")[:-1]  # what follows the last line's end was cut off by a kill
        found |= {video["name"]: video for video in map(json.loads, whole)}
    return [found[name] for name in sorted(found)]


def _save(path: Path, record: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with open(partial, "wb") as file:
        # An array of no text would be float64: state the type.
        np.savez_compressed(file, **{k: np.array(v, np.str_) if isinstance(v, tuple) else v for k, v in asdict(record).items()})
    os.replace(partial, path)
    return path


def _load(path: Path, kind: type) -> Any:
    if not path.exists():
        return None
    with np.load(path) as arrays:
        values = {name: arrays[name] for name in arrays.files}
    return kind(**values | {"class_names": tuple(values["class_names"].tolist()), "about": str(values["about"])})
