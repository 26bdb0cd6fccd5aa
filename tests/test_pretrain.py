"""What a run shows on its way."""

from dataclasses import dataclass

import pytest

from tests.train import tiny
from vssl_jax import config as config_lib
from vssl_jax import jobs, pretrain
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
