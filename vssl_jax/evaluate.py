"""A downstream number from any checkpoint, on any source: python -m vssl_jax.evaluate --config=configs/eval/NAME.py --config.checkpoint=RUN

  --config.checkpoint=DIR     a workdir of a finished run, or an export folder
  --config.train.path=...     labeled training videos; --config.test.path=... test videos
  --workdir=DIR               where eval.json goes (default: the checkpoint's workdir)

Each number stands beside the same protocol on a randomly initialized encoder. It is of the videos that have a label; how many have none is said.
"""

import functools
import logging
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from vssl_jax import batch as batch_lib
from vssl_jax import cli, folders
from vssl_jax import config as config_lib
from vssl_jax.data import pipeline
from vssl_jax.data.order import sample_rng
from vssl_jax.data.row import Input
from vssl_jax.errors import UserError
from vssl_jax.evals import classifier, features, gallery, probes, report_data, subject, tables
from vssl_jax.evals.classification import Classification, binomial_stderr, classify, seed_stderr
from vssl_jax.evals.knn import joined, weighted_knn
from vssl_jax.evals.retrieval import Retrieval, retrieve
from vssl_jax.evals.study import CLASSIFIER, PROTOCOLS, Study, check, check_clips, labeled, open_study, with_own_clips
from vssl_jax.perturb import view as view_lib
from vssl_jax.train import distributed
from vssl_jax.train.checkpoint import EXPORT

log = logging.getLogger(__name__)


Tables = tuple[features.Table, features.Table]  # one frozen feature of the training and the test videos
Subjects = tuple[subject.Subject, ...]  # the networks that make the features that are evaluated together
Result = Classification | Retrieval


class Measured(dict):
    """Results of the same networks: protocol name -> list of Result, one per seed. `tables` are the features that they are from, without
    their maps; None where no protocol computed any.
    """

    tables: tuple[Tables, ...] | None = None


def _side_by_side(found: Sequence[Tables], center: str) -> tuple[np.ndarray, np.ndarray]:
    return joined([(train.pooled_NxD, test.pooled_NxD) for train, test in found], center)


def _knn(study: Study, found: Sequence[Tables], config: Mapping[str, Any], seed: int) -> Classification:
    (train, test), (gallery_NxD, queries_MxD) = found[0], _side_by_side(found, config["center"])
    scores = weighted_knn(gallery_NxD, train.labels_N, queries_MxD, len(study.classes), config["k"], config["temperature"])
    return classify(scores, test.labels_N)


def _retrieval(study: Study, found: Sequence[Tables], config: Mapping[str, Any], seed: int) -> Retrieval:
    (train, test), (gallery_NxD, queries_MxD) = found[0], _side_by_side(found, config["center"])
    return retrieve(gallery_NxD, train.labels_N, queries_MxD, test.labels_N, config["k"])


def _probe(study: Study, found: Sequence[Tables], config: Mapping[str, Any], seed: int) -> Classification:
    """A probe on each feature; their mean probabilities."""
    each = [probes.cached_probe(train, test, len(study.classes), config, seed) for train, test in found]
    return classify(np.mean(each, axis=0), found[0][1].labels_N)


# Protocols on frozen features: (study, (train table, test table) of each feature, their config, seed) -> result.
FROZEN: dict[str, Callable[..., Result]] = {"knn": _knn, "retrieval": _retrieval, "linear": _probe, "attentive": _probe}
SEEDLESS = ("knn", "retrieval")  # nothing is drawn: one seed says all


def _extract(study: Study, who: Subjects, keep_map: bool) -> tuple[Tables, ...]:
    """Frozen features of the training and the test videos that have a label."""
    inputs = {"training videos": study.train, "test videos": study.test}
    both = [features.extract(who, study.config["view"], pipeline.epoch(i), keep_map, what) for what, i in inputs.items()]
    return tuple(zip(*both, strict=True))


