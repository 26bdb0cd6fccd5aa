"""An evaluation of a network whose features are known: what is measured is of the given weights, trained on one half and tested on the other."""

import dataclasses
import importlib
import json
import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.data.array_source import ArraySource, ArrayVideo
from tests.models.clips import OfClips
from vssl_jax import batch as batch_lib
from vssl_jax import config as config_lib
from vssl_jax import evaluate
from vssl_jax.data.broken import BrokenRecord
from vssl_jax.data.row import Input, evaluation_row
from vssl_jax.data.sample import Dense, Views
from vssl_jax.data.subset import Subset, balanced
from vssl_jax.errors import UserError
from vssl_jax.evals import features, gallery, measure, probes, report, report_data, subject
from vssl_jax.evals import study as study_lib
from vssl_jax.evals.classification import classify
from vssl_jax.models.backbone import Features

CLASSES = 3


class Brightness(OfClips):
    """Features: a clip's brightness times a vector, which is 0 in fresh weights; so fresh ones know nothing."""

    frames: int = 2
    size: int = 8

    @nn.compact
    def __call__(self, clip, train=False, rng=None):
        kernel = self.param("kernel", nn.initializers.zeros, (2,))
        bright = jnp.mean(clip, axis=(1, 2, 3, 4))
        out = jnp.stack([bright, bright**2], axis=1) * kernel
        return Features(out[:, None, None, None], out)


class Shades(ArraySource):
    """Videos as bright as their class says; `turned` by that many classes."""

    turned = 0

    def open(self, i):
        video = super().open(i)
        return Shade(video.index, (video.label + self.turned) % CLASSES, None, i)


class Shade(ArrayVideo):
    def read(self, wanted, layout, canvas):
        shade = 20 + 100 * (self.number % CLASSES) + self.number % 7
        return {"video": np.full((len(wanted), *canvas, 3), shade, np.uint8)}, canvas


def input_of(videos, turned=0, clips=1, shuffle=False, **changes):
    source = Shades(videos, **changes)
    source.turned = turned
    return Input(source, batch_lib.Spec(8, clips, 2, 8, 8), Views(2, 1, clips=clips), BrokenRecord(1.0), shuffle=shuffle)


@pytest.fixture
def settings(monkeypatch):
    monkeypatch.setattr(subject.models, "build", lambda config: Brightness())
    config = config_lib.evaluation()
    config.knn.k = 3
    config.linear.update({"steps": 60, "batch_size": 16})
    config.linear.optimizer.learning_rate = 0.1
    config.finetune.update({"steps": 1, "batch_size": 8, "drop": (), "model": {}, "head": {"name": "linear"}})
    config.finetune.optimizer.update({"layer_decay": 1.0, "learning_rate": 0.0})
    return config


def weights(size):
    return (subject.Subject({}, {"kernel": np.full(2, size, np.float32)}, {}, "given"),)


def top1(measured, name):
    return measured[name][0].numbers()["top1"]


def test_the_given_weights_are_trained_on_one_half_and_tested_on_the_other(settings):
    """Where the training half calls every class by another's name, all answers are wrong: none was seen in the test half."""
    for turned, expected in ((0, 1.0), (1, 0.0)):
        study = study_lib.Study(settings, input_of(30, turned, shuffle=True), input_of(21), ("a", "b", "c"))
        found = measure.measure(study, {0: weights(1.0)}, ["knn", "linear"])
        assert (top1(found, "knn"), top1(found, "linear")) == (expected, expected), turned
    random = (subject.random(weights(1.0)[0], 0),)
    assert 0.2 < top1(measure.measure(study, {0: random}, ["linear"]), "linear") < 0.5, "fresh weights know nothing"


class PartlyLabeled(Shades):
    """Every fifth video has no label, or none has one."""

    def open(self, i):
        video = super().open(i)
        return dataclasses.replace(video, label=-1) if i % 5 == 0 or not self.labeled else video


def partly_labeled(videos, labeled=True):
    """(the input, one of those that have a label)."""
    source = PartlyLabeled(videos)
    source.labeled = labeled
    whole = dataclasses.replace(input_of(videos), source=source)
    return whole, dataclasses.replace(whole, source=Subset(source, tuple(i for i in range(videos) if i % 5)))


