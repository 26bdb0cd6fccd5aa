"""What every pretext task owes: exact losses, labels that are the draw's alone, and that nothing else changes."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from scipy import stats as scipy_stats

from configs import dpc_r3d18, pace_r2plus1d10, relative_speed_r2plus1d10, simclr_slowonly50
from tests.objectives.questions import ALL, SPEC, TASKS, ask, labels, started, zeroed
from tests.train import tiny
from vssl_jax import batch as batch_lib
from vssl_jax import config as config_lib
from vssl_jax import objectives, pretrain
from vssl_jax.errors import UserError
from vssl_jax.objectives.protocol import STATS
from vssl_jax.train import sharding

# Rotation in one turn that is drawn is pace's draw and rotation's answer.
usual = lambda names: [pytest.param(n, marks=pytest.mark.slow) if n == "rotation_drawn" else n for n in names]  # noqa: E731
each = pytest.mark.parametrize("name", usual(TASKS))
each_of_all = pytest.mark.parametrize("name", usual(ALL))
# Of whole clips, of their parts, of pieces of the picture, with a decoder, of what is measured in the frames; the others' draws are by rows as theirs,
# and their loss is the same mean.
KINDS = ("rotation", "clip_order", "cubic_puzzle", "playback_rate", "motion_statistics")
# And those that show something of their own, or questions of several kinds.
SHOWN = (*KINDS, "jigsaw", "speediness", "temporal_transform")
each_shown = pytest.mark.parametrize("name", [n if n in SHOWN else pytest.param(n, marks=pytest.mark.slow) for n in ALL])
each_kind = pytest.mark.parametrize("name", [n if n in KINDS else pytest.param(n, marks=pytest.mark.slow) for n in ALL])


@functools.cache
def compiled(name):
    """(loss with gradients, evaluation and pictures): compiled once for all that is asked here."""
    task = ALL[name]
    train = jax.jit(jax.value_and_grad(lambda p, m, b, key: task.loss(p, m, b, key, task.turns[0]), has_aux=True))
    look = jax.jit(lambda p, m, b, key: (task.held_out(p, m, b, key), task.pictures(p, m, b, key)))
    return train, look


def loss(name, params, memory, batch):
    (value, (memory, metrics)), grads = jax.device_get(compiled(name)[0](params, memory, batch, jax.random.key(0)))
    return float(value), memory, metrics, grads


@each
def test_zero_logits_cost_the_logarithms_of_the_classes(name):
    task = TASKS[name]
    params, memory = started(task)
    value, after, metrics, _ = loss(name, zeroed(params), memory, tiny.batches(1, SPEC)[0])
    np.testing.assert_allclose(value, sum(np.log(task.classes)), rtol=1e-6)
    assert all(0 <= v <= 1 for k, v in metrics.items() if k.endswith("accuracy"))
    assert after[STATS]["calls"] == memory[STATS]["calls"] + 1


@each
def test_labels_come_from_the_draw_and_not_from_the_video(name):
    first, other = tiny.batches(2, SPEC)
    other = dict(other, label=np.full(8, -1, np.int32), index=np.arange(8, 16, dtype=np.int32), time=other["time"] * 3)
    one, two = ask(TASKS[name], first), ask(TASKS[name], other)
    np.testing.assert_array_equal(one.label_QxA, two.label_QxA)
    assert one.pieces_QxPxTxHxWx3.shape[1:3] == (TASKS[name].pieces, TASKS[name].frames)
    assert len(one.label_QxA) == 16 * TASKS[name].questions_per_clip


@each
def test_every_class_is_as_likely(name):
    """chi-square on 24,000 draws; a task that asks all classes of every clip has exactly as many of each."""
    found = labels(TASKS[name], 24_000)
    for a, classes in enumerate(TASKS[name].classes):
        asked = found[:, a][found[:, a] >= 0]
        counts = np.bincount(asked, minlength=classes)
        assert len(counts) == classes and scipy_stats.chisquare(counts).pvalue > 1e-3, counts


# One answer, several, answers that are not asked of all, answers that are measured.
@pytest.mark.parametrize("name", ["pace", "appearance_change", "temporal_transform", "motion_statistics"])
def test_random_labels_leave_the_pieces_and_have_nothing_to_do_with_them(name):
    """The control: pieces bit for bit the task's own; answers uniform, and independent of those that were right under the same key."""
    task = ALL[name]
    control = dataclasses.replace(task, random_labels=True)
    batch = tiny.batches(1, SPEC)[0]
    asked = ask(task, batch)
    assert task.relabel(asked, batch, jax.random.key(0)) is asked
    other = control.relabel(asked, batch, jax.random.key(0))
    np.testing.assert_array_equal(asked.pieces_QxPxTxHxWx3, other.pieces_QxPxTxHxWx3)
    keys = jax.random.split(jax.random.key(1), 400)
    memory = started(task)[1]
    truth = (
        jax.jit(jax.vmap(lambda k: task.ask(memory, batch, k).label_QxA))(keys) if name in TASKS else np.tile(asked.label_QxA, (400, 1, 1))
    )
    relabel = jax.vmap(lambda k, label: control.relabel(asked._replace(label_QxA=label), batch, k).label_QxA)
    right, drawn = np.concatenate(truth), np.concatenate(jax.jit(relabel)(keys, truth))
    np.testing.assert_array_equal(drawn < 0, right < 0)
    for a, classes in enumerate(task.classes):
        counts = np.zeros((classes, classes))
        np.add.at(counts, (right[right[:, a] >= 0, a], drawn[right[:, a] >= 0, a]), 1)
        seen = counts[counts.sum(1) > 0]
        assert not len(seen) or scipy_stats.chisquare(seen.sum(0)).pvalue > 1e-4, seen
        assert len(seen) < 2 or scipy_stats.chi2_contingency(seen).pvalue > 1e-4, seen


