"""DeepCluster and local aggregation: exact losses, a memory that no gradient passes, nothing learned before there are clusters, and runs that renew
them: on eight devices, and from a checkpoint.
"""

import dataclasses
import functools
import itertools
import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.objectives.joint_methods import VIEW
from tests.objectives.nets import Flat
from tests.train import tiny
from vssl_jax import batch as batch_lib
from vssl_jax import jobs
from vssl_jax.errors import UserError
from vssl_jax.models.projection import MLP, unit
from vssl_jax.objectives import collapse, losses
from vssl_jax.objectives.bank import BANK, KNOWN
from vssl_jax.objectives.deep_cluster import ASSIGNMENT, CENTROIDS, DeepCluster
from vssl_jax.objectives.local_aggregation import AGGREGATION, INSTANCE, PARTITION, LocalAggregation
from vssl_jax.perturb import keys as keys_lib
from vssl_jax.perturb.clip_view import ClipView
from vssl_jax.perturb.view import EvalView
from vssl_jax.train import sharding
from vssl_jax.train import state as state_lib
from vssl_jax.train.checkpoint import Checkpointer
from vssl_jax.train.loop import compile_plan, train

SPEC = batch_lib.Spec(batch_size=8, clips=2, frames=1, height=4, width=4)
VIDEOS = 24
EPOCH = VIDEOS // 8
KEY = jax.random.key(0)


class Seen:
    """The views are the clips as they are."""

    def see(self, batch, rng):
        return [batch[batch_lib.VIDEO][:, k].astype(jnp.float32) / 127.5 - 1 for k in range(len(self.views))]


@dataclass(frozen=True)
class Deep(Seen, DeepCluster):
    pass


@dataclass(frozen=True)
class Local(Seen, LocalAggregation):
    pass


def fields(views):
    """Without batch normalization: a video's vectors are its own business."""
    view = dataclasses.replace(VIEW, size=4)
    return dict(
        encoder=Flat(), frames=1, head=MLP((16,), 8, norm=False), views=(ClipView(view, 1),) * views, view=view, eval_view=EvalView(size=4), videos=VIDEOS,
        refresh_every=EPOCH,
    )  # fmt: skip


METHODS = {
    "deep": Deep(prototypes=5, heads=3, iterations=4, **fields(2)),
    "local": Local(
        noise=12, background=6, clusters=5, clusterings=2, iterations=4, temperature=0.2, initial=2 * EPOCH, learning=99, **fields(1)
    ),
}
TURNS = [("deep", "main"), ("local", INSTANCE), ("local", AGGREGATION)]
each = pytest.mark.parametrize("name", METHODS)
# Both have the bank that is spread and kept; local aggregation has turns besides.
each_of_one = pytest.mark.parametrize("name", ["local", pytest.param("deep", marks=pytest.mark.slow)])
each_turn = pytest.mark.parametrize(("name", "turn"), TURNS)


def batches(steps=EPOCH, seed=0):
    """Epochs over VIDEOS videos, each two noisy clips of a picture of its own; every epoch in the same order."""
    rng = np.random.default_rng(seed)
    clips = np.clip(127.5 + 60 * rng.normal(size=(VIDEOS, 1, 1, 4, 4, 3)) + 10 * rng.normal(size=(VIDEOS, 2, 1, 4, 4, 3)), 0, 255).astype(
        np.uint8
    )
    base, order = tiny.batches(1, SPEC)[0], rng.permutation(VIDEOS).reshape(EPOCH, 8).astype(np.int32)
    return [dict(base, video=clips[order[i % EPOCH]], index=order[i % EPOCH]) for i in range(steps)]


@functools.cache
def started(name):
    return jax.jit(lambda key: METHODS[name].init(key, None))(KEY)


@functools.cache
def compiled(name, turn):
    method = METHODS[name]
    (which,) = [t for t in method.turns if t.name == turn]

    def run(params, given, memory, batch):
        return method.loss(params, memory | given, batch, KEY, which)

    return jax.jit(jax.value_and_grad(run, (0, 1), has_aux=True))


def step(name, turn, params, memory, batch):
    floats = {k: memory[k] for k in (BANK, CENTROIDS) if k in memory}
    return jax.device_get(compiled(name, turn)(params, floats, memory, batch))