def test_videos_without_a_label_are_left_out_and_said(settings, caplog):
    """Of both halves, by every protocol."""
    features._say_unlabeled.cache_clear()
    settings.retrieval.k = (1, 5)
    names = ["knn", "retrieval", "linear", "finetune"]
    (train, labeled_train), (test, labeled_test) = partly_labeled(30), partly_labeled(21)
    found = measure.measure(study_lib.Study(settings, train, test, ("a", "b", "c")), {0: weights(1.0)}, names)
    said = sorted(record.message for record in caplog.records if "label" in record.message)
    assert said == ["5 of the test videos have no label: they are left out", "6 of the training videos have no label: they are left out"]
    wanted = measure.measure(study_lib.Study(settings, labeled_train, labeled_test, ("a", "b", "c")), {0: weights(1.0)}, names)
    for name in names[:-1]:
        assert found[name][0].n == 16 and found[name][0].numbers() == wanted[name][0].numbers(), name
    assert found["finetune"][0].n == 16


def test_where_no_video_has_a_label_that_is_one_line(settings):
    labeled, (none, _) = input_of(30), partly_labeled(21, labeled=False)
    for train, test, what in ((labeled, none, "test"), (none, labeled, "training")):
        study = study_lib.Study(settings, train, test, ("a", "b", "c"))
        with pytest.raises(UserError, match=f"not one of the {what} videos could be used: 21 have no label"):
            measure.measure(study, {0: weights(1.0)}, ["knn"])
    with pytest.raises(UserError, match="not one of the test videos could be used: 21 have no label"):
        probes.fine_tune(weights(1.0)[0], labeled, none, settings.finetune, 0)


def test_fine_tuning_begins_with_the_given_encoder(settings):
    """At rate 0 the answers are a drawn head's on its features: all alike where they are 0."""
    study = input_of(30, shuffle=True), input_of(21)
    spread = [np.ptp(probes.fine_tune(*weights(size), *study, settings.finetune, 0)[0], axis=0).max() for size in (50.0, 0.0)]
    assert spread[0] > 0.01 and spread[1] == 0


@pytest.mark.parametrize("sampler", [Views(2), Dense(2)])
def test_fine_tuning_sees_other_frames_of_a_video_every_time_and_frozen_features_the_same(settings, monkeypatch, sampler):
    """Ten epochs of eight videos; also where the recipe says `views`, as it does for frozen features."""
    source = ArraySource(8)
    study = dataclasses.replace(input_of(8, shuffle=True), source=source, sampler=sampler)
    study, fitted = study_lib.Study(settings, study, input_of(8), source.classes), []
    monkeypatch.setattr(
        probes, "_fit", lambda _, config, shapes, batches, *rest: fitted.append(batches(0)) or types.SimpleNamespace(params={}, memory={})
    )
    monkeypatch.setattr(probes, "multi_view", lambda *_: (np.eye(CLASSES)[[0]], np.array([0])))
    measure.measure(study, {0: weights(1.0)}, ["finetune"])
    (batches,) = fitted
    firsts = [set() for _ in range(8)]
    for _, batch in zip(range(10), batches, strict=False):
        for i, video in zip(batch["index"], batch["video"], strict=True):
            firsts[i].add(int(video.flat[0]))
    batches.close()
    assert min(map(len, firsts)) > 2
    assert study.train.sampler is sampler