def _frozen(study: Study, who: Subjects, names: list[str], seeds: tuple[int, ...]) -> Measured:
    found = _extract(
        study, who, keep_map=any("head" in study.config[name] and study.config[name]["head"]["name"] == "attentive" for name in names)
    )
    out = Measured()
    for name in names:
        config = study.config[name]
        out[name] = [FROZEN[name](study, found, config, seed) for seed in (seeds[:1] if name in SEEDLESS else seeds)]
    out.tables = tuple(tuple(table._replace(map_NxTxHxWxD=None) for table in both) for both in found)
    return out


def _finetuned(study: Study, who: Subjects, seed: int) -> Measured:
    """Each network by itself; their mean probabilities."""
    config, out = study.config["finetune"], Measured()
    for count in config["labels"]:
        train = labeled(study.train, count, seed, config["batch_size"])
        each = [probes.fine_tune(own, train, study.test, config, seed) for own in who]
        out[_finetune_name(count)] = [classify(np.mean([scores for scores, _ in each], axis=0), each[0][1])]
    return out


def _finetune_name(count: int) -> str:
    return f"finetune, {count} labels" if count > 0 else "finetune"


def measure(study: Study, subjects: Mapping[int, Subjects], names: list[str]) -> Measured:
    """All protocols of `names` for {seed: networks}; the same ones for every seed when a checkpoint is evaluated."""
    merged = Measured()
    frozen = [name for name in names if name in FROZEN]
    same = len({id(s) for s in subjects.values()}) == 1
    groups = [(next(iter(subjects.values())), tuple(subjects))] if same else [(s, (seed,)) for seed, s in subjects.items()]
    for who, seeds in groups:
        parts = [_frozen(study, who, frozen, seeds)] if frozen else []
        parts += [_finetuned(study, who, seed) for seed in seeds if "finetune" in names]
        for part in parts:
            merged.tables = part.tables if merged.tables is None else merged.tables
            for name, results in part.items():
                merged.setdefault(name, []).extend(results)
    return merged


def _row(name: str, metric: str, results: list[Result], baseline: list[Result] | None, study: Study, seeds) -> dict[str, Any]:
    values = [r.numbers()[metric] for r in results]
    base = [r.numbers()[metric] for r in baseline] if baseline else None
    n = results[0].n

    def stderr(numbers):
        """Over other seeds, and over other test videos where it is a share of them."""
        both = (seed_stderr(numbers), binomial_stderr(float(np.mean(numbers)), n) if metric in results[0].shares else None)
        known = [error for error in both if error is not None]
        return math.hypot(*known) if known else None

    settings = config_lib.to_dict(study.config[name.split(",")[0]])
    confusion = {"confusion": sum(r.confusion_CxC for r in results).tolist()} if isinstance(results[0], Classification) else {}
    return {
        "name": name, "metric": metric, "value": float(np.mean(values)), "baseline": None if base is None else float(np.mean(base)),
        "chance": results[0].chance().get(metric), "n": n, "seeds": list(seeds), "stderr": stderr(values),
        "baseline_stderr": None if base is None else stderr(base), "settings": settings,
    } | confusion  # fmt: skip


def show_features(study: Study, found: Sequence[Tables], workdir: Path) -> None:
    """The report's map of the features, side by side, and the nearest neighbors of a few test videos. Where they cannot be had (too few videos, no
    scikit-learn), a warning says why: the numbers stand without them.
    """
    readers = tuple(functools.partial(_clip_shown, i) for i in (study.train, study.test))
    sides = _side_by_side(found, "none")
    both = tuple(table._replace(pooled_NxD=pooled) for table, pooled in zip(found[0], sides, strict=True))
    try:
        gallery.save_map(workdir, both[1], study.classes)
        gallery.save_neighbors(workdir, both, readers, study.classes)
    except (UserError, ImportError) as error:
        log.warning("the report lacks the map of the features or the nearest neighbors: %s", error)


