import os

import pytest

from tests.data.video_files import Clip, shapes_NxHxWx3, write_video
from vssl_jax import batch as batch_lib
from vssl_jax import config as config_lib
from vssl_jax.data import pipeline
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


def test_videos_of_one_recording_share_a_number(tmp_path):
    """Names that are not UTF-8 too."""
    for name in ("v_a_g01_c01", "v_a_g01_c02", "v_a_g02_c01", os.fsdecode(b"v_k\xe4se_g01_c01")):
        write_video(tmp_path / f"{name}.mp4", shapes_NxHxWx3(6), Clip(gop=3))
    config = config_lib.data() | {"source": "folder", "path": str(tmp_path), "canvas": (32, 32), "group": r"(v_.*_g\d+)_c\d+"}
    config["sampler"] = config["sampler"] | {"frames": 2, "stride": 1}
    input = build_input(config, 4, 0, BrokenRecord(0.0), shuffle=False)
    (batch,) = pipeline.epoch(input)
    groups = [int(g) for g in batch[batch_lib.GROUP]]
    assert groups[0] == groups[1] and len(set(groups)) == 3 and min(groups) > 0
    assert set(batch) == set(input.spec.shapes())
    wrong = build_input(config | {"group": r"(x\d)"}, 4, 0, BrokenRecord(0.0), shuffle=False)
    with pytest.raises(UserError, match="does not match the name"):
        next(iter(pipeline.epoch(wrong)))


@pytest.mark.parametrize(("group", "message"), [("v_.*", "no group in parentheses"), ("(v_", "no regular expression")])
def test_a_group_that_is_none_is_refused(group, message):
    with pytest.raises(UserError, match=message):
        build_input(config_lib.data() | {"source": "synthetic", "group": group}, 4, 0, BrokenRecord(0.0))


def test_noise_has_no_recordings():
    with pytest.raises(UserError, match="synthetic has none"):
        build_input(config_lib.data() | {"source": "synthetic", "group": "(v)"}, 4, 0, BrokenRecord(0.0))
