"""The evaluation protocols, an entry of PROTOCOLS each: how the settings of one are checked, what it needs, how its results are made.

The idea: who measures asks the entry, and compares no names. The settings of a protocol are the group of an evaluation's config that has its name.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vssl_jax.data.row import Input
from vssl_jax.data.synthetic import Synthetic
from vssl_jax.errors import UserError
from vssl_jax.evals import classifier, probes
from vssl_jax.evals.classification import Classification, classify
from vssl_jax.evals.features import Tables, side_by_side
from vssl_jax.evals.knn import check_centering, check_neighbors, weighted_knn
from vssl_jax.evals.retrieval import Retrieval, retrieve
from vssl_jax.evals.subject import Subject
from vssl_jax.models import heads
from vssl_jax.models.backbone import Features

Settings = Mapping[str, Any]
Result = Classification | Retrieval
Scores = tuple[np.ndarray, np.ndarray]  # of each class [M,C], higher is likelier; labels [M]


@dataclass(frozen=True)
class Planned:
    """What is known of an evaluation before there are weights."""

    train: Input | None
    test: Input
    classes: tuple[str, ...]  # of the data
    learned: tuple[str, ...] | None  # those that the training before it learns; None: the checkpoint is there to be asked
    model: Mapping[str, Any]
    shown: Sequence[Mapping[str, Any]]  # what each network is shown of a clip, see Subject
    features: Features  # the shapes of a batch of them


@dataclass(frozen=True)
class Protocol:
    """`check` raises UserError for settings that cannot be, before anything is read. Exactly one of three says what the results are made of:

    frozen  (the features of each network, number of classes, settings, seed): of features, which are computed once for all such protocols
    tuned   (networks, training videos, test videos, settings, seed): of the networks; {name: Result}, a name is the protocol's or "PROTOCOL, details"
    own     (checkpoint, test videos, their classes, settings): of the checkpoint's own head, without training videos and baseline. It is loaded at once,
            so that what it lacks is said before anything is measured; the result comes when what is returned is called.
    """

    check: Callable[[Settings, Planned], None]
    frozen: Callable[[Sequence[Tables], int, Settings, int], Scores | Retrieval] | None = None
    tuned: Callable[[Sequence[Subject], Input, Input, Settings, int], dict[str, Result]] | None = None
    own: Callable[[Path, Input, tuple[str, ...], Settings], Callable[[], Result]] | None = None
    seeded: bool = True  # or nothing is drawn: one seed says all
    reads_map: Callable[[Settings], bool] = lambda settings: False  # whether it needs the maps of frozen features


def _check_knn(settings: Settings, planned: Planned) -> None:
    check_neighbors(settings["k"], len(planned.train.source))
    check_centering(settings["center"])


def _knn(found: Sequence[Tables], classes: int, settings: Settings, seed: int) -> Scores:
    (train, test), (gallery_NxD, queries_MxD) = found[0], side_by_side(found, settings["center"])
    return weighted_knn(gallery_NxD, train.labels_N, queries_MxD, classes, settings["k"], settings["temperature"]), test.labels_N


def _check_retrieval(settings: Settings, planned: Planned) -> None:
    check_neighbors(max(settings["k"]), len(planned.train.source), "retrieval")
    check_centering(settings["center"])


def _retrieval(found: Sequence[Tables], classes: int, settings: Settings, seed: int) -> Retrieval:
    (train, test), (gallery_NxD, queries_MxD) = found[0], side_by_side(found, settings["center"])
    return retrieve(gallery_NxD, train.labels_N, queries_MxD, test.labels_N, settings["k"])


def _check_probe(settings: Settings, planned: Planned) -> None:
    videos = len(planned.train.source) + len(planned.test.source)
    probes.check_probe(settings, planned.features, len(planned.classes), videos, len(planned.shown))


def _probe(found: Sequence[Tables], classes: int, settings: Settings, seed: int) -> Scores:
    """A probe on each feature; their mean probabilities."""
    each = [probes.cached_probe(train, test, classes, settings, seed) for train, test in found]
    return np.mean(each, axis=0), found[0][1].labels_N


def _check_finetune(settings: Settings, planned: Planned) -> None:
    most, videos = max(settings["labels"]), planned.train.source
    if most > len(videos):
        raise UserError(f"finetune.labels asks for {most} labels of {len(videos)} training videos: lower it, 0 is all")
    if most > 0 and isinstance(videos, Synthetic):
        raise UserError("train.source=synthetic has no films to choose labels of: set finetune.labels=0, or name another source")
    for own in planned.shown:
        probes.check_fine_tuning(settings, planned.model, own, planned.train)


def _finetune(who: Sequence[Subject], train: Input, test: Input, settings: Settings, seed: int) -> dict[str, Result]:
    """Each network by itself, with each budget of labels; their mean probabilities."""
    out = {}
    for count in settings["labels"]:
        cut = probes.labeled(train, count, seed, settings["batch_size"])
        each = [probes.fine_tune(own, cut, test, settings, seed) for own in who]
        name = f"finetune, {count} labels" if count > 0 else "finetune"
        out[name] = classify(np.mean([scores for scores, _ in each], axis=0), each[0][1])
    return out


def _check_classifier(settings: Settings, planned: Planned) -> None:
    classifier.check_view(settings["view"], planned.model)
    if planned.learned == ():
        raise UserError("the protocol 'classifier' tests a run's own head, and this one learns no classes: leave it out of protocols")
    if planned.learned is not None:
        classifier.check_classes(planned.learned, planned.classes)


def _classifier(checkpoint: Path, test: Input, classes: tuple[str, ...], settings: Settings) -> Callable[[], Result]:
    head = classifier.load(checkpoint, settings["view"])
    classifier.check_classes(head.class_names or head.objective.classes, classes)
    return lambda: classifier.measure(head, test)


_PROBE = Protocol(_check_probe, frozen=_probe, reads_map=lambda settings: heads.reads_map(settings["head"]))
PROTOCOLS: dict[str, Protocol] = {
    "knn": Protocol(_check_knn, frozen=_knn, seeded=False),
    "retrieval": Protocol(_check_retrieval, frozen=_retrieval, seeded=False),
    "linear": _PROBE,
    "attentive": _PROBE,
    "finetune": Protocol(_check_finetune, tuned=_finetune),
    "classifier": Protocol(_check_classifier, own=_classifier),
}
