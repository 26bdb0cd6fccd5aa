"""The world before its codec: the frames of `world.video`, as a source."""

import numpy as np
import pytest

from vssl_jax.data import open_source, world
from vssl_jax.data.rendered import rendered_source
from vssl_jax.errors import UserError


def test_it_is_the_world_uncoded():
    source, spec = rendered_source(world="slide-2", split="test", world_videos=3), world.find("slide-2")
    assert len(source) == 3 and source.classes == spec.classes
    for i in (2, 0):
        sample, video = world.video(spec, "test", i), source.open(i)
        arrays, extent = video.read([5, 0, 5], "rgb", (66, 70))
        np.testing.assert_array_equal(arrays["video"][:, :64, :64], sample.frames_TxHxWx3[[5, 0, 5]])
        assert arrays["video"][:, 64:].max() == 0 and arrays["video"][:, :, 64:].max() == 0
        assert (extent, video.label, video.index.num_frames) == ((64, 64), sample.label, spec.frames)
        np.testing.assert_allclose(video.index.seconds[:3], np.arange(3) / spec.fps)


def test_its_videos_and_labels_are_those_of_the_files(tmp_path):
    config = {"path": "", "world": "slide-2", "split": "validation", "world_videos": 5, "cache": str(tmp_path)}
    drawn, coded = (open_source(config | {"source": name}) for name in ("rendered", "embedded"))
    assert len(drawn) == len(coded) and drawn.classes == coded.classes and drawn.keys == coded.keys
    for i in range(5):
        a, b = (source.open(i).read([7], "rgb", (64, 64))[0]["video"].astype(int) for source in (drawn, coded))
        assert drawn.open(i).label == coded.open(i).label and 0 < np.abs(a - b).mean() < 8


def test_mistakes_are_one_line():
    video = rendered_source(world="slide-2", world_videos=1).open(0)
    with pytest.raises(UserError, match="must be rgb"):
        video.read([0], "yuv420", (64, 64))
    with pytest.raises(UserError, match=r"data\.canvas"):
        video.read([0], "rgb", (32, 64))
    with pytest.raises(UserError, match="step videos"):
        rendered_source(world="long")
    with pytest.raises(UserError, match=r"did you mean .slide-"):
        rendered_source(world="slide-3")
