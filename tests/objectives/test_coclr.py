"""CoCLR: what each network mines for the other, that the other stands still, and one whole cycle on constructed pairs."""

import dataclasses
import functools
import itertools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.objectives.joint_methods import VIEW
from tests.objectives.nets import Flat
from tests.train import tiny
from vssl_jax import batch as batch_lib
from vssl_jax.errors import UserError
from vssl_jax.evals.knn import nearest as neighbors
from vssl_jax.models.projection import MLP
from vssl_jax.objectives import losses
from vssl_jax.objectives.average import Average
from vssl_jax.objectives.coclr import CLASS, KIND, KINDS, OTHER, SOURCE, CoCLR
from vssl_jax.objectives.joint import EMA
from vssl_jax.objectives.queue import FILLED, POINTER, QUEUE
from vssl_jax.perturb import flow_view, pieces
from vssl_jax.perturb.clip_view import ANYWHERE, ClipView
from vssl_jax.perturb.flow import TVL1
from vssl_jax.perturb.view import EvalView
from vssl_jax.train import state as state_lib

SPEC = batch_lib.Spec(batch_size=16, clips=2, frames=2, height=4, width=4, groups=True)
SIZE = 48
KEY = jax.random.key(0)


@dataclass(frozen=True)
class Pairs(CoCLR):
    """The first frame of a clip is what the one network sees, the second what the other does."""

    def see(self, batch, rng):
        return [batch[batch_lib.VIDEO][:, k, :1].astype(jnp.float32) / 127.5 - 1 for k in (0, 1)]

    def see_flow(self, batch, rng):
        return [batch[batch_lib.VIDEO][:, k, 1:].astype(jnp.float32) / 127.5 - 1 for k in (0, 1)]


def method(cls=Pairs, **changes):
    fields = dict(
        encoder=Flat(), frames=1, head=MLP((16,), 8, norm=False), views=(ClipView(dataclasses.replace(VIEW, size=4), 1),) * 2,
        view=dataclasses.replace(VIEW, size=4), eval_view=EvalView(size=4), average=Average(0.9), size=SIZE, mined=3,
    )  # fmt: skip
    return cls(**fields | changes)


METHOD = method()
TURNS = {turn.name: turn for turn in METHOD.turns}


