"""PRP: every frame of the clip at twice its rate is where it belongs or is marked as not there; what is not there costs nothing. (What it owes as a
pretext task: test_pretext.py.)
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.objectives.questions import SPEC, TASKS, ask, frames_of, numbered, started
from tests.train import tiny
from vssl_jax import batch as batch_lib
from vssl_jax import objectives
from vssl_jax.errors import UserError
from vssl_jax.models import flops
from vssl_jax.models.clip_decoder import ClipDecoder, sizes_between
from vssl_jax.objectives.playback_rate import PlaybackRate, motion_weights, weighted_error

TASK = TASKS["playback_rate"]
RATES = np.array(TASK.rates)


def test_the_question_is_every_sth_frame_and_what_is_to_be_built_lies_between():
    spec = batch_lib.Spec(batch_size=200, clips=2, frames=16, height=2, width=2)
    frames = np.arange(16, dtype=np.uint8).reshape(1, 1, -1, 1, 1, 1)
    batch = tiny.batches(1, spec)[0]
    batch = dict(batch, video=np.broadcast_to(frames, batch["video"].shape))
    clips, real, which = jax.device_get(jax.jit(TASK._clips)(batch, jax.random.key(0)))
    shown = np.rint(clips[..., 0, 0, 0] * 255)
    wanted = shown[:, :1] + np.arange(8) * RATES[which][:, None] / 2
    np.testing.assert_array_equal(real, wanted == np.floor(wanted))
    np.testing.assert_array_equal(shown, np.floor(wanted))
    assert real[:, ::2].all() and (real[:, 1::2].all(1) == (RATES[which] > 1)).all() and not real[RATES[which] == 1, 1::2].any()
    for rate in RATES:  # anywhere that fits, and nowhere else
        assert set(shown[RATES[which] == rate, 0]) == set(range(16 - 7 * rate // 2))


def test_the_encoder_gets_a_progression_whose_step_is_the_label():
    asked = ask(TASK, numbered())
    np.testing.assert_array_equal(np.diff(frames_of(asked)[:, 0]), np.repeat(RATES[asked.label_QxA], 3, axis=1))


def test_frames_that_there_are_not_cost_nothing():
    built, target = (jax.random.uniform(jax.random.key(i), (2, 4, 3, 3, 3)) for i in (0, 1))
    counts = jnp.array([[1.0, 0, 1, 0], [0, 0, 0, 0]])  # nor does a video of weight 0
    weights = jnp.full((2, 4, 3, 3), 1.5)
    error, gradient = jax.value_and_grad(weighted_error)(built, target, weights, counts)
    assert ((np.abs(gradient).sum((2, 3, 4)) > 0) == (np.asarray(counts) > 0)).all()
    assert error == pytest.approx(1.5 * np.mean(np.square(built - target)[0, ::2]), rel=1e-5)
    assert weighted_error(built, target, weights, jnp.zeros((2, 4))) == 0


def test_what_moves_counts_most():
    given = np.full((3, 32, 32, 3), 0.5, np.float32)
    given[1, 4:8, 20:24] = 1
    given[2, 4:8, 20:24] = 1
    given[2, 24:30, 2:6] = 0.7
    weights = np.asarray(motion_weights(jnp.asarray(given), 0.8, 2.0))
    assert weights.shape == (6, 32, 32) and weights.min() >= 0.8 - 1e-5 and weights.max() <= 2 + 1e-5
    np.testing.assert_array_equal(weights[0], weights[1])
    for later in (3, 4, 5):
        np.testing.assert_array_equal(weights[2], weights[later])
    assert weights[0, 5, 21] > 1.9 and weights[0, 28, 4] == pytest.approx(0.8, abs=1e-5) and weights[2, 28, 4] > 1.9
    np.testing.assert_allclose(motion_weights(jnp.full((3, 16, 16, 3), 0.5), 0.8, 2.0), 0.8, rtol=1e-6)


def test_the_loss_is_a_tenth_of_the_answers_and_the_error():
    task = dataclasses.replace(TASK, classification=0.1, reconstruction=1.0)
    params, memory = started(task)
    metrics = jax.device_get(jax.jit(task.held_out)(params, memory, tiny.batches(1, SPEC)[0], jax.random.key(0)))
    assert metrics["loss"] == pytest.approx(0.1 * metrics["classification/loss"] + metrics["reconstruction/loss"])
    assert set(metrics) == {"loss", "accuracy", "classification/loss", "reconstruction/loss"} and 0.1 < metrics["reconstruction/loss"] < 1


def test_the_report_shows_what_is_built_beside_what_was_to_be():
    params, memory = started(TASK)
    shown = jax.eval_shape(TASK.pictures, params, memory, tiny.batches(1, SPEC)[0], jax.random.key(0))
    assert shown["target"].shape == shown["built"].shape == (8, 8, 16, 16, 3)


def test_the_decoder_fits_any_map_and_its_work_is_counted():
    assert sizes_between((2, 7, 7), (16, 56, 56), 3) == [(4, 14, 14), (8, 28, 28), (16, 56, 56)]
    decoder = ClipDecoder(6, (10, 13), (8, 4))
    features = jnp.ones((2, 3, 2, 5, 16))
    params = jax.eval_shape(decoder.init, jax.random.key(0), features)
    assert jax.eval_shape(decoder.apply, params, features).shape == (2, 6, 10, 13, 3)

    def layer(size, channels, width):  # taps that meet a real input along an axis of n: 3 n - 2
        return 2 * np.prod([3 * n - 2 for n in size]) * channels * width

    first, second = sizes_between((3, 2, 5), (3, 5, 7), 2)
    assert flops.traced(decoder, (1, 3, 2, 5, 16)) == layer(first, 16, 8) + layer(second, 8, 4) + layer(second, 4, 24)


def test_the_decoder_puts_what_it_builds_where_it_stood():
    """A change in one corner of the map changes that corner of the clip most; each place makes 2 x 2 x 2 pixels."""
    decoder = ClipDecoder(8, (16, 16), (4,))
    features = jax.random.normal(jax.random.key(1), (1, 4, 8, 8, 4))
    params = decoder.init(jax.random.key(0), features)
    plain, changed = (decoder.apply(params, x)[0] for x in (features, features.at[:, :1, :1, :1].add(0.1)))
    change = np.abs(changed - plain).sum(-1)
    assert change[:4, :4, :4].mean() > 10 * change[4:, 8:, 8:].mean()
    numbered = jax.tree.map(jnp.zeros_like, params)
    numbered["params"]["rgb"]["bias"] = jnp.arange(24.0)
    t, h, w, c = np.indices((8, 16, 16, 3))
    np.testing.assert_array_equal(decoder.apply(numbered, features)[0], 0.5 + ((t % 2 * 2 + h % 2) * 2 + w % 2) * 3 + c)


def test_clips_that_are_too_short_are_refused():
    assert TASK.span == 15
    with pytest.raises(UserError, match="span 15 frames, the clips have 14: raise"):
        ask(TASK, tiny.batches(1, dataclasses.replace(SPEC, frames=14))[0])


@pytest.mark.parametrize("change", [{"rates": (2,)}, {"rates": (0, 1)}, {"rates": (1, 1)}, {"emphasis": (2.0, 0.8)}, {"emphasis": (1.0,)}])
def test_settings_that_make_no_sense_are_refused(change):
    with pytest.raises(UserError, match=r"two or more different rates|\(low, high\)"):
        dataclasses.replace(TASK, **change)


def test_a_recipe_makes_it():
    view = {"crop": {"name": "whole"}, "flip": 0.0, "color": ()}
    config = {
        "model": {"name": "cnn_small", "frames": 4, "size": 16, "width": 4},
        "objective": {
            "name": "playback_rate", "rates": [1, 3], "classification": 0.2, "reconstruction": 0.5, "emphasis": [1.0, 1.0], "widths": [8],
            "view": view, "eval_view": {"crops": 1},
        },
    }  # fmt: skip
    made = objectives.build(config)
    assert isinstance(made, PlaybackRate) and made.decoder == ClipDecoder(8, (16, 16), (8,))
    assert (made.rates, made.classification, made.reconstruction, made.emphasis) == ((1, 3), 0.2, 0.5, (1.0, 1.0))
    assert made.caption((1,), (0,)) == "Rate 3, said 1"
    encoder = flops.backbone(made.encoder)
    assert made.flops(10) > 30 * encoder > 0