@functools.cache
def refresh(name):
    return jax.jit(METHODS[name].refresh)


@functools.cache
def look(name):
    """(params, memory, batch) -> vectors [B, V, D]."""
    return jax.jit(lambda p, m, b: METHODS[name].look(p, m, b, KEY, False)[0])


@functools.cache
def filled(name):
    """(params, memory after an epoch, what is measured of the clusters that were then made, the memory with them)."""
    params, memory = started(name)
    for batch in batches():
        (_, (memory, _)), _ = step(name, METHODS[name].turns[0].name, params, memory, batch)
    after, metrics = refresh(name)(params, memory, KEY)
    return params, memory, metrics, after


# What both owe.


@each_turn
def test_gradients_reach_the_network_and_not_the_memory(name, turn):
    params, *_, memory = filled(name)
    _, (of_params, of_memory) = step(name, turn, params, memory, batches()[0])
    for part, tree in of_params.items():
        assert max(float(np.abs(g).max()) for g in jax.tree.leaves(tree)) > 1e-3, part
    assert not any(np.any(g) for g in jax.tree.leaves(of_memory))


@each
def test_the_bank_is_what_the_network_made_of_each_video(name):
    """Every video was met once."""
    params, memory, *_ = filled(name)
    for batch in batches():
        z_BxVxD = look(name)(params, memory, batch)
        rows = z_BxVxD[:, 0] if name == "local" else jnp.swapaxes(z_BxVxD, 0, 1)
        np.testing.assert_allclose(memory[BANK][..., batch["index"], :], rows, atol=1e-5)
    np.testing.assert_array_equal(memory[KNOWN], np.arange(512) < VIDEOS)


@each
def test_a_refresh_puts_every_known_video_in_a_cluster(name):
    params, before, metrics, after = filled(name)
    assert (before[ASSIGNMENT] == -1).all()
    assert (after[ASSIGNMENT][:, :VIDEOS] >= 0).all() and (after[ASSIGNMENT][:, VIDEOS:] == -1).all()
    assert 0.5 < metrics["clusters/usage"] <= 1 and metrics["clusters/agreement"] == 0
    again = refresh(name)(params, after, jax.random.key(1))[1]
    assert 0.3 < again["clusters/agreement"] <= 1
    if name == "deep":  # a video is in the cluster whose centroid is nearest, of the head's own view
        for head in range(3):
            nearest = np.argmax(after[BANK][head % 2, :VIDEOS] @ after[CENTROIDS][head].T, axis=1)
            np.testing.assert_array_equal(nearest, after[ASSIGNMENT][head, :VIDEOS])


@each_turn
def test_videos_of_weight_0_change_nothing(name, turn):
    params, *_, memory = filled(name)
    weight = np.array([1, 1, 1, 1, 1, 0, 0, 0], np.float32)
    batch = dict(batches()[0], weight=weight)
    changed = dict(batch, video=np.where(weight.reshape(-1, 1, 1, 1, 1, 1) > 0, batch["video"], 7).astype(np.uint8))
    (one, (after, _)), (grads, _) = step(name, turn, params, memory, batch)
    (two, (same, _)), (again, _) = step(name, turn, params, memory, changed)
    assert one == pytest.approx(float(two), rel=1e-5) and tiny.largest_difference(grads, again) < 1e-5
    np.testing.assert_allclose(after[BANK], same[BANK], atol=1e-6)
    np.testing.assert_array_equal(after[BANK][..., batch["index"][5:], :], memory[BANK][..., batch["index"][5:], :])
    assert step(name, turn, params, memory, dict(batch, weight=np.ones(8, np.float32)))[0][0] != pytest.approx(float(one), rel=1e-3)


