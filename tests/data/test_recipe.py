import pytest

from vssl_jax import config as config_lib
from vssl_jax.data.broken import BrokenRecord
from vssl_jax.data.recipe import build_input, build_sampler
from vssl_jax.data.sample import Dense, Segments, Views
from vssl_jax.errors import UserError


def test_samplers_by_name_take_what_they_have():
    config = {"name": "dense", "frames": 4, "stride": 2, "clips": 3, "target_fps": 0.0}
    assert build_sampler(config) == Dense(4, 2, 3)
    assert build_sampler(config | {"name": "views", "target_fps": 5.0}) == Views(4, 2, 3, 5.0)
    assert build_sampler(config | {"name": "segments"}) == Segments(4, 3)  # has no stride
    with pytest.raises(UserError, match="dense"):
        build_sampler(config | {"name": "dence"})


def test_an_input_has_the_sizes_of_its_recipe():
    config = config_lib.data() | {"source": "synthetic", "canvas": (16, 24), "layout": "yuv420"}
    made = build_input(config, batch_size=5, seed=3, broken=BrokenRecord(0.0))
    assert (made.spec.batch_size, made.spec.clips, made.spec.frames, made.spec.height, made.spec.width) == (5, 1, 16, 16, 24)
    assert (made.spec.layout, made.seed, made.shuffle) == ("yuv420", 3, True)
    with pytest.raises(UserError, match="synthetic"):
        build_input(config | {"source": "sythetic"}, 5, 3, BrokenRecord(0.0))


@pytest.mark.parametrize("name", ["dense", "views", "segments", "segment_views"])
def test_every_sampler_pads_where_the_recipe_says_so(name):
    fields = {"name": name, "frames": 4, "stride": 2, "clips": 1, "target_fps": 0.0}
    assert [build_sampler(fields | {"pad": pad}).pad for pad in (True, False)] == [True, False]
