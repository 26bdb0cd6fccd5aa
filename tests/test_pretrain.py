"""What a run shows on its way."""

from tests.train import tiny
from vssl_jax import pretrain
from vssl_jax.data.broken import BrokenRecord
from vssl_jax.data.row import Input
from vssl_jax.data.sample import Dense
from vssl_jax.data.synthetic import synthetic_source
from vssl_jax.train import pictures
from vssl_jax.train.loop import compile_plan
from vssl_jax.train.metrics import MetricsWriter


def test_pictures_are_in_the_methods_order(tmp_path):
    objective = tiny.videomae()
    source = synthetic_source(videos=8)
    input = Input(source, tiny.SPEC, Dense(tiny.SPEC.frames, 1), BrokenRecord(0.0))
    plan = tiny.plan(objective, tiny.batches(1))
    state = tiny.fresh(plan, compile_plan(plan))
    with MetricsWriter(tmp_path, enabled=False) as writer:
        pretrain.picture_job(objective, input, tmp_path, writer, every=1).run(state, 3)
    (shown,) = pictures.load_pictures(tmp_path).values()
    assert list(shown) == ["original", "visible", "reconstruction"]