@pytest.mark.parametrize(("name", "turn"), [t for t in TURNS if t[1] != INSTANCE])
def test_videos_without_a_cluster_cost_nothing_and_do_not_count(name, turn):
    params, *_, memory = filled(name)
    batch = batches()[0]
    without = memory | {ASSIGNMENT: np.where(np.isin(np.arange(512), batch["index"][5:]), -1, memory[ASSIGNMENT])}
    left_out = dict(batch, weight=np.array([1, 1, 1, 1, 1, 0, 0, 0], np.float32))
    assert step(name, turn, params, without, batch)[0][0] == pytest.approx(
        float(step(name, turn, params, without, left_out)[0][0]), rel=1e-5
    )
    (none, _), (grads, _) = step(name, turn, params, memory | {ASSIGNMENT: np.full_like(memory[ASSIGNMENT], -1)}, batch)
    assert none == 0 and not any(np.any(g) for g in jax.tree.leaves(grads))


@each
def test_held_out_videos_are_asked_without_the_bank(name):
    """Their places are those of other videos."""
    params, *_, memory = filled(name)
    ask = jax.jit(METHODS[name].held_out)
    batch = batches()[0]
    found = jax.device_get(ask(params, memory, batch, KEY))
    assert found["loss"] > 0 and 0 <= found["accuracy"] <= 1
    elsewhere = ask(params, memory | {BANK: -memory[BANK]}, dict(batch, index=batch["index"][::-1]), KEY)
    tiny.assert_same_bits(found, jax.device_get(elsewhere))


# Runs.


def plan_of(method, steps, **changes):
    optimizers = {turn.name: tiny.optimizer(learning_rate=1e-2, schedule="none") for turn in method.turns}
    return tiny.plan(method, batches(steps), optimizers=optimizers, jobs=[jobs.refresh(method)], **changes)


# Aggregation begins a step before there are clusters, and two steps follow them.
SHORT = {"deep": METHODS["deep"], "local": dataclasses.replace(METHODS["local"], initial=2)}
STEPS = EPOCH + 2


@functools.cache
def history(name):
    """Every state of the run, from the fresh one on; each with what the job has made of it."""
    plan = plan_of(SHORT[name], STEPS)
    program, (job,) = compile_plan(plan), plan.jobs
    state = tiny.fresh(plan)
    states = [tiny.host(state)]
    with jax.set_mesh(plan.mesh):
        for done, batch in enumerate(plan.batches(0)):
            state, _ = program.steps[state_lib.turn_at(plan.objective, done).name](state, sharding.global_batch(batch, plan.mesh))
            state, _ = job.run(state, done + 1)
            states.append(tiny.host(state))
    return states


@each
def test_nothing_is_learned_before_there_are_clusters(name):
    method, states = SHORT[name], history(name)
    for a, b in itertools.pairwise(states[0 if name == "deep" else method.initial : EPOCH + 1]):
        tiny.assert_same_bits((a.params, a.opt), (b.params, b.opt))
        assert tiny.largest_difference(a.memory[BANK], b.memory[BANK]) > 0.1
    guards = [state.guard[method.turns[-1].name] for state in states]
    assert [int(guard.accepted) for guard in guards] == [0] * (EPOCH + 1) + [1, 2]  # no norm of before is one to compare with
    assert guards[-1].skipped == 0 and tiny.largest_difference(states[-1].params, states[EPOCH].params) > 1e-3


def test_an_untrained_deep_cluster_raises_no_alarm():
    params, memory, *_ = filled("deep")
    same = dict(batches()[0], video=np.full_like(batches()[0]["video"], 9))
    (_, (_, before)), _ = step("deep", "main", params, memory, same)
    (_, (_, after)), _ = step("deep", "main", params, filled("deep")[3], same)
    assert (before[collapse.ALARM], after[collapse.ALARM]) == (0, 1)


