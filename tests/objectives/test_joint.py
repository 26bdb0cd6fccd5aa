"""What every joint-embedding method owes: exact losses, targets that no gradient passes, and that the machine it runs on changes nothing."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.objectives.joint_methods import FIRST, METHODS, SECOND, SMALL, SPARSE, SPEC, VIEW, ZERO, Times, averaged, fields, foretelling
from tests.objectives.nets import Means
from tests.train import tiny
from vssl_jax import batch as batch_lib
from vssl_jax.errors import UserError
from vssl_jax.models import projection
from vssl_jax.models.cnn import CNN
from vssl_jax.models.projection import MLP
from vssl_jax.objectives import queue as queue_lib
from vssl_jax.objectives.average import Average
from vssl_jax.objectives.byol import BYOL
from vssl_jax.objectives.dino import CENTER, DINO
from vssl_jax.objectives.joint import EMA, Taught, build_views
from vssl_jax.objectives.moco import MoCo
from vssl_jax.objectives.protocol import STATS
from vssl_jax.objectives.simclr import SimCLR
from vssl_jax.objectives.swav import SwAV
from vssl_jax.objectives.tclr import TCLR, TERMS
from vssl_jax.objectives.uber_nce import UberNCE
from vssl_jax.perturb import keys as keys_lib
from vssl_jax.perturb import recipe
from vssl_jax.perturb.clip_view import ClipView, Pairing
from vssl_jax.perturb.crop import WholePicture
from vssl_jax.perturb.view import RandomView
from vssl_jax.train import sharding

# Other settings of a method that is there are `slow`.
# UberNCE is MoCo with more positives, and BraVe BYOL with two networks: what is their own has tests of its own.
SETTINGS = ("cvrl", "rho_moco", "moco_v3", "byol_own", "uber_nce", "brave")
each = pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in SETTINGS else n for n in METHODS])
# What meets over a batch: all pairs, a queue, a balanced assignment, a center. The others' losses are of each video by itself or these again.
each_over_the_batch = pytest.mark.parametrize(
    "name", [n if n in ("simclr", "moco", "swav", "dino") else pytest.param(n, marks=pytest.mark.slow) for n in METHODS]
)
# What is kept in a checkpoint: of queues, of averages and centers.
each_of_two = pytest.mark.parametrize("name", [n if n in ("moco", "dino") else pytest.param(n, marks=pytest.mark.slow) for n in METHODS])
KEY = jax.random.key(0)


@functools.cache
def started(name):
    return jax.jit(lambda key: METHODS[name].init(key, None))(KEY)


def floats(memory):
    """The entries of a memory that could have a gradient."""
    return {k: v for k, v in memory.items() if any(jnp.issubdtype(x.dtype, jnp.floating) for x in jax.tree.leaves(v))}


MESH = {"data": 2, "fsdp": 2, "seq": 1, "model": 2}


@functools.cache
def compiled(name):
    """Compiled once for all that is asked here: (loss with the gradients of parameters and memory, the same again for a mesh, evaluation and pictures)."""
    method = METHODS[name]

    def run(params, given, memory, batch, key):
        return method.loss(params, memory | given, batch, key, method.turns[0])

    train = jax.value_and_grad(run, (0, 1), has_aux=True, allow_int=True)
    look = jax.jit(lambda p, m, b, key: (method.held_out(p, m, b, key), method.pictures(p, m, b, key)))
    return jax.jit(train), jax.jit(train), look


def loss(name, params, memory, batch=None, mesh=None):
    batch = tiny.batches(1, SPEC)[0] if batch is None else batch
    train, on_mesh, _ = compiled(name)
    if mesh is None:
        found = train(params, floats(memory), memory, batch, KEY)
    else:
        with jax.set_mesh(mesh):
            found = on_mesh(params, floats(memory), memory, sharding.global_batch(batch, mesh), KEY)
    (value, (memory, metrics)), grads = jax.device_get(found)
    return float(value), memory, jax.tree.map(float, metrics), grads


def zeroed(params):
    return params | {part: jax.tree.map(jnp.zeros_like, params[part]) for part in ("head", "predictor") if part in params}


@each
def test_vectors_of_zeros_cost_what_a_guess_does(name):
    params, memory = started(name)
    average = {EMA: memory[EMA] | {"head": jax.tree.map(jnp.zeros_like, memory[EMA]["head"])}} if EMA in memory else {}
    value, *_ = loss(name, zeroed(params), memory | average)
    assert value == pytest.approx(ZERO[name], rel=1e-5)


@each
def test_gradients_reach_every_part_and_no_target(name):
    params, memory = started(name)
    _, _, _, (of_params, of_memory) = loss(name, params, memory)
    for part, tree in of_params.items():
        assert max(float(np.max(np.abs(g))) for g in jax.tree.leaves(tree)) > 0, part
    for entry, tree in of_memory.items():
        for g in jax.tree.leaves(tree):
            assert g.dtype == jax.dtypes.float0 or not np.any(g), entry


@each
def test_a_video_of_weight_0_does_not_count(name):
    """Among held-out videos, where there are such; batch statistics are not read there."""
    params, memory = started(name)
    weight = np.array([1, 1, 1, 1, 1, 0, 0, 0], np.float32)
    batch = dict(tiny.batches(1, SPEC)[0], weight=weight)
    changed = dict(batch, video=np.where(weight.reshape(-1, 1, 1, 1, 1, 1) > 0, batch["video"], 7).astype(np.uint8))
    look = compiled(name)[2]
    one, two = (jax.tree.map(float, look(params, memory, b, KEY)[0]) for b in (batch, changed))
    assert one == pytest.approx(two, rel=1e-4, abs=1e-5)
    assert "loss" in one and one["loss"] != look(params, memory, dict(batch, weight=np.ones(8, np.float32)), KEY)[0]["loss"]


@each
def test_the_report_shows_the_views(name):
    params, memory = started(name)
    batch = tiny.batches(1, SPEC)[0]
    shown = jax.device_get(compiled(name)[2](params, memory, batch, KEY)[1])
    assert list(shown) == sorted(["clip", *(f"view {v + 1}" for v in range(len(METHODS[name].views)))])
    for v, view in enumerate(METHODS[name].views):
        side = view.view.size
        assert shown[f"view {v + 1}"].shape == (8, view.frames, side, side, 3)
        assert 0 <= shown[f"view {v + 1}"].min() and shown[f"view {v + 1}"].max() <= 1
    assert not np.allclose(shown["view 1"], shown["view 2"])


@each_over_the_batch
def test_eight_devices_are_one(name):
    """Twice: the second time reads what the first has left, of queue, center and statistics."""
    params, memory = started(name)
    mesh = sharding.make_mesh(MESH)
    one = eight = (None, memory, None, None)
    for batch in tiny.batches(2, SPEC):
        one, eight = loss(name, params, one[1], batch), loss(name, params, eight[1], batch, mesh)
        assert one[0] == pytest.approx(eight[0], rel=1e-5)
        # Not what a last digit turns over.
        sums = [{k: v for k, v in found[2].items() if not k.endswith("accuracy")} for found in (one, eight)]
        assert sums[0] == pytest.approx(sums[1], rel=1e-4, abs=1e-5)
        assert tiny.largest_difference(one[1], eight[1]) <= 1e-5
        of_params, same = one[3][0], eight[3][0]
        assert tiny.largest_difference(of_params, same) <= 2e-5 * max(1, optax.tree.norm(of_params))


@each_of_two
def test_a_run_that_goes_on_from_a_checkpoint_is_the_same_run(name, tmp_path):
    tiny.check_resume(METHODS[name], tiny.batches(3, SPEC), tmp_path)


@each
def test_the_statistics_of_both_networks_follow(name):
    params, memory = started(name)
    _, after, _, _ = loss(name, params, memory)
    calls = len({view.view.size for view in METHODS[name].views})
    assert after[STATS]["calls"] == calls
    if EMA in memory:
        assert after[EMA][STATS]["calls"] == 1
        assert tiny.largest_difference(after[EMA]["head_stats"], memory[EMA]["head_stats"]) > 0
    assert tiny.largest_difference(after["head_stats"], memory["head_stats"]) > 0


@pytest.mark.parametrize("name", [n for n in METHODS if isinstance(METHODS[n], Taught)])
def test_the_average_starts_as_a_copy_of_loaded_weights_too_and_follows(name):
    params, memory = started(name)
    parts = [part for part in memory[EMA] if part in params]
    tiny.assert_same_bits({k: memory[EMA][k] for k in parts}, {k: params[k] for k in parts})
    moved = jax.tree.map(lambda x: x + 1.0, params)
    first = METHODS[name].adopt(moved, memory | {STATS: {"calls": jnp.int32(5)}})[EMA]
    tiny.assert_same_bits({k: first[k] for k in parts}, {k: moved[k] for k in parts})
    assert first[STATS]["calls"] == 5 and {"encoder", "head"} <= set(parts) and first.keys() == memory[EMA].keys()
    later = jax.jit(METHODS[name].after_update)(moved, memory, jnp.int32(7))[EMA]
    assert later[STATS]["calls"] == memory[EMA][STATS]["calls"]
    for part in parts:
        jax.tree.map(lambda new, old: np.testing.assert_allclose(new - old, 0.1, rtol=1e-4), later[part], memory[EMA][part])


# Methods by themselves.


def test_keys_are_pushed_after_the_loss_has_read_the_queue():
    params, memory = started("moco")
    _, after, _, _ = loss("moco", params, memory)
    np.testing.assert_array_equal(after[queue_lib.QUEUE][8:], memory[queue_lib.QUEUE][8:])
    assert np.abs(after[queue_lib.QUEUE][:8] - memory[queue_lib.QUEUE][:8]).max() > 0.1
    np.testing.assert_allclose(np.linalg.norm(after[queue_lib.QUEUE], axis=1), 1, atol=1e-5)
    places = []
    for _ in range(4):
        places.append((int(after[queue_lib.POINTER]), int(after[queue_lib.FILLED])))
        _, after, _, _ = loss("moco", params, after)
    assert places == [(8, 8), (16, 16), (24, 24), (0, 32)]
    everyone = loss("rho_moco", *started("rho_moco"))[1]
    assert int(everyone[queue_lib.POINTER]) == 24  # three keys of each video


def test_the_order_of_the_queue_means_nothing():
    params, memory = started("moco")
    turned = memory | {queue_lib.QUEUE: memory[queue_lib.QUEUE][::-1]}
    assert loss("moco", params, memory)[0] == pytest.approx(loss("moco", params, turned)[0], rel=1e-5)


def test_mocos_loss_by_hand():
    """The first view asks; its key is the other's vector by the average; the queue is as it was."""
    method, (params, memory) = METHODS["moco"], started("moco")
    batch = tiny.batches(1, SPEC)[0]
    asked, said, given, _ = jax.jit(lambda p, m, b: method.exchange(p, m, b, KEY, True, (0,), (1,)))(params, memory, batch)
    np.testing.assert_array_equal(asked, said)
    scores = np.concatenate([(asked[:, 0] * given[:, 0]).sum(1, keepdims=True), asked[:, 0] @ memory[queue_lib.QUEUE].T], axis=1)
    scores = scores.astype(np.float64) / method.temperature
    expected = np.mean(np.log(np.exp(scores).sum(1)) - scores[:, 0])
    assert loss("moco", params, memory)[0] == pytest.approx(expected, rel=1e-4)


