"""What a run does besides its steps: validation counts every held-out video once, on one device and on eight; a refresh is done when it is due."""

import dataclasses
import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.data.array_source import ArraySource
from tests.train import tiny
from vssl_jax import batch as batch_lib
from vssl_jax import jobs
from vssl_jax.data import pipeline
from vssl_jax.data.broken import BrokenRecord
from vssl_jax.data.row import Input
from vssl_jax.data.sample import Dense
from vssl_jax.errors import UserError
from vssl_jax.evals.knn import weighted_knn
from vssl_jax.objectives.classify import Classify
from vssl_jax.train import sharding

SPEC = batch_lib.Spec(batch_size=8, clips=1, frames=4, height=16, width=16)


def videos(count: int, **changes) -> Input:
    return Input(ArraySource(count, **changes), SPEC, Dense(4), BrokenRecord(1.0), shuffle=False)


def state_of(objective, mesh=None):
    return tiny.fresh(tiny.plan(objective, tiny.batches(1, SPEC), mesh=mesh))


@functools.cache
def jitted(function):
    """One program for the states of all meshes, which are read on one device."""
    return jax.jit(function)


@pytest.mark.parametrize("mesh", [*(pytest.param(mesh, marks=pytest.mark.slow) for mesh in (None, {"data": 8})), {"data": 2, "fsdp": 4}])
def test_validation_is_the_share_of_videos_told_right(mesh):
    """Eleven videos in batches of eight, one of them broken: ten count."""
    held_out = videos(11, broken={3: "corrupt"})
    classes = len(held_out.source.classes)
    objective = tiny.classifier(classes=classes, head=tiny.LinearHead(classes, init_std=30.0))
    state = state_of(objective, mesh)
    state_after, metrics = jobs.validation(objective, held_out, held_out, every=1).run(state, 1)
    right = total = 0
    params, memory, read = jax.device_get(state.params), jax.device_get(state.memory), jitted(objective.logits)
    for batch in pipeline.epoch(held_out):
        logits = np.asarray(read(params, memory, {k: np.asarray(v) for k, v in batch.items()}))
        real = batch[batch_lib.WEIGHT] > 0
        right, total = right + (logits[:, 0].argmax(-1) == batch[batch_lib.LABEL])[real].sum(), total + real.sum()
    assert total == 10 and 0 < right < 10, "a constant answer would show nothing"
    assert metrics == {jobs.ACCURACY: pytest.approx(right / 10)} and state_after is state


class Brightest(tiny.Classify):
    """Its own task: how bright a video is, and whether a draw says so."""

    def label_classes(self):
        return None

    def held_out(self, params, memory, batch, rng):
        mean = lambda x: jnp.sum(x * batch["weight"]) / jnp.sum(batch["weight"])  # noqa: E731
        return {
            "bright": mean(jnp.mean(batch["video"], axis=(1, 2, 3, 4, 5))),
            "drawn": mean(jax.random.uniform(rng, batch["weight"].shape)),
        }


def test_a_task_of_its_own_is_validated_on_every_video_alike_and_by_the_same_draws():
    """Eleven videos in batches of eight, one of them broken: the ten count alike, those of the last batch no more."""
    held_out = videos(11, broken={3: "corrupt"})
    objective = tiny.classifier(Brightest)
    state = state_of(objective)
    job = jobs.validation(objective, held_out, held_out, every=1)
    first, second = (job.run(state, step)[1] for step in (1, 2))
    each = [batch["video"].reshape(8, -1).mean(1)[batch["weight"] > 0] for batch in map(jax.device_get, pipeline.epoch(held_out))]
    assert [len(bright) for bright in each] == [7, 3]
    assert first["validation/bright"] == pytest.approx(np.concatenate(each).mean(), rel=1e-6) and first == second


