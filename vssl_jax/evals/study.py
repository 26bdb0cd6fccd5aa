"""The videos of one evaluation, and what is refused of them before any is read: data without labels, other classes, clips that the networks do not take.

The one idea: a mistake that shows without the weights is said before the training that an evaluation follows, and before its first number.
"""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from vssl_jax import config as config_lib
from vssl_jax.data.recipe import broken_record, build_input
from vssl_jax.data.row import Input
from vssl_jax.data.synthetic import Synthetic
from vssl_jax.errors import UserError, unknown_name
from vssl_jax.evals import subject
from vssl_jax.evals.protocols import PROTOCOLS, Planned
from vssl_jax.models import backbone as backbone_lib
from vssl_jax.objectives.protocol import VIDEO
from vssl_jax.train.checkpoint import load_meta

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Study:
    """What one evaluation is made of: the inputs and the names of the classes; `train` is None where no protocol asks for training videos."""

    config: Mapping[str, Any]
    train: Input | None
    test: Input
    classes: tuple[str, ...]


def open_study(config: ConfigDict, workdir: Path | None) -> Study:
    """Opens the sources. Raises UserError where labels are missing or the two do not have the same classes."""
    test = _open(config, "test", workdir)
    if all(PROTOCOLS[name].own for name in config.protocols):
        if not test.source.classes:
            raise UserError(_unlabeled("test"))
        return Study(config, None, test, test.source.classes)
    train = _open(config, "train", workdir)
    if not train.source.classes:
        raise UserError(_unlabeled("train"))
    if train.source.classes != test.source.classes:
        both = [
            f"{len(classes)}{f', such as {classes[0]!r}' if classes else ''}" for classes in (train.source.classes, test.source.classes)
        ]
        raise UserError(
            f"training and test data have other classes ({both[0]}; and {both[1]}): name one file of them in train.classes and test.classes"
        )
    return Study(config, train, test, train.source.classes)


def _unlabeled(split: str) -> str:
    return (
        f"the evaluation's {split} data have no labels: give a folder whose sub-folders are the classes, or a manifest with labels, in {split}.* of its "
        f"settings (in a recipe of main eval.{split}.*)"
    )


def _open(config: ConfigDict, split: str, workdir: Path | None) -> Input:
    """The input that config.train or config.test describes. Raises UserError that says which of the two it is about."""
    data = config[split]
    try:
        broken = broken_record(data, workdir, data=split, group=f"the evaluation's {split}")
        return build_input(data, config.batch_size, 0, broken, shuffle=split == "train")
    except UserError as error:
        where = f"the evaluation's {split} data ({split}.* of its settings, in a recipe of main eval.{split}.*)"
        raise UserError(f"{where}: {config_lib.named_in(split, str(error))}") from error


def check(config: ConfigDict, model: Mapping[str, Any], shown: Sequence[Mapping[str, Any]], classes: tuple[str, ...] | None = None) -> None:
    """Raises UserError for a mistake in `config` that shows without the weights of `model`: names, data, sizes. So it is said before the
    training that an evaluation follows, and before the first protocol, not after it. `shown`: what its networks that are evaluated are shown of
    a clip. `classes` are those that this training learns; None: the checkpoint is there to be asked.
    """
    for name in config.protocols:
        if name not in PROTOCOLS:
            raise unknown_name("protocol", name, PROTOCOLS)
    study = open_study(config, None)
    found = [_feature_shapes(config, model, own, input) for input in (study.train, study.test) if input is not None for own in shown]
    if study.train is not None:
        _check_pair(study.train, study.test)
    planned = Planned(study.train, study.test, study.classes, classes, model, shown, found[0])
    for name in config.protocols:
        PROTOCOLS[name].check(config[name], planned)


def _check_pair(train: Input, test: Input) -> None:
    """Raises UserError where the test videos are those of training, or their clips are not of one length (a CNN takes both, and compares what cannot be
    compared); warns where some are. Videos are told apart by their names, none is opened; those of noise have none.
    """
    names = [{data.source.name(i) for i in range(len(data.source))} for data in (train, test) if not isinstance(data.source, Synthetic)]
    both = set.intersection(*names) if len(names) == 2 else set()
    if both and names[0] == names[1]:
        raise UserError(
            f"the {len(both)} training videos are the test videos too: name others in train.* or test.* of the evaluation's settings"
        )
    if both:
        log.warning("%d of the %d test videos are training videos too: their answers were given in training", len(both), len(names[1]))
    if train.spec.frames != test.spec.frames:
        raise UserError(
            f"clips of the training data have {train.spec.frames} frames, those of the test data {test.spec.frames}: "
            "set train.sampler.frames and test.sampler.frames to one number, the model's"
        )


def _feature_shapes(config: ConfigDict, model: Mapping[str, Any], shown: Mapping[str, Any], input: Input) -> backbone_lib.Features:
    """Of a batch, by tracing what `features.extract` runs."""
    who = subject.Subject(model, {}, {}, "", shown)
    module, view = who.module(), who.eval_view(config.view)

    def run(batch):
        params, stats = subject.initial(model, 0)
        clips = view(batch)
        return backbone_lib.apply(module, params, stats, clips.reshape(-1, *clips.shape[2:]), train=False, method="features")[0]

    return jax.eval_shape(run, input.spec.shapes())


def check_clips(study: Study, who: Sequence[subject.Subject]) -> None:
    """Warns where clips are of another length than in training: a CNN takes any, so that no error would say it. Flow has one frame fewer than its clip, and
    so have colors that are read beside it. Raises UserError for stored flow that no network looks at.
    """
    looked_at, wanted = any("flow" in own.shown for own in who), who[0].module().frames
    what, lost = ("flow", 1) if looked_at else ("clips", 0)
    for name, input in (("train", study.train), ("test", study.test)):
        if input is None:
            continue
        if input.spec.flow and not looked_at:
            raise UserError(f"{name}.flow is of no use: features={','.join(study.config.features)} looks at no flow, leave it empty")
        if (frames := input.spec.frames - lost) != wanted:
            log.warning(
                "%s: %s of %d frames, the network was trained on %d: set %s.sampler.frames=%d",
                name, what, frames, wanted, name, wanted + lost,
            )  # fmt: skip


def with_own_clips(config: ConfigDict, checkpoint: Path) -> ConfigDict:
    """`config` with the frames and strides of clips that are 0 as the checkpoint's run has them: as many frames as its model takes (with flow one more), as
    far apart, at the same rate, as in its own evaluation, or its training. Weights from elsewhere do not say how far: 4. Raises UserError as `load_export`
    does.
    """
    splits = [config[name].sampler for name in ("train", "test")]
    if all(sampler.frames and sampler.stride for sampler in splits):
        return config
    meta = load_meta(checkpoint)
    theirs = meta.get("config", {})
    known = [part["sampler"] for part in (theirs.get("eval", {}).get("test", {}), theirs.get("data", {})) if "sampler" in part]
    own = {"stride": 4, "target_fps": 0.0} | (known[0] if known else {})
    shown = meta.get("features", {VIDEO: {}})
    more = any("flow" in shown.get(name, {}) for name in config.features)
    config = config.copy_and_resolve_references().unlock()
    for split in (config.train, config.test):
        split.sampler.frames = split.sampler.frames or meta.get("model", {}).get("frames", 16) + more
        if not split.sampler.stride:
            split.sampler.stride, split.sampler.target_fps = own["stride"], split.sampler.target_fps or own["target_fps"]
    return config.lock()
