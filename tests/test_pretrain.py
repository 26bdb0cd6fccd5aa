"""What a run shows on its way."""

import json
from dataclasses import dataclass

import pytest

from tests.commands import CONFIGS
from tests.configs.recipes import recipe
from tests.train import tiny
from vssl_jax import config as config_lib
from vssl_jax import jobs, objectives, pretrain
from vssl_jax.data.broken import BrokenRecord
from vssl_jax.data.row import Input
from vssl_jax.data.sample import Dense
from vssl_jax.data.synthetic import synthetic_source
from vssl_jax.errors import UserError
from vssl_jax.train import pictures
from vssl_jax.train.metrics import MetricsWriter


def test_pictures_are_in_the_methods_order(tmp_path):
    objective = tiny.videomae()
    source = synthetic_source(videos=8)
    input = Input(source, tiny.SPEC, Dense(tiny.SPEC.frames, 1), BrokenRecord(0.0))
    plan = tiny.plan(objective, tiny.batches(1))
    state = tiny.fresh(plan)
    with MetricsWriter(tmp_path, enabled=False) as writer:
        jobs.pictures(objective, input, tmp_path, writer, every=1).run(state, 3)
    (shown,) = pictures.load_pictures(tmp_path).values()
    assert list(shown) == ["original", "visible", "reconstruction"]


def config(**changes):
    made = config_lib.base()
    made.train.update({"steps": 100, "batch_size": 10, "epochs": changes.get("epochs", 5)})
    made.data.num_examples = changes.get("num_examples", 200)
    return made


@pytest.mark.parametrize(("changes", "videos"), [({}, 200), ({}, 209), ({"epochs": 4}, 20), ({"num_examples": 0}, 20)])
def test_steps_that_fit_the_data_are_not_talked_about(changes, videos, caplog):
    pretrain._count_epochs(config(**changes), videos)
    assert not caplog.records


def test_steps_counted_for_other_data_are(caplog):
    pretrain._count_epochs(config(), 20)
    assert "counted for 200 videos, the data have 20: they are seen 50 times each (for 5 epochs set data.num_examples=20)" in caplog.text


@dataclass(frozen=True)
class Remembers(tiny.Regression):
    videos: int = 20

    def places(self):
        return self.videos


def test_more_videos_than_the_memory_has_places_for_are_refused():
    pretrain.check_places(Remembers(), 20)
    pretrain.check_places(tiny.Regression(), 10**6)
    with pytest.raises(UserError, match=r"objective.videos is 20, but the data have 21 videos: set --config.objective.videos=21"):
        pretrain.check_places(Remembers(), 21)


@pytest.mark.parametrize("variant", ["", "local", "smoke"])
@pytest.mark.parametrize("name", [path.stem for path in sorted(CONFIGS.glob("*_*.py")) if not path.stem.startswith("__")])
def test_recipes_fit_their_own_data_and_have_all_their_turns(name, variant, caplog):
    made = recipe(name, variant)
    objective, data = objectives.build(made), config_lib.to_dict(made.data)
    videos = {"": data["num_examples"], "local": 3000, "smoke": 16}[variant]
    assert not variant or made.train.epochs == data["num_examples"] == 0, "published epochs stand beside steps that they do not count"
    objective.check_run(videos or 10**5, made.train.steps, data["sampler"])
    pretrain._count_turns(objective, made.train.steps)
    assert not caplog.records


def test_as_many_clusters_as_videos_are_refused_and_empty_places_told(caplog):
    """Each video would be a cluster by itself, and all that is logged of clusters would look as it should."""
    for name, what in (("vie_r3d18", "clusters"), ("deep_cluster_slowonly50", "prototypes")):
        objective = objectives.build(recipe(name))
        with pytest.raises(UserError, match=rf"objective\.{what} is \d+, but the data have {objective.videos // 100} videos: .*--config"):
            objective.check_run(objective.videos // 100, 10**6, {})
        assert not caplog.records
        objective.check_run(objective.videos // 2, 10**6, {})
        assert "from empty places too" in caplog.text and f"set data.num_examples={objective.videos // 2}" in caplog.text
        caplog.clear()


def test_a_run_that_ends_before_a_turn_or_goes_round_again_says_so(caplog):
    coclr = objectives.build(recipe("coclr_s3d_ucf101"))
    pretrain._count_turns(coclr, 2 * coclr.initial)
    assert f"ends before the turn 'rgb' begins, at step {2 * coclr.initial}" in caplog.text
    caplog.clear()
    steps = sum(turn.steps for turn in coclr.turns)
    coclr.check_run(10**4, steps, {})
    assert not caplog.records
    coclr.check_run(10**4, steps + 1, {})
    assert "they begin again" in caplog.text


@pytest.mark.parametrize("change", [{"pad": True}, {"target_fps": 30.0}, {"name": "segments"}])
def test_clips_that_repeat_frames_tell_no_question_of_time(change):
    sampler = config_lib.to_dict(config_lib.base().data)["sampler"]
    for name in ("pace_r2plus1d10", "relative_speed_r2plus1d10"):
        with pytest.raises(UserError, match=rf"data\.sampler\.{next(iter(change))} is .* tells the answer"):
            objectives.build(recipe(name)).check_run(10, 10, sampler | change)
    objectives.build(recipe("rotation_r3d18")).check_run(10, 10, sampler | change)


def test_what_a_run_that_goes_on_changes_is_kept_beside_what_it_began_with(tmp_path, caplog):
    first, second = config_lib.base(), config_lib.base()
    second.seed = 3
    pretrain._keep_config(first, tmp_path, resumes=None)
    assert not (tmp_path / "config_changes.jsonl").exists()
    pretrain._keep_config(second, tmp_path, resumes=6)
    pretrain._keep_config(first, tmp_path, resumes=8)
    lines = [json.loads(line) for line in (tmp_path / "config_changes.jsonl").read_text().splitlines()]
    assert lines == [{"step": 6, "differences": ["seed: 0 -> 3"]}, {"step": 8, "differences": []}]
    assert json.loads((tmp_path / "config.json").read_text())["seed"] == 0 and "seed: 0 -> 3" in caplog.text


def test_a_batch_larger_than_the_data_is_told(caplog):
    pretrain._count_epochs(config(num_examples=0), 9)
    assert "train.batch_size=10 is more than the 9 videos of the data" in caplog.text