def test_all_keys_of_the_class_are_positives():
    """The mean of -log of the shares of the own key and of the queue's keys of the same class; a video without a class has its own key alone."""
    method, (params, memory) = METHODS["uber_nce"], started("uber_nce")
    classes = np.arange(32) % 4
    memory = memory | {"queue_class": jnp.asarray(classes, jnp.int32)}
    batch = dict(tiny.batches(1, SPEC)[0], label=np.array([0, 1, 2, 3, 3, 2, 1, -1], np.int32))
    asked, _, given, _ = jax.jit(lambda p, m, b: method.exchange(p, m, b, KEY, True, (0,), (1,)))(params, memory, batch)
    scores = np.concatenate([(asked[:, 0] * given[:, 0]).sum(1, keepdims=True), asked[:, 0] @ memory[queue_lib.QUEUE].T], axis=1) / 0.2
    positive = np.concatenate([np.ones((8, 1), bool), batch["label"][:, None] == classes], axis=1)
    log_share = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    expected = -np.mean(np.where(positive, log_share, 0).sum(1) / positive.sum(1))
    value, after, _, _ = loss("uber_nce", params, memory, batch)
    assert value == pytest.approx(expected, rel=1e-4)
    np.testing.assert_array_equal(after["queue_class"][:8], batch["label"])