@each_of_one
def test_eight_devices_are_one_and_hold_an_eighth_of_the_bank_each(name, monkeypatch):
    monkeypatch.setattr(sharding, "FSDP_MIN_SIZE", 512)
    eight = train(plan_of(SHORT[name], STEPS, mesh={"data": 1, "fsdp": 8}))
    bank = eight.memory[BANK]
    assert {shard.data.size for shard in bank.addressable_shards} == {bank.size // 8}
    assert tiny.largest_difference((eight.params, eight.memory), (history(name)[-1].params, history(name)[-1].memory)) <= 1e-5


@each_of_one
def test_a_run_that_goes_on_from_a_checkpoint_is_the_same_run(name, tmp_path):
    """Stopped where clusters are made, which the checkpoint has."""
    parts = []
    for steps in (EPOCH, STEPS):
        checkpointer = Checkpointer(tmp_path, every=0, keep=1)
        parts.append(tiny.host(train(plan_of(SHORT[name], steps, checkpointer=checkpointer))))
        checkpointer.close()
    assert (parts[0].memory[ASSIGNMENT][:, :VIDEOS] >= 0).all() and parts[0].step == EPOCH
    tiny.assert_same_bits(parts, [history(name)[EPOCH], history(name)[STEPS]])


def test_a_turn_leaves_the_other_turns_optimizer_alone():
    states, initial = history("local"), SHORT["local"].initial
    tiny.assert_same_bits([state.opt[INSTANCE] for state in states[initial:]], [states[initial].opt[INSTANCE]] * (STEPS + 1 - initial))
    tiny.assert_same_bits([state.opt[AGGREGATION] for state in states[:initial]], [states[0].opt[AGGREGATION]] * initial)
    assert tiny.largest_difference(states[initial].opt[INSTANCE], states[0].opt[INSTANCE]) > 0
    assert tiny.largest_difference(states[-1].opt[AGGREGATION], states[0].opt[AGGREGATION]) > 0


# Losses.


def test_deep_clusters_loss_by_hand():
    params, *_, memory = filled("deep")
    method, batch = METHODS["deep"], batches()[0]
    z = np.asarray(look("deep")(params, memory, batch), np.float64)
    costs = []
    for head in range(3):
        scores = z @ np.asarray(memory[CENTROIDS][head], np.float64).T / method.temperature
        own = np.asarray(memory[ASSIGNMENT])[head, batch["index"]]
        for view in range(2):
            costs.append(np.log(np.exp(scores[:, view]).sum(1)) - scores[np.arange(8), view, own])
    assert step("deep", "main", params, memory, batch)[0][0] == pytest.approx(np.mean(costs), rel=1e-4)


def test_vectors_of_zeros_cost_what_a_guess_does():
    params, *_ = filled("deep")
    zero = params | {"head": jax.tree.map(jnp.zeros_like, params["head"])}
    cost = lambda name, turn: float(step(name, turn, zero, filled(name)[-1], batches()[0])[0][0])  # noqa: E731
    assert cost("deep", "main") == pytest.approx(math.log(5), rel=1e-5)
    noise = math.log(12 / VIDEOS) + math.log(PARTITION * VIDEOS)
    assert cost("local", INSTANCE) == pytest.approx(math.log1p(math.exp(noise)) + 12 * math.log1p(math.exp(-noise)), rel=1e-5)


def test_the_instance_loss_is_the_authors():
    """-log of the chances that the own entry is data and that the draws are not, P = exp(score) / Z, noise of 1/N each."""
    method, batch = METHODS["local"], batches()[0]
    score = np.random.default_rng(0).normal(size=(8, 512)).astype(np.float32) * 2
    score[:, VIDEOS:] = 1e6  # places that are no videos are never drawn
    keys = keys_lib.example_keys(KEY, batch, keys_lib.TASK)
    drawn = np.asarray(jax.jit(jax.vmap(lambda key: jax.random.randint(key, (12,), 0, VIDEOS)))(keys))
    p = np.exp(np.asarray(score, np.float64)[:, :VIDEOS]) / (2876934.2 / 1281167 * VIDEOS)
    rows, noise = np.arange(8), 12 / VIDEOS
    expected = -np.log(p / (p + noise))[rows, batch["index"]] - np.log(noise / (p + noise))[rows[:, None], drawn].sum(1)
    np.testing.assert_allclose(jax.jit(method.tell_apart)(score, batch, KEY), expected, rtol=1e-4)
    assert len({tuple(d) for d in drawn}) == 8


def world(seed=0):
    """(scores, memory, index) of 8 videos with a bank of which the last two videos are not known."""
    rng = np.random.default_rng(seed)
    known = np.arange(512) < VIDEOS - 2
    clusters = np.where(known, rng.integers(0, 5, (2, 512)), -1).astype(np.int32)
    bank, z = (np.asarray(unit(jnp.asarray(rng.normal(size=(n, 8)), jnp.float32))) for n in (512, 8))
    index = rng.permutation(VIDEOS - 2)[:8].astype(np.int32)
    return losses.similarity(z, bank, 0.2), {KNOWN: known, ASSIGNMENT: clusters}, index


AGGREGATE = jax.jit(METHODS["local"].aggregate)


def test_the_aggregation_loss_by_hand():
    score, memory, index = world()
    cost, close, clustered = AGGREGATE(score, memory, index)
    assert clustered.all()
    for b, own in enumerate(index):
        s = np.asarray(score[b], np.float64)
        others = [n for n in np.argsort(-s) if n != own and memory[KNOWN][n]]
        background = [own, *others[:5]]
        mates = [n for n in background if n == own or any(memory[ASSIGNMENT][:, n] == memory[ASSIGNMENT][:, own])]
        assert cost[b] == pytest.approx(-np.log(np.exp(s[mates]).sum() / np.exp(s[background]).sum()), rel=1e-4, abs=1e-5)
        assert close[b] == len(mates)
    assert len(set(np.asarray(close).tolist())) > 1


def test_the_order_of_the_bank_means_nothing():
    score, memory, index = world()
    order = np.concatenate([np.random.default_rng(1).permutation(VIDEOS), np.arange(VIDEOS, 512)])
    place = np.argsort(order)
    turned = {KNOWN: memory[KNOWN][order], ASSIGNMENT: memory[ASSIGNMENT][:, order]}
    one, two = AGGREGATE(score, memory, index), AGGREGATE(score[:, order], turned, place[index].astype(np.int32))
    np.testing.assert_allclose(one[0], two[0], rtol=1e-5, atol=1e-6)


def test_a_mate_among_the_neighbors_lowers_the_loss_and_pulls():
    score, memory, index = world()
    alone = memory | {ASSIGNMENT: np.where(memory[KNOWN], np.arange(512), -1).astype(np.int32)[None].repeat(2, 0)}
    nearest = np.argsort(np.where(memory[KNOWN] & (np.arange(512) != index[0]), -score[0], np.inf))[0]
    mates = np.array(alone[ASSIGNMENT])
    mates[1, nearest] = mates[1, index[0]]
    run = jax.jit(jax.value_and_grad(lambda s, memory: METHODS["local"].aggregate(s, memory, index)[0][0]))
    (apart, push), (together, pull) = run(score, alone), run(score, alone | {ASSIGNMENT: mates})
    assert together < apart - 0.05 and push[0, nearest] > 0 > pull[0, nearest] and np.isfinite(push).all()


def test_fewer_known_videos_than_the_background_asks_for_are_no_trouble():
    score, memory, index = world()
    few = np.isin(np.arange(512), index[:3])
    memory = {KNOWN: few, ASSIGNMENT: np.where(few, 0, -1).astype(np.int32)[None].repeat(2, 0)}
    run = jax.jit(jax.value_and_grad(lambda s, memory: jnp.sum(METHODS["local"].aggregate(s, memory, index)[0])))
    cost, grad = run(score, memory)
    assert np.isfinite(cost) and np.isfinite(grad).all()
    per_video, close, clustered = AGGREGATE(score, memory, index)
    np.testing.assert_allclose(per_video[:3], 0, atol=1e-6)  # all that are known are close
    assert (clustered == (np.arange(8) < 3)).all() and close[:3].tolist() == [3, 3, 3]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: dataclasses.replace(METHODS["deep"], prototypes=1), r"objective\.prototypes is 1: it must be 2 or more"),
        (lambda: dataclasses.replace(METHODS["deep"], assigned=3), r"objective\.assigned is 3: it must be from 1 to 2"),
        (lambda: dataclasses.replace(METHODS["deep"], refresh_every=0), r"objective\.refresh_every is 0: it must be 1 or more"),
        (lambda: Deep(**fields(1)), "Deep needs 2 or more"),
        (lambda: Local(**fields(2)), "one view with its bank"),
        (lambda: Local(**fields(0)), "Local needs 1 or more"),
        (lambda: dataclasses.replace(METHODS["local"], momentum=1.0), r"objective\.momentum is 1.0: it must be 0 or more and below 1"),
        (lambda: dataclasses.replace(METHODS["local"], noise=0), r"objective\.noise is 0: it must be 1 or more"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()