@pytest.mark.parametrize("name", ["pace", "playback_rate", "motion_statistics"])  # each judges in a way of its own
def test_random_labels_are_what_the_loss_is_of(name):
    task, batch = ALL[name], tiny.batches(1, SPEC)[0]
    control = dataclasses.replace(task, random_labels=True)
    params, memory = started(task)

    @jax.jit
    def both(key):
        """(the control's loss; that of the task's logits against the drawn answers)"""
        logits, question, _ = task._answer(params, memory, batch, key, train=False)
        return control.held_out(params, memory, batch, key)["loss"], task._judge(logits, control.relabel(question, batch, key), batch)[0]

    found, wanted = both(jax.random.key(0))
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


@each_of_all
def test_a_video_of_weight_0_does_not_count(name):
    task = ALL[name]
    params, memory = started(task)
    batch = dict(tiny.batches(1, SPEC)[0])
    batch[batch_lib.WEIGHT] = np.array([1, 1, 1, 1, 0, 0, 0, 0], np.float32)
    changed = dict(batch, video=np.where(batch[batch_lib.WEIGHT].reshape(-1, 1, 1, 1, 1, 1) > 0, batch["video"], 7).astype(np.uint8))
    assert loss(name, params, memory, batch)[0] == pytest.approx(loss(name, params, memory, changed)[0], rel=1e-6)
    assert loss(name, params, memory, dict(batch, weight=np.ones(8, np.float32)))[0] != loss(name, params, memory, batch)[0]


@each_shown
def test_held_out_videos_are_asked_in_evaluation_mode(name):
    task = ALL[name]
    params, memory = started(task)
    batch = tiny.batches(1, SPEC)[0]
    look = compiled(name)[1]
    metrics = jax.device_get(look(params, memory, batch, jax.random.key(0))[0])
    assert "loss" in metrics and metrics == jax.device_get(look(params, memory, batch, jax.random.key(0))[0])
    if name in TASKS:
        zero = jax.device_get(look(zeroed(params), memory, batch, jax.random.key(0))[0])
        np.testing.assert_allclose(zero["loss"], sum(np.log(task.classes)), rtol=1e-6)


@each_shown
def test_pictures_show_what_was_asked_beside_the_clip(name):
    task = ALL[name]
    params, memory = started(task)
    batch = tiny.batches(1, SPEC)[0]
    shown = jax.device_get(compiled(name)[1](params, memory, batch, jax.random.key(0))[1])
    assert shown["clip"].shape == (8, 16, 16, 16, 3)
    np.testing.assert_allclose(shown["clip"], batch["video"][:, 0] / 255, atol=1e-5)
    side = task.clip_size[0]
    assert shown["asked"].shape == (8, task.frames, side, side * task.pieces + 2 * (task.pieces - 1), 3)
    asked = ask(task, batch)
    every = len(asked.label_QxA) // 8
    chosen = [video * every + video % every for video in range(8)]  # a video's own question, and every kind of them is among four videos
    np.testing.assert_array_equal(shown["label"], asked.label_QxA[np.array(chosen)])
    np.testing.assert_allclose(shown["asked"][:, :, :, -side:], asked.pieces_QxPxTxHxWx3[np.array(chosen), -1], atol=1e-5)
    if name in ("rotation", "speediness", "temporal_transform"):
        assert len(np.unique(shown["label"][:4, 0])) == len(np.unique(asked.label_QxA[:, 0]))
    for label, prediction in zip(shown["label"], shown["prediction"], strict=True):
        assert "said" in task.caption(tuple(map(int, label)), tuple(map(int, prediction)))