def test_a_predictor_reads_the_heads_vectors_as_they_are():
    """And what is compared is of unit length."""
    method, (params, memory) = METHODS["byol"], started("byol")

    def both(params, memory, batch):
        asked, said, given, _ = method.exchange(params, memory, batch, KEY, True, (0,), (1,))
        drawn = keys_lib.example_keys(KEY, batch, keys_lib.DROPOUT)
        raw, _ = method.vectors(params, memory, method.see(batch, KEY)[:1], drawn, True)
        return (
            asked,
            said,
            given,
            raw,
            projection.apply(method.predictor, params["predictor"], memory["predictor_stats"], raw[:, 0], True)[0],
        )

    asked, said, given, raw, wanted = jax.jit(both)(params, memory, tiny.batches(1, SPEC)[0])
    lengths = np.linalg.norm(raw, axis=-1)
    assert lengths.min() < 0.9 * lengths.max()
    np.testing.assert_allclose(asked, raw / lengths[..., None], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(said[:, 0], wanted, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(given, axis=-1), 1, rtol=1e-5)


def test_byol_is_symmetric_and_its_own_view_is_a_target_only_if_asked():
    method, (params, memory) = METHODS["byol_own"], started("byol_own")
    batch = tiny.batches(1, SPEC)[0]
    _, said, given, _ = jax.jit(lambda p, m, b: method.exchange(p, m, b, KEY, True, (0, 1, 2), (0, 1, 2)))(params, memory, batch)
    cosine = np.einsum("bvd,bwd->vw", said, given) / 8
    assert loss("byol_own", params, memory)[0] == pytest.approx(np.mean(2 - 2 * cosine), rel=1e-4)


def test_the_center_follows_the_teachers_scores():
    params, memory = started("dino")
    once = loss("dino", params, memory)[1]
    expected = once[CENTER] / 0.1  # from 0
    again = loss("dino", params, once)[1]
    np.testing.assert_allclose(again[CENTER], 0.9 * once[CENTER] + 0.1 * expected, rtol=1e-4, atol=1e-6)
    assert np.abs(expected).max() > 1e-3


def test_prototypes_stand_still_at_first():
    frozen = dataclasses.replace(METHODS["dino"], frozen=2)
    states, _, _ = tiny.advance(tiny.plan(frozen, tiny.batches(3, SPEC)))
    kernels = [state.params["prototypes"]["kernel"] for state in states]
    np.testing.assert_array_equal(kernels[0], kernels[2])
    assert np.abs(kernels[3] - kernels[2]).max() > 0


def test_the_teachers_head_and_prototypes_go_with_it():
    """Exported beside the average, those of the network that trains would belong to another encoder."""
    method, (params, memory) = METHODS["dino"], started("dino")
    moved = jax.tree.map(lambda x: x + 1, params)
    exported = method.exported(moved, memory)
    tiny.assert_same_bits(
        {part: exported[part] for part in ("head", "prototypes")}, {part: memory[EMA][part] for part in ("head", "prototypes")}
    )
    assert exported.keys() == params.keys()


def test_a_small_view_goes_through_the_network_at_its_own_size():
    method, (params, memory) = METHODS["dino"], started("dino")
    seen = jax.eval_shape(method.see, tiny.batches(1, SPEC)[0], KEY)
    assert [x.shape for x in seen] == [(8, 4, 16, 16, 3)] * 2 + [(8, 2, 8, 8, 3)] * 2
    z, _ = jax.eval_shape(lambda p, m, b: method.look(p, m, b, KEY, True), params, memory, tiny.batches(1, SPEC)[0])
    assert z.shape == (8, 4, 6)


def test_tclr_costs_what_the_authors_code_does_at_its_batch():
    """On vectors of zeros, of a batch of 40 and 4 parts: 4.369 + 61.17 + 77.84 + 22.18."""
    paper = TCLR(parts=4, weights=(1.0, 14.0, 40.0, 16.0), **fields([SPARSE] * 10) | {"encoder": Times(), "frames": 4})
    batch = {batch_lib.WEIGHT: jnp.ones(40)}

    class Zeros(TCLR):
        def times(self, params, memory, batch, rng, train):
            return jnp.zeros((40, 2, 5, 6)), jnp.zeros((40, 4, 2, 6)), {}

    zeros = Zeros(**{f.name: getattr(paper, f.name) for f in dataclasses.fields(paper)})
    loss, metrics, _ = jax.jit(lambda: zeros.compare({}, {}, batch, KEY, True))()
    assert float(loss) == pytest.approx(165.56, abs=0.01)
    terms = [float(metrics[f"{term}/loss"]) for term in TERMS]
    np.testing.assert_allclose(terms, [np.log(79), np.log(79), np.log(7), np.log(4)], rtol=1e-6)


def test_tclrs_slots_meet_the_dense_clips_of_their_time():
    """A video whose colors are its times': each slot of the sparse clip is nearest to the dense clip that begins there."""
    method = METHODS["tclr"]
    whole, early, late = np.eye(3, dtype=np.float32)

    class Given(TCLR):
        def times(self, params, memory, batch, rng, train):
            return batch["sparse"], batch["dense"], {}

    given = Given(**{f.name: getattr(method, f.name) for f in dataclasses.fields(method)})
    compare = jax.jit(lambda z: given.compare({}, {}, z | {batch_lib.WEIGHT: jnp.ones(1)}, KEY, True)[1])

    def terms(sparse, dense):
        """Of the slots [2, 2] of the sparse clip's versions, and of the dense clips [part, version]."""
        slots = [[whole, *version] for version in sparse]
        return compare({"sparse": np.array([slots]), "dense": np.array([dense])})

    right, wrong = [early, late], [late, early]
    found = [terms([right, right], [[early] * 2, [late] * 2]), terms([right, right], [[late] * 2, [early] * 2])]
    assert [float(m["global_local/accuracy"]) for m in found] == [1, 0]
    assert float(found[0]["global_local/loss"]) == pytest.approx(np.log(1 + np.exp(-10)), rel=1e-3)
    assert [float(m["local_local/accuracy"]) for m in found] == [1, 1]
    # Each version of one is held against both of the other: half of these are right.
    assert float(terms([right, wrong], [right, wrong])["global_local/accuracy"]) == 0.5


def test_tclrs_head_sees_only_what_is_compared(monkeypatch):
    """Its batch statistics are of the sparse clips and their parts, and of the dense clips as a whole."""
    method, rows, apply = METHODS["tclr"], [], projection.apply
    monkeypatch.setattr(projection, "apply", lambda module, p, s, x, train: rows.append(len(x)) or apply(module, p, s, x, train))
    params, memory = started("tclr")
    jax.eval_shape(lambda: method.loss(params, memory, tiny.batches(1, SPEC)[0], KEY, method.turns[0]))
    assert rows == [8 * (2 * 3 + 2 * 2)]


# Views.


@dataclasses.dataclass(frozen=True)
class Inverted:
    """What is black is white."""

    def __call__(self, key, rgb):
        return 1 - rgb


def test_a_view_is_of_its_frames():
    numbers = np.arange(6, dtype=np.uint8).reshape(1, 1, -1, 1, 1, 1) + np.array([0, 100], np.uint8).reshape(1, 2, 1, 1, 1, 1)
    batch = dict(tiny.batches(1, SPEC)[0])
    batch["video"] = np.broadcast_to(numbers, batch["video"].shape)
    plain = dataclasses.replace(VIEW, color=(), mean=(0.0,) * 3, std=(1.0,) * 3)
    keys = jax.random.split(KEY, 8)
    pixels = functools.cache(lambda view: jax.jit(lambda keys: view(keys, batch)[:, :, 0, 0, 0] * 255))
    of = lambda view: np.rint(np.asarray(pixels(view)(keys))).astype(int)  # noqa: E731
    np.testing.assert_array_equal(of(ClipView(plain, 3, clip=1, stride=2, first=1)), [[101, 103, 105]] * 8)
    np.testing.assert_array_equal(of(ClipView(plain, 6)), [list(range(6))] * 8)
    starts = np.concatenate(
        [of(ClipView(plain, 3, first=-1))[:, 0] for keys in map(lambda i: jax.random.split(jax.random.key(i), 8), range(8))]
    )
    assert set(starts) == {0, 1, 2, 3}


def test_two_views_are_of_one_clip_or_of_two_and_have_colors_as_drawn():
    """Clips of one gray each: what is of which clip, and what is inverted, can be read from every pixel."""
    batch = dict(tiny.batches(1, dataclasses.replace(SPEC, batch_size=2000, frames=2, height=2, width=2))[0])
    batch["video"] = np.broadcast_to(np.array([51, 102], np.uint8).reshape(1, 2, 1, 1, 1, 1), batch["video"].shape)
    view = RandomView(size=2, crop=WholePicture(), color=(Inverted(),), mean=(0.0,) * 3, std=(1.0,) * 3)
    given = {"views": (ClipView(view, 2), ClipView(view, 2, clip=1)), "encoder": Means()}
    see = lambda pairing: jax.jit(SimCLR(**fields() | given, pairing=pairing).see)(batch, KEY)  # noqa: E731
    told = {0.2: (0, False), 0.8: (0, True), 0.4: (1, False), 0.6: (1, True)}
    read = lambda pairing: [tuple(told[round(float(x), 1)] for x in row) for row in np.stack(see(pairing), 1)[..., 0, 0, 0, 0]]  # noqa: E731
    one = read(Pairing(one_clip=1.0, colored=0.0))
    assert set(one) == {((clip, side == 0), (clip, side == 1)) for clip in (0, 1) for side in (0, 1)}
    counts = [one.count(kind) for kind in set(one)]
    assert min(counts) > 420 and max(counts) < 580  # of 2000 / 4, four sigma
    two = read(Pairing(one_clip=0.0, colored=0.3))
    assert {(a[0], b[0]) for a, b in two} == {(0, 1)}
    assert [np.mean([row[v][1] for row in two]) for v in (0, 1)] == pytest.approx([0.3] * 2, abs=0.04)
    assert np.mean([a[1] and b[1] for a, b in two]) == pytest.approx(0.09, abs=0.03)
    both = read(Pairing(one_clip=0.5, colored=0.3))
    assert np.mean([a[0] == b[0] for a, b in both]) == pytest.approx(0.5, abs=0.045)
    assert read(None) == [((0, True), (1, True))] * 2000


@pytest.mark.parametrize(
    ("view", "message"),
    [
        (ClipView(VIEW, 4, clip=2), "raise data.sampler.clips"),
        (ClipView(VIEW, 4, stride=2), "raise data.sampler.frames"),
        (ClipView(VIEW, 4, first=3), "frames"),
    ],
)
def test_a_view_that_the_data_do_not_have_is_refused(view, message):
    with pytest.raises(UserError, match=message):
        jax.eval_shape(view, jax.random.split(KEY, 8), tiny.batches(1, SPEC)[0])


# More than fits at once.


@pytest.mark.parametrize("name", [n if n == "simclr" else pytest.param(n, marks=pytest.mark.slow) for n in METHODS])
def test_chunks_change_no_gradient(name):
    """A network without batch normalization, whose gradient is that of the whole batch to 1e-5."""
    plain = {"head": dataclasses.replace(METHODS[name].head, norm=False, norm_last=False)}
    if getattr(METHODS[name], "predictor", None):
        plain["predictor"] = dataclasses.replace(METHODS[name].predictor, norm=False, norm_last=False)
    whole = (
        dataclasses.replace(METHODS[name], temperature=1.0, **plain) if name == "simclr" else dataclasses.replace(METHODS[name], **plain)
    )
    pieces = dataclasses.replace(whole, chunk=4)
    params, memory = jax.jit(lambda key: whole.init(key, None))(KEY)
    batch = tiny.batches(1, SPEC)[0]
    both = [jax.value_and_grad(lambda p, m=m: m.loss(p, memory, batch, KEY, m.turns[0])[0]) for m in (whole, pieces)]
    (one, grads), (two, same) = jax.jit(lambda p: [run(p) for run in both])(params)
    assert one == pytest.approx(float(two), rel=1e-6)
    assert max(float(jnp.max(jnp.abs(g))) for g in jax.tree.leaves(grads)) > 1e-3
    assert tiny.largest_difference(grads, same) <= 1e-5 * max(1, optax.tree.norm(grads))


def test_a_chunk_that_does_not_divide_the_clips_is_refused():
    method, (params, memory) = dataclasses.replace(METHODS["simclr"], chunk=5), started("simclr")
    with pytest.raises(UserError, match="chunk is 5, which does not divide the 16 clips"):
        jax.eval_shape(lambda p, m, b: method.loss(p, m, b, KEY, method.turns[0]), params, memory, tiny.batches(1, SPEC)[0])


# Settings.


def test_views_of_a_recipe_that_make_no_sense_are_refused():
    encoder = CNN(width=4, frames=4, size=16)
    for entry, message in (
        ({"flip": 0.5}, "needs a crop"),
        ({"crop": {"name": "whole"}, "flp": 0.5}, "flip"),
        ({"crop": {"name": "whole"}, "order": "mean"}, "unknown field of view 'order'"),
        ({"crop": {"name": "whole"}, "flow": {}}, "unknown field of view 'flow'"),
    ):
        with pytest.raises(UserError, match=message):
            build_views([entry], encoder)
    with pytest.raises(UserError, match=r"objective\.views is empty"):
        build_views([], encoder)
    (view, same) = build_views([{"crop": {"name": "whole"}, "clip": 1, "size": 8, "repeat": 2}], encoder)
    assert view == same and (view.clip, view.frames, view.view.size) == (1, 4, 8)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SimCLR(**fields((FIRST,))), "SimCLR needs 2 or more"),
        (lambda: SimCLR(temperature=0.0, **fields()), r"objective\.temperature is 0.0: it must be above 0"),
        (lambda: MoCo(size=-1, **averaged()), r"objective\.queue is -1: it must be 0 or more"),
        (lambda: DINO(prototypes=8, large=3, **averaged()), r"objective\.large is 3: it must be from 1 to 2"),
        (lambda: SwAV(prototypes=1, **fields()), r"objective\.prototypes is 1: it must be 2 or more"),
        (lambda: UberNCE(size=0, **averaged()), r"objective\.queue is 0: it must be 1 or more"),
        (lambda: UberNCE(**averaged((FIRST,) * 3)), r"UberNCE compares two views, objective\.views has 3"),
        (lambda: DINO(prototypes=8, **foretelling()), "foretells nothing"),
        (lambda: BYOL(**foretelling() | {"predictor": MLP((8,), 5)}), r"predictor.dim is 5 and objective.head.dim 6"),
        (lambda: BYOL(**averaged(predictor=MLP((8,), 6))), "unit_length is true: a predictor reads"),
        (lambda: BYOL(**averaged() | {"head": MLP((8,), 6, unit_length=False)}), "no predictor reads its vectors"),
        (lambda: BYOL(**foretelling() | {"predictor": MLP((8,), 6, unit_length=False)}), "predictor.unit_length is false"),
        (lambda: Average(1.2), r"objective\.average\.decay is 1.2: it must be from 0 to 1"),
        (lambda: Average(0.9, final=1.0), r"train\.steps is 0: it must be 1 or more"),
        (lambda: MLP((0,), 6), "1 or more"),
        (lambda: ClipView(VIEW, 0), r"objective\.views\.frames is 0: it must be 1 or more"),
        (lambda: ClipView(VIEW, 1, first=-2), r"objective\.views\.first is -2: it must be 0 or more, or -1 for a random start"),
        (lambda: Pairing(colored=1.5), r"objective\.pairing\.colored is 1.5: it must be from 0 to 1"),
        (lambda: recipe.build_pairing({"colour": 0.3}), "unknown field of objective.pairing 'colour': did you mean 'colored'"),
        (lambda: SwAV(prototypes=8, pairing=Pairing(), **fields((FIRST, SECOND, SMALL))), "pairing is of two views, objective.views has 3"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_a_run_that_goes_on_with_larger_batches_renews_the_whole_queue():
    """Its pointer stands where no batch of that size begins."""
    memory = queue_lib.push(queue_lib.start(KEY, 32, 6), jnp.ones((4, 6)))
    for i in range(4):
        memory = queue_lib.push(memory, jnp.full((8, 6), 2.0 + i))
        assert memory[queue_lib.FILLED] == 8 * (i + 1)
    np.testing.assert_array_equal(np.unique(memory[queue_lib.QUEUE]), [2, 3, 4, 5])


def test_a_batch_that_does_not_divide_the_queue_is_refused():
    params, memory = started("moco")
    odd = dataclasses.replace(METHODS["moco"], size=20)
    memory = memory | queue_lib.start(KEY, 20, 6)
    with pytest.raises(UserError, match="queue is 20, which the 8 clips"):
        jax.eval_shape(lambda p, m, b: odd.loss(p, m, b, KEY, odd.turns[0]), params, memory, tiny.batches(1, SPEC)[0])


def test_decays_go_along_half_a_cosine():
    average = Average(0.996, final=1.0, steps=100)
    np.testing.assert_allclose([average.at(s) for s in (0, 50, 100, 200)], [0.996, 0.998, 1.0, 1.0], atol=1e-6)
    assert Average(0.99).at(1_000_000) == np.float32(0.99)
