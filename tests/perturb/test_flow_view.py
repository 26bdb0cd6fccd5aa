"""What a network of flow is shown: flow of what a view shows, or a view of the film's flow."""

import jax
import numpy as np
import pytest

from vssl_jax import batch as batch_lib
from vssl_jax.errors import UserError
from vssl_jax.perturb import flow as flow_lib
from vssl_jax.perturb.flow import TVL1
from vssl_jax.perturb.flow_view import FlowView
from vssl_jax.perturb.recipe import build_eval_view, build_view, shown, together
from vssl_jax.perturb.view import EvalView, Pixels, denormalize

QUICK = TVL1(scales=1, warps=1, outer=1, inner=5, median=1)
VIEW = EvalView(16, 20)
FLOW = {"settings": {"scales": 1, "warps": 1, "outer": 1, "inner": 5, "median": 1}, "bound": 4.0}


@pytest.fixture(scope="module")
def batch():
    """Bright squares that move by a pixel a frame: two videos, two clips of four frames."""
    made = jax.device_get(batch_lib.fake(batch_lib.Spec(2, 2, 4, 24, 24), jax.random.key(1)))
    made["video"] = made["video"] // 8
    for b, k, t in np.ndindex(2, 2, 4):
        made["video"][b, k, t, 6 + b * t : 16 + b * t, 6 + k * t : 16 + k * t] += 150
    return made


def test_flow_of_the_view_is_that_of_its_frames(batch):
    seen = FlowView(VIEW, QUICK, "view", 4.0)(batch)
    gray = 255 * flow_lib.luma(denormalize(VIEW(batch)))[..., 0]
    wanted = flow_lib.to_picture(flow_lib.tvl1_video(gray, QUICK), 4.0)
    assert seen.shape == (2, 2, 3, 16, 16, 3)
    np.testing.assert_allclose(denormalize(seen), wanted, atol=1e-5)
    assert np.abs(wanted - 0.5).max() > 0.1, "something moves"


def test_flow_of_the_film_is_cut_like_a_picture(batch):
    seen = FlowView(VIEW, QUICK, "film", 4.0)(batch)
    film = flow_lib.to_picture(flow_lib.tvl1_video(flow_lib.gray_of(batch), QUICK), 4.0)
    wanted = VIEW(dict(batch, video=np.round(255 * np.asarray(film)).astype(np.uint8), time=batch["time"][:, :, 1:]))
    np.testing.assert_allclose(seen, wanted, atol=1e-5)
    assert np.abs(seen - FlowView(VIEW, QUICK, "view", 4.0)(batch)).max() > 0.1


def test_entries_of_a_recipe_are_these_views(batch):
    made = build_eval_view({"short_side": 20, "flow": FLOW}, Pixels(16))
    assert made == shown(VIEW, {"flow": FLOW}) == FlowView(VIEW, QUICK, "view", 4.0) and made.size == 16
    random = build_view({"crop": {"name": "center"}, "flip": 1.0, "flow": FLOW}, Pixels(16))
    keys = jax.random.split(jax.random.key(0), 2)
    assert random(keys, batch).shape == (2, 2, 3, 16, 16, 3) and random.size == 16
    short = shown(VIEW, {"without_last": 1})
    np.testing.assert_array_equal(short(batch), VIEW(batch)[:, :, :3])
    assert short.size == 16


def test_where_one_is_shown_flow_the_others_lack_the_last_frame():
    assert together({"video": {}}) == {"video": {}}
    assert together({"flow": {"flow": FLOW}}) == {"flow": {"flow": FLOW}}
    assert together({"a": {}, "flow": {"flow": FLOW}, "b": {}}) == {
        "a": {"without_last": 1},
        "flow": {"flow": FLOW},
        "b": {"without_last": 1},
    }


def test_what_has_no_flow_is_refused(batch):
    with pytest.raises(UserError, match="unknown flow of 'clip'"):
        shown(VIEW, {"flow": {"of": "clip"}})
    with pytest.raises(UserError, match="not both"):
        shown(VIEW, {"flow": FLOW, "order": "shuffled"})
    with pytest.raises(UserError, match="a frame and the next, for flow, span 2 frames, the clips have 1"):
        shown(VIEW, {"flow": FLOW})({key: value[:, :, :1] if key in ("video", "time") else value for key, value in batch.items()})
