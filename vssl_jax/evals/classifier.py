"""A trained classifier as it stands: the head that the checkpoint brings, on the clips and crops of videos it has not seen.

The number of the papers: softmax averaged over several clips and crops of every test video. Whatever trained the classifier, and wherever
(fine-tuned here, or converted), it is a backbone, a head and the names of its classes.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vssl_jax import models
from vssl_jax.data.row import Input
from vssl_jax.errors import UserError
from vssl_jax.evals import probes
from vssl_jax.evals.classification import Classification, classify
from vssl_jax.models import backbone as backbone_lib
from vssl_jax.objectives.classify import Classify
from vssl_jax.objectives.protocol import ENCODER, METHOD, STATS
from vssl_jax.perturb.recipe import build_eval_view
from vssl_jax.perturb.view import RandomView
from vssl_jax.train.checkpoint import load_export

HEAD = "head"


@dataclass(frozen=True)
class Classifier:
    """A classifier with its weights; `class_names` is () where the checkpoint does not say."""

    objective: Classify
    params: Mapping[str, Any]
    memory: Mapping[str, Any]
    class_names: tuple[str, ...]
    source: str


def load(path: str | os.PathLike, view: Mapping[str, Any]) -> Classifier:
    """The classifier of an export, or of a workdir that holds one, looking at `view`. Raises UserError where there is none."""
    parts, meta = load_export(path)
    recipe = meta.get("config", {}).get("objective", {})
    classes = meta.get("classes", recipe.get("classes"))
    if ENCODER not in parts or METHOD + HEAD not in parts or classes is None:
        raise UserError(f"{path} holds no classifier (it needs an encoder and a head): fine-tune it first, or ask for other protocols")
    module = models.build(meta["model"])
    pixels = backbone_lib.pixels(module)
    head = probes.heads.build(recipe.get("head", {"name": "fc_norm"}), classes)
    eval_view = build_eval_view(view, pixels)
    random_view = RandomView(**pixels._asdict())  # of training: not used here
    objective = Classify(encoder=module, head=head, classes=classes, frames=module.frames, view=random_view, eval_view=eval_view)
    names = tuple(meta.get("class_names", ()))
    return Classifier(objective, {ENCODER: parts[ENCODER], HEAD: parts[METHOD + HEAD]}, {STATS: parts.get(STATS, {})}, names, str(path))


def check_classes(trained: tuple[str, ...] | int, tested: tuple[str, ...]) -> None:
    """Raises UserError where the test data number other classes than the classifier: `trained` are their names, or how many where the names
    are not known.
    """
    if isinstance(trained, int):
        if trained != len(tested):
            raise UserError(f"the classifier knows {trained} classes, the test data have {len(tested)}: name other test data")
    elif trained != tested:
        places = [f"{a!r}, not {b!r}" for a, b in zip(trained, tested, strict=False) if a != b]
        how = f"number {[a == b for a, b in zip(trained, tested, strict=False)].index(False)} is {places[0]}" if places else "their number"
        raise UserError(
            f"the classifier and the test data have other classes ({len(trained)} and {len(tested)}; what differs first: {how}): "
            "give the test data the classifier's own classes file"
        )


def check_view(view: Mapping[str, Any], model: Mapping[str, Any]) -> None:
    """Raises UserError for a view that the model cannot be shown."""
    build_eval_view(view, backbone_lib.pixels(models.build(model)))


def measure(classifier: Classifier, test_input: Input) -> Classification:
    """Multi-view testing. The classes of the data are the classifier's, see check_classes."""
    return classify(*probes.multi_view(classifier.objective, classifier.params, classifier.memory, test_input))
