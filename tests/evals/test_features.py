"""Features by name, from an export: films whose classes only flow tells apart, read by each network of CoCLR and by both together."""

import dataclasses
import importlib
import types

import jax
import numpy as np
import pytest

from tests.compiling import programs
from tests.objectives.joint_methods import METHODS, SPEC
from vssl_jax import batch as batch_lib
from vssl_jax import config as config_lib
from vssl_jax import export, objectives
from vssl_jax.errors import UserError
from vssl_jax.evals import features, probes, protocols, subject
from vssl_jax.evals import study as study_lib
from vssl_jax.evals.classification import classify
from vssl_jax.train.checkpoint import load_export

DIRECTIONS = np.array([(0, 1), (0, -1), (1, 0), (-1, 0)])  # classes: rows and columns a frame
BOTH = ("video", "flow")
STATS_METHOD = METHODS["simclr"]


def films(count, seed):
    """A batch: pictures that no other film has, each moving in the direction that is its class; one frame more than the networks take."""
    rng, label = np.random.default_rng(seed), np.arange(count) % 4
    y, x = np.mgrid[:32, :32] / 32
    video = np.zeros((count, 1, 5, 32, 32, 3))
    for i in range(count):
        waves = np.zeros((32, 32, 3))
        for down, across in rng.integers(1, 4, (6, 2)) * rng.choice([-1, 1], (6, 2)):
            waves += np.sin(2 * np.pi * (down * y + across * x + rng.random()))[..., None] * rng.uniform(0.2, 1, 3)
        picture = 128 + 90 * waves / np.abs(waves).max()
        video[i, 0] = [np.roll(picture, tuple(t * DIRECTIONS[label[i]]), axis=(0, 1)) for t in range(5)]
    fake = batch_lib.fake(batch_lib.Spec(count, 1, 5, 32, 32), jax.random.key(0))
    return jax.device_get(dict(fake, video=video.astype(np.uint8), label=label.astype(np.int32)))


def test_no_video_at_all_is_one_line():
    with pytest.raises(UserError, match="not one of the videos could be used"):
        features.check_some(np.zeros(0, np.int32))
    features.check_some(np.zeros(1, np.int32))


@pytest.fixture(scope="module")
def method():
    """CoCLR with fresh weights: (objective, params, memory, config)."""
    config = importlib.import_module("configs.coclr_s3d_ucf101").get_config("smoke").unlock()
    config.model.width = 8
    config.objective.bound, config.objective.flow.warps = 1.5, 3
    objective = objectives.build(config)
    return objective, *jax.jit(lambda key: objective.init(key, None))(jax.random.key(0)), config


@pytest.fixture(scope="module")
def exported(method, tmp_path_factory):
    objective, params, memory, config = method
    folder = tmp_path_factory.mktemp("exported")
    export.export(objective, types.SimpleNamespace(params=params, memory=memory, step=7), config, (), folder)
    return folder


@pytest.fixture(scope="module")
def tables(exported):
    """(training, test) tables of the colors' and of the flow's network."""
    who = subject.load(exported, BOTH)
    whole = features.extract(who, {"short_side": 0, "crops": 1}, iter([films(64, 0), films(64, 1)]))
    return tuple(
        tuple(features.Table(t.pooled_NxD[i], None, t.labels_N[i], t.index_N[i]) for i in np.split(np.arange(128), 2)) for t in whole
    )


def measured(protocol, found, **settings):
    config = config_lib.evaluation()
    config[protocol].update(settings)
    made = protocols.PROTOCOLS[protocol].frozen(found, 4, config[protocol], 0)
    return (classify(*made) if isinstance(made, tuple) else made).numbers()


@pytest.mark.parametrize(
    ("protocol", "metric", "settings"),
    [("knn", "top1", {"k": 5}), ("retrieval", "hit@1", {"k": (1, 5)}), ("retrieval", "hit@1", {"k": (1,), "center": "each"})],
)
def test_only_the_flow_tells_directions_and_both_together_do(tables, protocol, metric, settings):
    """Four classes: .25 by chance, and three standard deviations of 64 videos are .16."""
    video, flow, both = (measured(protocol, found, **settings)[metric] for found in (tables[:1], tables[1:], tables))
    assert abs(video - 0.25) <= 0.16 and flow > 0.8 and both > 0.7, (video, flow, both)


def test_probes_are_averaged(tables):
    video, flow, both = (measured("linear", found, steps=100)["top1"] for found in (tables[:1], tables[1:], tables))
    assert abs(video - 0.25) <= 0.16 and flow > 0.8 and both > 0.6, (video, flow, both)
    config = config_lib.evaluation().linear
    config.steps = 100
    each = [probes.cached_probe(*found, 4, config, 0) for found in tables]
    assert both == np.mean(np.argmax(each[0] + each[1], axis=1) == tables[0][1].labels_N)


def test_an_export_gives_what_the_method_embeds(method, tables):
    objective, params, memory, _ = method
    embedded = jax.jit(lambda p, m, b: objective.embed(p, m, b, BOTH))(params, memory, films(64, 1))
    for name, (_, test) in zip(BOTH, tables, strict=True):
        np.testing.assert_allclose(embedded[name], test.pooled_NxD, atol=1e-4)
    assert np.abs(embedded["video"] - embedded["flow"]).max() > 0.1


def test_networks_that_are_read_together_see_as_many_frames(exported):
    alone, together = subject.load(exported), subject.load(exported, BOTH)
    flow = subject.load(exported, ("flow",))[0]
    assert [own.shown for own in alone] == [{}] and together[0].shown == {"without_last": 1} and together[1].shown == flow.shown
    parts, _ = load_export(exported)
    for own, name in ((alone[0], "encoder"), (together[0], "encoder"), (flow, "method/flow_encoder")):
        jax.tree.map(np.testing.assert_array_equal, own.params, parts[name])
    with pytest.raises(UserError, match="unknown feature 'flows': did you mean 'flow'"):
        subject.load(exported, ("flows",))