def _clip_shown(input: Input, i: int) -> np.ndarray:
    """uint8 [T,H,W,3]: the clip of video i that evaluation looks at, without its canvas."""
    video = input.source.open(i)
    frames = input.sampler(sample_rng(input.seed, i), video.index.seconds, video.span)[0]
    arrays, (rows, columns) = video.read(frames.tolist(), input.spec.layout, (input.spec.height, input.spec.width))
    clip = {key: array[None, None] for key, array in arrays.items()}
    clip |= {batch_lib.EXTENT: np.array([[[rows, columns]]], np.int32), batch_lib.YUV_SPACE: np.array([[video.index.yuv_space]], np.int32)}
    return np.asarray(255 * view_lib.unit_rgb(clip)[0, 0, :, :rows, :columns] + 0.5).astype(np.uint8)


def evaluate(config: ConfigDict, checkpoint: Path, workdir: Path) -> dict[str, Any]:
    """Measures every protocol of `config.protocols`, writes <workdir>/eval.json, prints the result table."""
    names = list(config.protocols)
    start = time.monotonic()
    who = subject.load(checkpoint, config.features)
    check(config, who[0].model, [own.shown for own in who])
    study = open_study(config, workdir)
    check_clips(study, who)
    seeds = tuple(config.seeds)
    print(f"evaluating {', '.join(names)} on {len(study.test.source)} videos, seeds {seeds}", file=sys.stderr)
    own_head = None
    if CLASSIFIER in names:
        own_head = classifier.load(checkpoint, config.classifier.view)
        classifier.check_classes(own_head.class_names or own_head.objective.classes, study.classes)
    results = measure(study, dict.fromkeys(seeds, who), names)
    if own_head is not None:
        results[CLASSIFIER] = [classifier.measure(own_head, study.test)]
    fresh = {seed: tuple(subject.random(own, seed, number) for number, own in enumerate(who)) for seed in seeds} if config.baseline else {}
    baseline = measure(study, fresh, names) if config.baseline else {}
    rows = []
    for name, found in results.items():
        for metric in found[0].numbers():
            rows.append(_row(name, metric, found, baseline.get(name), study, seeds[: len(found)]))
    result = {
        "dataset": f"{config.test.source} {config.test.path if config.test.path else config.test.world} {config.test.split}",
        "checkpoint": str(checkpoint),
        "step": who[0].step,  # a training that goes on exports to the same place
        "features": ", ".join(config.features),
        "class_names": list(study.classes),
        "inputs": {name: config_lib.to_dict(config)[name] for name in ("train", "test", "view")},
        "protocols": rows,
    }
    print(tables.result_table(result), flush=True)
    tables.write_eval(workdir, result)
    report_data.remove(workdir)  # what an earlier evaluation left is of other weights
    if results.tables is not None:
        show_features(study, results.tables, workdir)
    print(f"evaluated in {time.monotonic() - start:.0f} s", file=sys.stderr)
    return result


def _evaluate_into(config: ConfigDict, checkpoint: Path, workdir: Path) -> None:
    with folders.writable(workdir, "the workdir", "--workdir=DIR"):
        evaluate(config, checkpoint, workdir)
        if (workdir / "report" / "index.html").exists():  # a run's, which shows these numbers
            from vssl_jax.evals.report import write_report

            print(f"report: {write_report(workdir)}", file=sys.stderr)


def main(argv: list[str]) -> None:
    config, flags = cli.parse(argv, __doc__, keys=("protocols", "checkpoint"))
    if not config.checkpoint:
        raise UserError("no checkpoint: give --config.checkpoint=DIR, a workdir of a finished run or an export folder")
    if not config.protocols:
        raise UserError(f"no protocol: give --config.protocols=NAME,NAME, of {', '.join(PROTOCOLS)}")
    distributed.initialize()
    cli.use_compilation_cache()
    checkpoint = Path(config.checkpoint).absolute()
    workdir = Path(flags.workdir).absolute() if flags.workdir else checkpoint.parent if checkpoint.name == EXPORT else checkpoint
    with cli.stoppable("stopped while evaluating; nothing of it was kept, and the same command starts it anew"):
        distributed.on_first(lambda: _evaluate_into(with_own_clips(config, checkpoint), checkpoint, workdir))


if __name__ == "__main__":
    cli.run(main)