def videos(count=64, classes=4, siblings=1, seed=0, easy=1):
    """uint8 [N,2,2,4,4,3], classes, groups. Frame 0: what only this recording has, and a little of its class; frame `easy`: nothing but the class, and
    of siblings a common rest.
    """
    rng = np.random.default_rng(seed)
    code = np.random.default_rng(123)  # the classes look the same in every set
    of_class = code.normal(size=(2, classes, 48))
    label = np.arange(count) // siblings % classes
    group = np.arange(count) // siblings
    recording = rng.normal(size=(count // siblings, 2, 48))
    noise = rng.normal(size=(count, 2, 2, 48))
    hard = 0.55 * of_class[0][label][:, None] + 1.0 * recording[group][:, None, 0] + 0.25 * noise[:, :, 0]
    clear = 1.0 * of_class[1][label][:, None] + 0.5 * recording[group][:, None, 1] + 0.4 * noise[:, :, 1]
    frames = np.stack([hard, clear] if easy else [clear, hard], axis=2).reshape(count, 2, 2, 4, 4, 3)
    return np.clip(127.5 + 40 * frames, 0, 255).astype(np.uint8), label.astype(np.int32), group.astype(np.int32)


def batches(steps, data, seed=0):
    """Endless epochs."""
    video, label, group = data
    rng, rest, made = np.random.default_rng(seed), [], []
    base = tiny.batches(1, SPEC)[0]
    while len(made) < steps:
        if len(rest) < 16:
            rest = list(rng.permutation(len(video)))
        rows, rest = np.array(rest[:16]), rest[16:]
        made.append(dict(base, video=video[rows], label=label[rows], index=rows.astype(np.int32), group=group[rows]))
    return made


@functools.cache
def started(seed=0):
    return jax.jit(lambda key: METHOD.init(key, None))(jax.random.key(seed))


@functools.cache
def compiled(name):
    def run(params, given, memory, batch, key):
        return METHOD.loss(params, memory | given, batch, key, TURNS[name])

    return jax.jit(jax.value_and_grad(run, (0, 1), has_aux=True, allow_int=True))


def step(name, params, memory, batch=None, key=KEY):
    batch = batches(1, videos())[0] if batch is None else batch
    floats = {k: memory[k] for k in (QUEUE, OTHER, EMA)}
    return jax.device_get(compiled(name)(params, floats, memory, batch, key))


def filled(name, params, memory, given=None):
    """The memory after the queue has filled up in that turn."""
    for batch in given or batches(SIZE // 16, videos()):
        (_, (memory, _)), _ = step(name, params, memory, batch)
    return memory


@pytest.mark.parametrize("name", KINDS)
def test_gradients_reach_the_network_whose_turn_it_is_and_no_other(name):
    params, memory = started()
    memory = filled(name, params, memory)
    (_, (after, _)), (grads, of_memory) = step(name, params, memory)
    own = TURNS[name].trains
    assert own == (("flow_encoder", "flow_head") if "flow" in name else ("encoder", "head"))
    for part, tree in grads.items():
        assert any(np.any(g) for g in jax.tree.leaves(tree)) == (part in own), part
    for g in jax.tree.leaves(of_memory):
        assert g.dtype == jax.dtypes.float0 or not np.any(g)
    still = "" if "flow" in name else "flow_"
    assert after[f"{still}stats"]["calls"] == 0 and after[f"{'flow_' if not still else ''}stats"]["calls"] > 0


def test_zero_vectors_cost_what_a_guess_does():
    """The logarithm of all scores over the positives: five mined of a queue of 2048, with and without the own key (6 and 5 of 2049)."""
    params, memory = started()
    memory = filled("rgb", params, memory)
    zero = params | {"head": jax.tree.map(jnp.zeros_like, params["head"])}
    (alone, _), _ = step("rgb_nce", zero, memory)
    assert alone == pytest.approx(np.log(SIZE + 1), rel=1e-5)
    both = []
    for drop in (0.0, 1.0):
        changed = method(drop_own=drop)
        loss, _ = jax.jit(lambda p, m, b, c=changed: c.loss(p, m, b, KEY, TURNS["rgb"]))(zero, memory, batches(9, videos())[-1])
        both.append(float(loss))
    kin = np.asarray(memory[SOURCE])[None] == batches(9, videos())[-1]["group"][:, None]
    positives = METHOD.mined + kin.sum(1)
    np.testing.assert_allclose(both, [np.mean(np.log((SIZE + 1) / (positives + own))) for own in (1, 0)], rtol=1e-4)


def test_positives_are_the_other_networks_nearest_of_other_sources():
    params, memory = started()
    data = videos(siblings=2)
    memory = filled("rgb", params, memory, batches(SIZE // 16, data))
    batch = batches(9, data)[-1]
    other = losses.similarity(jax.random.normal(KEY, (16, 8)), jnp.eye(8))
    find = jax.jit(METHOD._positives)
    positive, dropped, _ = find(other, memory, batch, KEY)
    alike = np.array(other @ memory[OTHER].T)
    kin = batch["group"][:, None] == np.asarray(memory[SOURCE])[None]
    assert kin.any()
    for b in range(16):
        nearest = np.argsort(np.where(kin[b], -np.inf, alike[b]))[::-1][:3]
        assert set(np.flatnonzero(positive[b, 1:])) == set(nearest) | set(np.flatnonzero(kin[b]))
    np.testing.assert_array_equal(positive[:, 0], ~dropped)
    many = np.concatenate([find(other, memory, batch, jax.random.key(i))[1] for i in range(60)])
    assert abs(many.mean() - 0.9) < 4 * np.sqrt(0.09 / len(many))


def test_an_empty_queue_gives_no_positives_and_keeps_the_own_key():
    _, memory = started()
    positive, dropped, _ = METHOD._positives(jnp.ones((16, 8)), memory, batches(1, videos())[0], KEY)
    assert positive[:, 0].all() and not positive[:, 1:].any() and not dropped.any()


def test_the_order_of_the_queue_means_nothing():
    params, memory = started()
    memory = filled("rgb", params, memory)
    turned = memory | {name: memory[name][::-1] for name in (QUEUE, OTHER, SOURCE, CLASS)}
    assert step("rgb", params, memory)[0][0] == pytest.approx(step("rgb", params, turned)[0][0], rel=1e-5)


def test_a_turn_begins_with_an_empty_queue_and_a_copy():
    params, memory = started()
    memory = filled("rgb_nce", params, memory)
    assert (memory[FILLED], memory[POINTER], memory[KIND]) == (SIZE, 0, 0)
    moved = jax.tree.map(lambda x: x + 1.0, params)
    (_, (after, _)), _ = step("flow", moved, memory)
    assert (after[FILLED], after[POINTER], after[KIND]) == (16, 16, 3)
    for entry in (QUEUE, OTHER):
        assert not (after[entry][16:] == memory[entry][16:]).all(axis=1).any() or entry == OTHER
    np.testing.assert_allclose(np.linalg.norm(after[QUEUE], axis=1), 1, rtol=1e-5)
    (_, (more, _)), _ = step("flow", moved, after)
    np.testing.assert_array_equal(more[QUEUE][32:], after[QUEUE][32:])  # as it was begun
    tiny.assert_same_bits(after[EMA]["encoder"], moved["flow_encoder"])
    later = jax.jit(METHOD.after_update)(jax.tree.map(lambda x: x + 1.0, moved), after, jnp.int32(9))
    np.testing.assert_allclose(later[EMA]["encoder"]["pixels"]["bias"] - after[EMA]["encoder"]["pixels"]["bias"], 0.1, rtol=1e-3)


def plan(cls_method, given, **changes):
    optimizer = {name: tiny.optimizer(learning_rate=3e-3, schedule="none", weight_decay=0.05) for name in KINDS}
    return tiny.plan(cls_method, given, optimizers=optimizer, **changes)


def test_nothing_is_learned_before_the_queue_is_full_and_the_other_network_never_moves():
    """Over all four turns. The batch that fills the queue was compared with one that was not full: it changes nothing either."""
    small = method(initial=2, learning=5)
    states, _, _ = tiny.advance(plan(small, batches(14, videos())))
    for number, (before, after) in enumerate(itertools.pairwise(states)):
        turn = state_lib.turn_at(small, number)
        first = sum(t.steps for t in small.turns[: small.turns.index(turn)])
        for part in before.params:
            same = tiny.largest_difference(before.params[part], after.params[part]) == 0
            assert same == (part not in turn.trains or (turn.name in ("rgb", "flow") and number - first < SIZE // 16)), (number, part)
        if number - first < SIZE // 16 and turn.name in ("rgb", "flow"):
            tiny.assert_same_bits(before.opt, after.opt)
            assert after.memory[FILLED] == 16 * (number - first + 1)


def test_eight_devices_are_one():
    small = method(initial=1, learning=4, average=Average(0.5))
    given = batches(6, videos())
    one, eight = (tiny.advance(tiny.plan(small, given, mesh=mesh)) for mesh in (None, {"data": 4, "fsdp": 2}))
    for a, b in zip(one[1], eight[1], strict=True):
        # While nothing is learned a video's key of an epoch ago is its own key: rounding decides which is nearer.
        assert a.keys() == b.keys() and all(0 <= found.pop("accuracy") <= 1 for found in (a, b))
        assert a == pytest.approx(b, rel=1e-5, abs=1e-5)
    for a, b in zip(one[0], eight[0], strict=True):
        assert tiny.largest_difference((a.params, a.memory), (b.params, b.memory)) <= 1e-5


def test_a_run_that_goes_on_from_a_checkpoint_is_the_same_run(tmp_path):
    """Stopped while the queue of a turn that mines fills."""
    tiny.check_resume(method(initial=1, learning=6), batches(7, videos()), tmp_path, at=4)


# One cycle.


def run(whole, data, turns):
    """(every state, metrics of every step) of that many turns."""
    steps = sum(turn.steps for turn in whole.turns[:turns])
    states, metrics, _ = tiny.advance(plan(whole, batches(steps, data), steps=steps))
    return states, metrics


def test_the_others_nearest_are_of_the_same_class_and_teach_the_classes():
    """The second network tells classes from the first moment, the first sees mostly which recording it is."""
    whole, data, test = method(initial=120, learning=120), videos(192), videos(64, seed=1)
    states, metrics = run(whole, data, 3)

    @jax.jit
    def embed(params, memory, frames):
        net = whole._network(params, memory, "rgb")
        return whole.vectors(net, net, [frames], jax.random.split(KEY, len(frames)), False)[0][:, 0]

    def retrieval(state):
        """(share of test videos whose nearest training video is of their class, share of the 3 nearest that are), by the first network."""
        z = [embed(state.params, state.memory, d[0][:, 0, :1].astype(np.float32) / 127.5 - 1) for d in (data, test)]
        nearest, _ = neighbors(np.asarray(z[0]), np.asarray(z[1]), 3)
        right = data[1][nearest] == test[1][:, None]
        return right[:, 0].mean(), right.mean()

    def precision(state):
        """Of what the first network would mine of all videos."""
        z = np.asarray(embed(state.params, state.memory, data[0][:, 0, :1].astype(np.float32) / 127.5 - 1))
        nearest = np.argsort(np.where(np.eye(len(z), dtype=bool), -np.inf, z @ z.T))[:, ::-1][:, : whole.mined]
        return np.mean(data[1][nearest] == data[1][:, None])

    before, after = states[whole.initial], states[-1]
    assert np.mean([m["mined/precision"] for m in metrics[-20:]]) > 0.75  # one of four by chance
    assert all(new > old + 0.15 for old, new in zip(retrieval(before), retrieval(after), strict=True)), (
        retrieval(before),
        retrieval(after),
    )
    assert precision(after) > precision(before) + 0.15, (precision(before), precision(after))
    assert all("collapse/alarm" in m for m in metrics)


@pytest.mark.parametrize("mask", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_without_the_mask_most_of_what_is_mined_are_siblings(mask):
    """Four videos of each recording, all of them in the queue, three mined."""
    _, metrics = run(method(initial=60, learning=20, size=96, siblings=mask), videos(96, siblings=4), 3)
    share = np.mean([m["mined/siblings"] for m in metrics[-5:]])
    assert share == 0 if mask else share > 0.5


# The real views.


def real(flow_of, negate=True):
    view = ClipView(dataclasses.replace(VIEW, size=16, flip=1.0, crop=dataclasses.replace(VIEW.crop, area=(1.0, 1.0))), 2)
    return method(
        CoCLR, frames=2, views=(view, dataclasses.replace(view, clip=1)), view=view.view, flow_of=flow_of, flow=TVL1(scales=1), bound=4.0
    )


@pytest.mark.parametrize("flow_of", ["view", "film"])
def test_a_mirrored_clip_moves_the_other_way_unless_flow_is_of_the_film(flow_of):
    """A smooth pattern goes right by one pixel a frame; all clips are mirrored."""
    x = np.arange(32)
    pattern = 128 + 100 * np.sin(x[None] / 3 + x[:, None] / 5)
    frames = np.stack([np.roll(pattern, t, axis=1)[8:24, 8:24] for t in range(3)])
    video = np.broadcast_to(frames[None, None, ..., None], (2, 2, 3, 16, 16, 3)).astype(np.uint8)
    batch = dict(tiny.batches(1, batch_lib.Spec(2, 2, 3, 16, 16))[0], video=video)
    made = real(flow_of)
    seen = jax.jit(made.see_flow)(batch, KEY)
    assert [s.shape for s in seen] == [(2, 2, 16, 16, 3)] * 2
    u = (np.asarray(seen[0]) * np.array(VIEW.std) + np.array(VIEW.mean))[..., 0]
    moved = (np.median(u[:, :, 4:12, 4:12]) * 2 - 1) * 4
    if flow_of == "view":
        assert moved == pytest.approx(-1, abs=0.35)
    else:
        assert moved > 0.2  # colors are jittered as a picture's are


@pytest.mark.parametrize(("flow_of", "stride"), [("view", 2), ("film", 1)])
def test_colors_and_flow_are_of_the_same_stretch_wherever_it_begins(monkeypatch, flow_of, stride):
    """With the first frame of two in place of their flow."""
    monkeypatch.setattr(flow_view, "of_film", lambda batch, *_: pieces.without_last(batch, 1))
    monkeypatch.setattr(flow_view, "of_clip", lambda clip, *_: clip[:, :-1])
    view = ClipView(dataclasses.replace(VIEW, size=4), 2, first=ANYWHERE, stride=stride)
    made = method(CoCLR, frames=2, views=(view, dataclasses.replace(view, clip=1)), view=view.view, flow_of=flow_of)
    batch = tiny.batches(1, batch_lib.Spec(16, 2, 9, 4, 4))[0]
    frames = np.arange(9, dtype=np.uint8).reshape(1, 1, -1, 1, 1, 1)
    colors, flow = jax.jit(lambda batch: (made.see(batch, KEY), made.see_flow(batch, KEY)))(
        dict(batch, video=np.broadcast_to(frames, batch["video"].shape))
    )
    tiny.assert_same_bits(colors, flow)
    assert len(np.unique(colors[0][:, 0])) > 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"views": (ClipView(VIEW, 1), ClipView(VIEW, 1, stride=2))}, "strides 1 and 2"),
        ({"mined": 48}, r"objective\.mined is 48: it must be 1 or more and below objective\.queue=48"),
        ({"flow_of": "clip"}, "flow_of"),
        ({"drop_own": 2.0}, r"objective\.drop_own is 2.0: it must be from 0 to 1"),
        ({"views": (ClipView(VIEW, 1),) * 3}, "two views"),
    ],
)
def test_settings_that_make_no_sense_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        method(**change)