@each_of_all
def test_its_labels_are_its_own(name):
    """So the classes of the data are none of its business, and it needs none."""
    task = ALL[name]
    assert task.label_classes() is None and batch_lib.LABEL not in task.needs
    pretrain.check_classes(task, ("a", "b", "c", "d", "e"))


@each_of_all
def test_gradients_reach_encoder_and_head(name):
    params, memory = started(ALL[name])
    *_, grads = loss(name, params, memory, tiny.batches(1, SPEC)[0])
    for part, tree in grads.items():
        assert max(float(np.max(np.abs(g))) for g in jax.tree.leaves(tree)) > 0, part


@pytest.mark.parametrize(
    "name", [n if n in ("rotation", "playback_rate", "motion_statistics") else pytest.param(n, marks=pytest.mark.slow) for n in ALL]
)
def test_eight_devices_are_one(name):
    task = ALL[name]
    params, memory = started(task)
    batch = tiny.batches(1, SPEC)[0]
    one = loss(name, params, memory, batch)
    mesh = sharding.make_mesh({"data": 2, "fsdp": 2, "seq": 1, "model": 2})
    with jax.set_mesh(mesh):
        train = jax.jit(jax.value_and_grad(lambda p, m, b, key: task.loss(p, m, b, key, task.turns[0]), has_aux=True))
        (value, (after, metrics)), grads = jax.device_get(train(params, memory, sharding.global_batch(batch, mesh), jax.random.key(0)))
    np.testing.assert_allclose(value, one[0], atol=1e-5)
    assert tiny.largest_difference((after, metrics, grads), one[1:]) <= 1e-5


@pytest.mark.parametrize("name", [n if n == "rotation" else pytest.param(n, marks=pytest.mark.slow) for n in ALL])
def test_a_run_that_goes_on_from_a_checkpoint_is_the_same_run(name, tmp_path):
    tiny.check_resume(ALL[name], tiny.batches(2, SPEC), tmp_path)


@each_kind
def test_a_part_of_the_batch_is_asked_the_same(name):
    """Whether it is a micro-batch or another host's rows: the draws belong to the rows of the global batch."""
    whole = ask(ALL[name])
    rows = {key: value[4:] for key, value in tiny.batches(1, SPEC)[0].items()} | {batch_lib.SLOT: np.arange(4, 8, dtype=np.int32)}
    part = ask(ALL[name], rows)
    for a, b in zip(whole, part, strict=True):
        np.testing.assert_allclose(a[len(a) // 2 :], b, atol=1e-6)


def test_yuv_planes_are_cut_like_pictures():
    task = dataclasses.replace(TASKS["clip_order"])
    spec = dataclasses.replace(SPEC, layout="yuv420")
    asked = ask(task, tiny.batches(1, spec)[0])
    assert asked.pieces_QxPxTxHxWx3.shape == (16, 3, 4, 16, 16, 3)
    np.testing.assert_array_equal(asked.label_QxA, ask(task).label_QxA)


@pytest.mark.parametrize("recipe", [relative_speed_r2plus1d10, dpc_r3d18, simclr_slowonly50])
def test_where_there_are_no_labels_random_ones_are_refused(recipe):
    config = config_lib.to_dict(recipe.get_config("smoke"))
    config["objective"]["random_labels"] = True
    with pytest.raises(UserError, match=r"objective\.random_labels: .* asks no question"):
        objectives.build(config)


def test_what_only_an_evaluation_is_shown_is_no_view_of_a_task():
    config = config_lib.to_dict(pace_r2plus1d10.get_config("smoke"))
    config["objective"]["view"]["order"] = "mean"
    with pytest.raises(UserError, match="unknown field of view 'order'"):
        objectives.build(config)