def test_random_networks_are_drawn_each_by_itself(exported):
    who = subject.load(exported, BOTH)
    video, flow = (subject.random(own, 3, number) for number, own in enumerate(who))
    assert (video.shown, flow.shown) == (who[0].shown, who[1].shown)
    jax.tree.map(np.testing.assert_array_equal, video.params, subject.initial(who[0].model, 3)[0])
    assert any(np.any(a != b) for a, b in zip(jax.tree.leaves(video.params), jax.tree.leaves(flow.params), strict=True))


def test_other_weights_and_other_videos_are_read_by_the_same_program(exported):
    """Of a checkpoint and random weights, training and test, each seed."""
    view = {"short_side": 0, "crops": 1}
    features.extract(subject.load(exported), view, iter([films(8, 0)]))
    subject.random(subject.load(exported)[0], 3)
    with programs() as compiled:
        other = subject.random(subject.load(exported)[0], 4)
        features.extract((other,), dict(view), iter([films(8, 1)]))
    assert not compiled


def test_fine_tuning_shows_each_network_its_own(method, exported):
    """Shapes of what a classifier is given: four frames of colors or of flow, of clips of five."""
    settings = method[-1].eval.finetune
    for own in subject.load(exported, BOTH):
        made = probes.classifier(own.module(), settings, 4, own.shown)
        shape = jax.eval_shape(made.eval_view, batch_lib.Spec(2, 1, 5, 32, 32).shapes()).shape
        assert shape == (2, 1, 4, 32, 32, 3)


class Watched(type(STATS_METHOD)):
    """With a second network, whose parameters and statistics are others."""

    def shown(self):
        return {"video": {}, "late": {}}

    def backbone(self, params, memory, feature="video"):
        return (params["encoder"], memory["stats"]) if feature == "video" else (params["late_encoder"], memory["late_stats"])


def test_statistics_go_with_their_network(tmp_path):
    """Out of a run and into the next."""
    made = Watched(**{field.name: getattr(STATS_METHOD, field.name) for field in dataclasses.fields(STATS_METHOD)})
    params, memory = jax.jit(lambda key: made.init(key, SPEC.shapes()))(jax.random.key(0))
    params["late_encoder"] = jax.tree.map(lambda x: np.asarray(x) + 1, params["encoder"])
    memory["late_stats"] = jax.tree.map(lambda x: np.asarray(x) + 5, memory["stats"])
    config = config_lib.base()
    config.model = {"name": "cnn_small"}
    export.export(made, types.SimpleNamespace(params=params, memory=memory, step=0), config, (), tmp_path)
    parts, meta = load_export(tmp_path)
    assert set(parts) == {"encoder", "stats", "method/head", "method/late_encoder", "method/late_stats"}
    assert meta["features"] == {"video": {}, "late": {}}
    for names, wanted in (
        (("encoder", "head"), {"stats"}),
        (("late_encoder",), {"late_stats"}),
        (("encoder", "late_encoder"), {"stats", "late_stats"}),
    ):
        given = {"checkpoint": str(tmp_path), "parts": names, "drop": ()}
        found, statistics = export.initial(given, {"name": "cnn_small"})
        assert set(found) == set(names) and set(statistics) == wanted
        jax.tree.map(np.testing.assert_array_equal, statistics, {name: memory[name] for name in wanted})
    with pytest.raises(UserError, match=r"names late_stats, but .* has encoder, head, late_encoder"):
        export.initial({"checkpoint": str(tmp_path), "parts": ("late_stats",), "drop": ()}, {"name": "cnn_small"})


def study_of(spec, feature):
    """One that only trains: the test data are not read, as where a classifier is evaluated the training data are not."""
    config = types.SimpleNamespace(features=(feature,))
    return study_lib.Study(config, types.SimpleNamespace(spec=spec), None, ())


def test_stored_flow_that_nobody_looks_at_is_refused(exported):
    study = study_of(batch_lib.Spec(1, 1, 5, 32, 32, flow=True), "video")
    with pytest.raises(UserError, match=r"train\.flow is of no use: features=video looks at no flow"):
        study_lib.check_clips(study, subject.load(exported, ("video",)))
    study_lib.check_clips(dataclasses.replace(study, config=types.SimpleNamespace(features=("flow",))), subject.load(exported, ("flow",)))


@pytest.mark.parametrize(
    ("wanted", "frames", "says"),
    [
        ("flow", 4, "train: flow of 3 frames, the network was trained on 4: set train.sampler.frames=5"),
        ("flow", 5, None),
        (BOTH, 4, "train: flow of 3 frames, the network was trained on 4: set train.sampler.frames=5"),
        (BOTH, 5, None),
        ("video", 4, None),
        ("video", 2, "train: clips of 2 frames, the network was trained on 4: set train.sampler.frames=4"),
        ("video", 16, "train: clips of 16 frames, the network was trained on 4: set train.sampler.frames=4"),
    ],
)
def test_clips_of_another_length_than_the_networks_are_said(exported, caplog, wanted, frames, says):
    """It takes 4 frames: 4 of flow are of 5 frames."""
    study = study_of(batch_lib.Spec(1, 1, frames, 32, 32), wanted)
    study_lib.check_clips(study, subject.load(exported, (wanted,) if isinstance(wanted, str) else wanted))
    assert [record.message for record in caplog.records] == ([says] if says else [])