def test_pictures_without_pillow_are_refused_before_the_training(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install pillow, or set train.picture_every=0"):
        jobs.pictures(tiny.videomae(), videos(8), tmp_path, None, 1)


def test_validation_of_what_learns_no_classes_is_refused():
    with pytest.raises(UserError, match="Regression has no task of its own"):
        jobs.validation(tiny.Regression(), videos(4), videos(4), every=1)


@pytest.mark.parametrize("method", [tiny.Classify, Brightest])  # one that learns the classes, and one that compares videos by them
def test_validation_on_other_classes_is_refused(method):
    other = videos(4)
    renamed = dataclasses.replace(other, source=dataclasses.replace(other.source, classes=("x", "y", "z")))
    with pytest.raises(UserError, match="have other classes"):
        jobs.validation(tiny.classifier(method), videos(4), renamed, every=1)


@pytest.mark.parametrize("mesh", [pytest.param(None, marks=pytest.mark.slow), {"data": 2, "fsdp": 4}])
def test_online_knn_is_the_evaluations_on_the_features_of_the_moment(mesh):
    gallery, queries = videos(20, broken={3: "corrupt"}), videos(11)
    objective = tiny.classifier()
    state = state_of(objective, mesh)
    settings = {"k": 3, "temperature": 0.07, "center": "none"}
    state_after, metrics = jobs.neighbors(objective, gallery, queries, settings, every=1).run(state, 1)
    params, memory = jax.device_get(state.params), jax.device_get(state.memory)
    embed, tables = jitted(objective.embed), []
    for input in (gallery, queries):
        rows = [
            (embed(params, memory, {k: np.asarray(v) for k, v in b.items()})["video"], b[batch_lib.LABEL], b[batch_lib.WEIGHT] > 0)
            for b in pipeline.epoch(input)
        ]
        features, labels, real = (np.concatenate(column) for column in zip(*rows, strict=True))
        tables += [features[real], labels[real]]
    assert [len(t) for t in tables] == [19, 19, 11, 11]
    scores = weighted_knn(*tables[:3], len(gallery.source.classes), 3)
    assert metrics == {jobs.KNN: pytest.approx(np.mean(scores.argmax(1) == tables[3]))} and state_after is state


@dataclass(frozen=True)
class Drawn(tiny.Regression):
    """Its memory adds up what was drawn for it at each refresh."""

    refresh_every: int = 4

    def init(self, rng, batch):
        params, memory = super().init(rng, batch)
        return params, memory | {"drawn": jnp.zeros(16)}

    def after_update(self, params, memory, step):
        return memory

    def refresh(self, params, memory, rng):
        return memory | {"drawn": memory["drawn"] + jax.random.normal(rng, (16,))}, {"clusters/usage": jnp.float32(0.5)}


def test_a_refresh_is_done_at_its_steps_alone_with_draws_of_the_step_and_the_memory_stays_where_it_is(monkeypatch):
    monkeypatch.setattr(sharding, "FSDP_MIN_SIZE", 16)
    objective = Drawn()
    made, found = tiny.plan(objective, tiny.rows(1), mesh={"data": 2, "fsdp": 4}), []
    for step in (4, 4, 8):
        state, job = tiny.fresh(made), jobs.refresh(objective)
        same, nothing = job.run(state, step + 1)  # as the loop asks at the end of training
        assert same is state and nothing == {}
        placed = state.memory["drawn"].sharding
        after, metrics = job.run(state, step)
        assert metrics["clusters/usage"] == 0.5 and after.memory["drawn"].sharding == placed and not placed.is_fully_replicated
        assert state.memory["drawn"].is_deleted()  # there is never a second bank
        found.append(np.asarray(after.memory["drawn"]))
    np.testing.assert_array_equal(found[0], found[1])
    assert np.abs(found[2] - found[0]).max() > 0.1


@dataclass(frozen=True)
class Twice(Classify):
    """The same network, shown a whole clip or all but its last frames."""

    def shown(self):
        return {"video": {}, "early": {"without_last": 3}}


def test_online_knn_of_several_features_is_of_all_of_them_together():
    gallery, queries, names = videos(20), videos(11), ("video", "early")
    objective = tiny.classifier(Twice)
    state = state_of(objective)
    settings = {"k": 3, "temperature": 0.07, "center": "each"}
    metrics = jobs.neighbors(objective, gallery, queries, settings, 1, names).run(state, 1)[1]
    embed, tables = jax.jit(lambda p, m, b: objective.embed(p, m, b, names)), []
    for input in (gallery, queries):
        rows = [
            (embed(state.params, state.memory, {k: np.asarray(v) for k, v in b.items()}), b[batch_lib.WEIGHT] > 0)
            for b in pipeline.epoch(input)
        ]
        tables.append([np.concatenate([made[name][real] for made, real in rows]) for name in names])
    assert np.abs(tables[0][0] - tables[0][1]).max() > 1e-3
    scores = weighted_knn(*_by_hand(tables), 3, k=3)
    assert metrics == {jobs.KNN: pytest.approx(np.mean(scores.argmax(1) == np.arange(11) % 3))}
    with pytest.raises(UserError, match="unknown feature 'flow': known: early, video"):
        jobs.neighbors(objective, gallery, queries, settings, 1, ("flow",))


def _by_hand(tables):
    """(gallery, its labels, queries): each feature centered, of unit length, and put side by side."""
    unit = [[x / np.linalg.norm(x, axis=1, keepdims=True) for x in (own - own.mean(0) for own in side)] for side in tables]
    return np.concatenate(unit[0], axis=1), np.arange(20) % 3, np.concatenate(unit[1], axis=1)


def test_online_knn_of_a_method_that_embeds_nothing_is_refused():
    with pytest.raises(UserError, match=r"train\.knn_every: Regression has no embed that would give it features, set it to 0"):
        jobs.neighbors(tiny.Regression(), videos(4), videos(4), {}, every=1)


def test_online_knn_without_labels_is_refused():
    nameless = dataclasses.replace(videos(4), source=dataclasses.replace(videos(4).source, classes=()))
    with pytest.raises(UserError, match="same classes"):
        jobs.neighbors(tiny.classifier(), nameless, nameless, {}, every=1)