def test_views_are_averaged_after_the_softmax_and_padding_is_left_out(settings):
    """Eleven videos in batches of eight, one of them broken, two clips of each."""

    class Halves(Shades):
        def open(self, i):
            return Half(*(getattr(super(Halves, self).open(i), name) for name in ("index", "label", "span", "number")))

    class Half(Shade):
        def read(self, wanted, layout, canvas):
            arrays, extent = super().read(wanted, layout, canvas)
            arrays["video"][len(wanted) // 2 :] //= 2  # the second clip is darker
            return arrays, extent

    objective = probes.classifier(Brightness(), settings.finetune, CLASSES, {})
    head = {"linear": {"kernel": jnp.array([[1.0, -1, 0], [0, 2, 1]]), "bias": jnp.zeros(3)}}
    params, memory = {"encoder": {"kernel": jnp.array([3.0, 1.0])}, "head": head}, {"stats": {}}
    spec = input_of(11, clips=2)
    found, labels = probes.multi_view(objective, params, memory, dataclasses.replace(spec, source=Halves(11, broken={4: "corrupt"})))
    readable = [i for i in range(11) if i != 4]
    assert labels.tolist() == [i % 3 for i in readable]
    shades = np.array([[20 + 100 * (i % 3) + i % 7] * 2 for i in readable], np.uint8) // np.array([1, 2], np.uint8)
    video = np.broadcast_to(shades[:, :, None, None, None, None], (*shades.shape, 2, 8, 8, 3))
    batch = jax.device_get(batch_lib.fake(batch_lib.Spec(10, 2, 2, 8, 8), jax.random.key(0))) | {"video": video}
    logits = np.asarray(jax.jit(lambda b: objective.logits(params, memory, b))(batch))
    each = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    assert np.abs(each[:, 0] - each[:, 1]).max() > 0.05
    np.testing.assert_allclose(found, each.mean(1), atol=1e-5)


def test_errors_are_of_seeds_and_of_test_videos_and_confusions_of_all_seeds(settings):
    study = study_lib.Study(settings, None, input_of(21), ("a", "b", "c"))
    labels = np.arange(20) % 3
    results = [classify(np.eye(3)[(labels + (np.arange(20) < wrong)) % 3], labels) for wrong in (4, 8)]
    found = measure.row("linear", "top1", results, None, study, (0, 1))
    assert found["value"] == pytest.approx(0.7)
    assert found["stderr"] == pytest.approx(np.hypot(0.1, (0.7 * 0.3 / 20) ** 0.5))  # two seeds .2 apart; 20 videos
    assert np.sum(found["confusion"]) == 40 and np.trace(found["confusion"]) == 28
    assert measure.row("linear", "top1", results[:1], None, study, (0,))["stderr"] == pytest.approx((0.8 * 0.2 / 20) ** 0.5)


# The report.


@pytest.mark.parametrize("seed", [0, 1])
def test_the_clip_that_is_shown_is_the_one_that_was_read(seed):
    """Of a sampler that draws."""
    source = ArraySource(4, num_frames=10)
    read = Input(source, batch_lib.Spec(4, 1, 2, 8, 8), Dense(2), BrokenRecord(0.0), seed=seed, shuffle=False)
    for i in range(4):
        row = evaluation_row(read, i)
        np.testing.assert_array_equal(gallery._clip_shown(read, i)[:, 0, 0, 0], row["video"][0, :, 0, 0, 0])


def test_an_evaluation_leaves_no_pictures_of_an_earlier_one_and_writes_a_run_s_report_anew(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(evaluate, "evaluate", lambda *args: None)
    monkeypatch.setattr(report, "write_report", lambda workdir: written.append(workdir))
    evaluate._evaluate_into(None, tmp_path, tmp_path)
    assert not written
    (tmp_path / "report").mkdir()
    for name in ("index.html", "feature_map.npz", "neighbors.npz"):
        (tmp_path / "report" / name).touch()
    evaluate._evaluate_into(None, tmp_path, tmp_path)
    assert written == [tmp_path]
    report_data.remove(tmp_path)
    report_data.remove(tmp_path)
    assert [path.name for path in (tmp_path / "report").iterdir()] == ["index.html"]


def test_test_rows_are_standardized_by_the_training_rows():
    rng = np.random.default_rng(0)
    train, test = rng.normal(5, 3, (200, 4)).astype(np.float32), rng.normal(1, 7, (50, 4)).astype(np.float32)
    first, second = probes._standardized(train, test)
    np.testing.assert_allclose(first, (train - train.mean(0)) / train.std(0), atol=1e-4)
    np.testing.assert_allclose(second, (test - train.mean(0)) / train.std(0), atol=1e-4)
    assert first.dtype == second.dtype == np.float32 and abs(second.mean()) > 0.5


def test_a_channel_that_is_dead_in_training_does_not_decide_test_rows(settings):
    """Of large and of small features; a little of it in a test row stays a little."""
    rng = np.random.default_rng(0)
    labels = np.arange(60) % CLASSES
    train, test = (1e-2 * np.eye(CLASSES, 6)[labels] + 1e-3 * rng.random((60, 6)) for _ in range(2))
    for constant, alive in ((0.0, 0.02), (3e4, 3e4 + 1.0)):
        train[:, 5], test[:, 5] = constant, constant
        tables = [features.Table(rows.astype(np.float32), None, labels, np.arange(60)) for rows in (train, test)]
        dead = probes.cached_probe(*tables, CLASSES, settings.linear, 0)
        tables[1].pooled_NxD[::2, 5] = alive
        some = probes.cached_probe(*tables, CLASSES, settings.linear, 0)
        assert (dead.argmax(1) == labels).all() and (some.argmax(1) == labels).all()
        np.testing.assert_array_equal(some[1::2], dead[1::2])


# What is refused before anything is computed.


def check(train, test, frames=(4, 4)):
    """Of a convolution network, which takes clips of any length."""
    config = config_lib.evaluation()
    config.protocols, config.knn.k = ("knn",), 1
    for split, changes, count in zip((config.train, config.test), (train, test), frames, strict=True):
        split.update({"canvas": (16, 16), **changes})
        split.sampler.frames = count
    study_lib.check(config, {"name": "cnn_small", "width": 4, "frames": 4, "size": 16, "dtype": "float32"}, [{}])


def test_clips_of_training_and_testing_are_of_one_length():
    noise = {"source": "synthetic"}
    check(noise, noise)
    with pytest.raises(UserError, match="clips of the training data have 4 frames, those of the test data 8: set train"):
        check(noise, noise, frames=(4, 8))


def test_test_videos_are_none_of_training(tmp_path, caplog):
    """Told by their names: these files hold nothing."""

    def of(name, videos):
        (tmp_path / name).write_text("path,label\n" + "".join(f"{i}.mp4,{i % 2}\n" for i in videos))
        return {"source": "manifest", "path": str(tmp_path / name)}

    for i in range(8):
        (tmp_path / f"{i}.mp4").touch()
    train = of("train.csv", range(4))
    check(train, of("test.csv", range(4, 8)))
    assert not caplog.records
    check(train, of("test.csv", range(3, 8)))
    assert [r.message for r in caplog.records] == ["1 of the 5 test videos are training videos too: their answers were given in training"]
    for order in (range(4), (3, 2, 1, 0)):
        with pytest.raises(UserError, match="the 4 training videos are the test videos too: name others"):
            check(train, of("test.csv", order))


# Label budgets.


def test_budgets_are_balanced_nested_and_of_labeled_rows():
    labels = np.array([0] * 50 + [1] * 20 + [2] * 5 + [-1] * 25)
    rows = {count: balanced(labels, count, seed=3) for count in (3, 9, 30, 75)}
    assert [np.bincount(labels[rows[count]]).tolist() for count in rows] == [[1, 1, 1], [3, 3, 3], [13, 12, 5], [50, 20, 5]]
    for few, more in zip((3, 9, 30), (9, 30, 75), strict=True):
        assert set(rows[few]) < set(rows[more])
    np.testing.assert_array_equal(balanced(labels, 9, seed=3), rows[9])
    assert set(balanced(labels, 9, seed=4)) != set(rows[9])
    assert rows[9].tolist() != sorted(rows[9])[: len(rows[9])] or rows[9].max() > 9, "drawn, not the first ones"
    with pytest.raises(UserError, match="a budget of 76 labels, but only 75 videos have one"):
        balanced(labels, 76, seed=3)


def test_a_subset_is_those_videos():
    source = ArraySource(12)
    few = Subset(source, (7, 2, 11))
    assert (len(few), few.classes, few.keys) == (3, source.classes, source.keys)
    for i, member in enumerate(few.members):
        assert few.name(i) == source.name(member) and few.open(i).label == member % 3
        assert few.open(i).read([1], "rgb", (8, 8))[0]["video"].max() == 10 * member + 1


def test_a_budget_is_spent_on_videos_that_can_be_read():
    whole = input_of(30, broken={0: "corrupt", 3: "corrupt"}, shuffle=True)
    cut = probes.labeled(whole, 28, seed=0, batch_size=4)
    assert sorted(cut.source.members) == [i for i in range(30) if i not in (0, 3)] and cut.spec.batch_size == 4
    assert [cut.source.open(i).label for i in range(28)] == [member % 3 for member in cut.source.members]
    assert probes.labeled(whole, 0, 0, 4).source is whole.source


@pytest.mark.parametrize(
    ("meta", "features", "frames", "stride", "fps"),
    [
        ({"model": {"frames": 8}, "config": {"data": {"sampler": {"stride": 2, "target_fps": 30.0}}}}, "video", 8, 2, 30.0),
        (
            {"model": {"frames": 8}, "config": {"data": {"sampler": {"stride": 1}}, "eval": {"test": {"sampler": {"stride": 3}}}}},
            "video",
            8,
            3,
            0.0,
        ),
        ({"model": {"frames": 8}, "config": {}}, "video", 8, 4, 0.0),  # of weights from elsewhere
        ({"model": {"frames": 8}, "config": {}, "features": {"video": {}, "flow": {"flow": {}}}}, "flow", 9, 4, 0.0),
    ],
)
def test_clips_are_the_checkpoints_own_unless_others_are_asked_for(tmp_path, meta, features, frames, stride, fps):
    (tmp_path / "meta.json").write_text(json.dumps(meta))
    config = importlib.import_module("configs.eval.probes").get_config().unlock()
    config.features = (features,)
    config.train.sampler.frames = 5
    found = study_lib.with_own_clips(config.lock(), tmp_path)
    assert (found.train.sampler.frames, found.test.sampler.frames, found.test.sampler.stride) == (
        5,
        frames,
        stride,
    ) and found.test.sampler.target_fps == fps
    assert config.test.sampler.frames == 0
