"""Checkpoints: what is saved is what was, what is damaged is stepped over loudly, what is foreign is refused; exports likewise."""

import logging
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.compiling import programs
from tests.train import tiny
from vssl_jax.errors import UserError
from vssl_jax.train import checkpoint, sharding
from vssl_jax.train import state as state_lib
from vssl_jax.train.checkpoint import Checkpointer, load_export, load_into, save_export
from vssl_jax.train.loop import compile_plan

ADAM = {"main": tiny.optimizer(learning_rate=0.1)}


@pytest.fixture(scope="module")
def program():
    """(plan, program, a state whose leaves are all different)."""
    plan = tiny.plan(tiny.Regression(), tiny.rows(1), optimizers=ADAM)
    return plan, compile_plan(plan), state_at(plan, 3)


def state_at(plan, seed):
    return state_lib.init(plan.objective, plan.optimizers, seed, plan.batch_shapes).replace(step=jnp.int32(seed))


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "checkpoints"


@pytest.fixture
def saved(program, folder):
    """Steps 1, 2 and 3, each with a state of its own."""
    checkpointer = Checkpointer(folder, every=1, keep=3)
    for step in (1, 2, 3):
        checkpointer.save(step, state_at(program[0], step))
    checkpointer.close()
    return folder


def tree_of(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def damage(checkpoint, kind):
    if kind == "truncated arrays":
        for path in (p for p in checkpoint.rglob("*") if p.is_file() and "/d/" in str(p)):
            with open(path, "r+b") as file:
                file.truncate(path.stat().st_size // 2)
    elif kind == "no arrays":
        shutil.rmtree(next(checkpoint.glob("state/ocdbt.process_0")))
        shutil.rmtree(checkpoint / "state" / "d")
    elif kind == "broken metadata":
        (checkpoint / "state" / "_METADATA").write_text("{")
    elif kind == "no item":
        shutil.rmtree(checkpoint / "state")


def restore(folder, program, **options):
    checkpointer = Checkpointer(folder, **({"every": 1, "keep": 3} | options))
    try:
        return checkpointer.restore_latest(program[1].state_shapes)
    finally:
        checkpointer.close()


def test_nothing_saved_is_nothing_restored(program, folder):
    assert restore(folder, program) is None


def test_every_leaf_comes_back_bit_for_bit_the_typed_key_too(program, saved):
    state, step = restore(saved, program)
    assert step == 3
    tiny.assert_same_bits(state, state_at(program[0], 3))
    assert jax.dtypes.issubdtype(state.rng.dtype, jax.dtypes.prng_key)
    tiny.assert_same_bits(jax.random.normal(state.rng, (2,)), jax.random.normal(jax.random.key(3), (2,)))
    assert all(x.sharding == s.sharding for x, s in zip(jax.tree.leaves(state), jax.tree.leaves(program[1].state_shapes), strict=True))


def test_an_asynchronous_save_is_of_the_state_before_a_donating_step(program, folder):
    plan, compiled, _ = program
    state = tiny.fresh(plan)
    before = tiny.host(state)
    checkpointer = Checkpointer(folder, every=1, keep=1)
    checkpointer.save(1, state)
    compiled.steps["main"](state, sharding.global_batch(tiny.rows(1)[0], plan.mesh))
    checkpointer.close()
    tiny.assert_same_bits(restore(folder, program)[0], before)


def test_a_step_is_saved_once_and_the_newest_are_kept(program, folder):
    plan, _, _ = program
    checkpointer = Checkpointer(folder, every=2, keep=2)
    assert [step for step in range(1, 7) if checkpointer.due(step)] == [2, 4, 6]
    for step in (2, 4, 6):
        checkpointer.save(step, state_at(plan, step))
    checkpointer.wait()
    checkpointer.save(6, state_at(plan, 99))
    checkpointer.wait()
    assert checkpointer.steps() == [4, 6]
    checkpointer.close()
    tiny.assert_same_bits(restore(folder, program)[0], state_at(plan, 6))
    assert not Checkpointer(folder, every=0, keep=2).due(10)


@pytest.mark.parametrize("kind", ["truncated arrays", "no arrays", "broken metadata", "no item"])
def test_a_damaged_newest_is_set_aside_and_the_one_before_is_used_loudly(program, saved, caplog, kind):
    damage(saved / "3", kind)
    with caplog.at_level(logging.ERROR, "vssl_jax"):
        state, step = restore(saved, program)
    assert step == 2
    tiny.assert_same_bits(state, state_at(program[0], 2))
    assert f"CHECKPOINT {saved / '3'} IS DAMAGED" in caplog.text and "going on from step 2" in caplog.text
    assert (saved / "damaged-3").is_dir() and not (saved / "3").exists()


def test_two_damaged_are_both_stepped_over_and_the_steps_can_be_saved_again(program, saved):
    damage(saved / "3", "truncated arrays")
    damage(saved / "2", "broken metadata")
    checkpointer = Checkpointer(saved, every=1, keep=3)
    _, step = checkpointer.restore_latest(program[1].state_shapes)
    assert step == 1 and checkpointer.steps() == [1]
    checkpointer.save(2, state_at(program[0], 22))
    checkpointer.close()
    state, step = restore(saved, program)
    assert step == 2
    tiny.assert_same_bits(state, state_at(program[0], 22))


def test_all_damaged_is_an_error_that_changes_nothing_and_comes_again(program, saved):
    for step in (1, 2, 3):
        damage(saved / str(step), "truncated arrays")
    before = tree_of(saved)
    for _ in range(2):  # a launcher tries again: it must not start from nothing
        with pytest.raises(UserError, match=r"none of the checkpoints in .* can be read"):
            restore(saved, program)
    assert tree_of(saved) == before


def test_a_checkpoint_of_another_model_is_refused_and_left_alone(program, saved):
    other = tiny.plan(tiny.Adversaries(), tiny.rows(1), optimizers={name: ADAM["main"] for name in ("gen", "disc")})
    before = tree_of(saved)
    with pytest.raises(UserError, match="another model") as caught:
        restore(saved, (other, compile_plan(other)))
    assert "\n" not in str(caught.value) and str(saved / "3") in str(caught.value)
    assert tree_of(saved) == before


def test_the_error_names_the_shape_that_differs(program, saved):
    shapes = program[1].state_shapes
    wider = shapes.replace(params={"model": {"kernel": jax.ShapeDtypeStruct((5,), jnp.float32, sharding=shapes.step.sharding)}})
    checkpointer = Checkpointer(saved, every=1, keep=3)
    with pytest.raises(UserError, match=r"params/model/kernel has shape \(3,\) there and \(5,\) here"):
        checkpointer.restore_latest(wider)
    checkpointer.close()


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (RuntimeError("RESOURCE_EXHAUSTED: out of memory"), RuntimeError),
        (MemoryError("too little"), MemoryError),
        (PermissionError(13, "Permission denied"), UserError),
    ],
)
def test_what_says_nothing_of_the_files_is_not_damage(program, saved, monkeypatch, error, raised):
    checkpointer, before = Checkpointer(saved, every=1, keep=3), tree_of(saved)

    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(checkpointer._reader, "restore", fail)
    with pytest.raises(raised, match=r"out of memory|too little|mend its permissions"):
        checkpointer.restore_latest(program[1].state_shapes)
    assert checkpointer.steps() == [1, 2, 3] and tree_of(saved) == before
    checkpointer.close()


def test_an_error_of_an_asynchronous_save_is_one_line(program, folder, monkeypatch):
    checkpointer = Checkpointer(folder, every=1, keep=3)
    checkpointer.save(1, program[2])
    checkpointer.wait()

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    attempts = {"save": lambda: checkpointer.save(2, program[2]), "wait": checkpointer.wait}
    for where, met in (("check_for_errors", ("wait",)), ("save", ("save",)), ("wait_until_finished", ("wait",))):
        with monkeypatch.context() as patch:
            patch.setattr(checkpointer._manager, where, full)
            for attempt in met:
                with pytest.raises(UserError, match="No space left on device") as caught:
                    attempts[attempt]()
                assert "\n" not in str(caught.value) and str(folder) in str(caught.value)
    checkpointer.close()


def test_a_lost_checkpoint_is_told_once_and_the_next_is_saved(program, folder, monkeypatch, caplog):
    """Not ended with: the state in hand is good. Of several processes one alone would save."""
    checkpointer, errors = Checkpointer(folder, every=1, keep=3), [OSError(28, "No space left on device")]

    def once():
        if errors:
            raise errors.pop()

    monkeypatch.setattr(checkpointer._manager, "check_for_errors", once)
    checkpointer.save(1, program[2])
    checkpointer.wait()
    assert "COULD NOT BE WRITTEN" in caplog.text and "No space left on device" in caplog.text and not checkpointer.lost_one()
    assert checkpointer.steps() == [1]
    monkeypatch.setattr(checkpoint.jax, "process_count", lambda: 2)
    errors.append(OSError(5, "Input/output error"))
    with pytest.raises(UserError, match="Input/output error"):
        checkpointer.lost_one()
    monkeypatch.undo()
    checkpointer.close()


def test_an_export_that_cannot_be_written_is_one_line(tmp_path, monkeypatch):
    class Full(checkpoint.ocp.AsyncCheckpointer):
        def save(self, *args, **kwargs):
            raise ValueError("RESOURCE_EXHAUSTED: Error writing: No space left on device\nmore")

    monkeypatch.setattr(checkpoint.ocp, "AsyncCheckpointer", Full)
    with pytest.raises(UserError, match=r"the export could not be written to .*No space left on device\): check its space") as caught:
        checkpoint.save_export(tmp_path / "export", {"encoder": {"w": np.ones(3)}}, {})
    assert "\n" not in str(caught.value) and not (tmp_path / "export").exists()


def test_a_state_spread_over_eight_devices_comes_back_on_one_and_the_other_way(program, folder, monkeypatch):
    monkeypatch.setattr(sharding, "FSDP_MIN_SIZE", 1)
    placed = {"w": np.arange(32, dtype=np.float32).reshape(8, 4)}
    shapes = jax.eval_shape(lambda: placed)

    def abstract(sizes, devices):
        mesh = sharding.make_mesh(sizes, devices)
        return jax.tree.map(lambda s, h: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=h), shapes, sharding.shardings(shapes, mesh))

    spread, single = abstract({"fsdp": 8}, jax.devices()), abstract({"data": 1}, jax.devices()[:1])
    checkpointer = Checkpointer(folder, every=1, keep=3)
    checkpointer.save(1, jax.tree.map(lambda x, s: jax.device_put(x, s.sharding), placed, spread))
    checkpointer.wait()
    one, _ = checkpointer.restore_latest(single)
    tiny.assert_same_bits(one, placed)
    checkpointer.save(2, one)
    checkpointer.wait()
    again, step = checkpointer.restore_latest(spread)
    checkpointer.close()
    assert step == 2 and len(again["w"].addressable_shards) == 8 and again["w"].addressable_shards[0].data.size == 4
    tiny.assert_same_bits(again, placed)


def test_what_all_devices_hold_is_saved_as_it_is(folder):
    """A small array is not cut into a share for each of them: that is a program for every shape."""
    mesh = sharding.make_mesh({"data": 8}, jax.devices())
    shapes = [(8 * n, 3) for n in range(1, 6)]
    state = [
        jax.device_put(np.full(shape, n, np.float32), sharding.shardings(jax.ShapeDtypeStruct(shape, np.float32), mesh))
        for n, shape in enumerate(shapes)
    ]
    checkpointer = Checkpointer(folder, every=1, keep=1)
    with programs() as compiled:
        checkpointer.save(1, state)
        checkpointer.wait()
    abstract = [jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding) for x in state]
    restored, _ = checkpointer.restore_latest(abstract)
    checkpointer.close()
    tiny.assert_same_bits(restored, state)
    assert not compiled


PARTS = {"encoder": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3)}, "method/decoder": {"bias": np.zeros(2, np.float32)}}


def test_an_export_comes_back_from_its_folder_and_from_the_workdir(tmp_path):
    save_export(tmp_path / "export", {"encoder": {"kernel": np.ones(1, np.float32)}}, {"step": 1})
    save_export(tmp_path / "export", PARTS, {"step": 7, "model": {"name": "cnn"}})  # replaces
    for path in (tmp_path, tmp_path / "export"):
        params, meta = load_export(path)
        tiny.assert_same_bits(params, PARTS)
        assert meta == {"step": 7, "model": {"name": "cnn"}}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["export"]


def test_an_export_takes_no_other_folders_place(tmp_path):
    """A finished run, named by mistake."""
    for path, message in (
        (tmp_path / "run", "holds checkpoints, eval.json, and an export would"),
        (tmp_path / "run" / "eval.json", "is a file"),
    ):
        (tmp_path / "run" / "checkpoints").mkdir(parents=True, exist_ok=True)
        (tmp_path / "run" / "eval.json").write_text("{}")
        with pytest.raises(UserError, match=message):
            save_export(path, PARTS, {"step": 1})
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["checkpoints", "eval.json"]


def test_what_is_left_of_an_export_is_replaced(tmp_path):
    """As of one that was being replaced when the power went."""
    (tmp_path / "export" / "params").mkdir(parents=True)
    save_export(tmp_path / "export", PARTS, {"step": 1})
    assert load_export(tmp_path)[1] == {"step": 1}


def test_a_missing_or_damaged_export_is_one_line(tmp_path):
    with pytest.raises(UserError, match="holds no export"):
        load_export(tmp_path)
    save_export(tmp_path / "export", PARTS, {"step": 1})
    for path in (p for p in (tmp_path / "export").rglob("*") if p.is_file() and "/d/" in str(p)):
        path.write_bytes(b"")
    with pytest.raises(UserError, match="cannot be read") as caught:
        load_export(tmp_path)
    assert "\n" not in str(caught.value)


def test_given_weights_replace_whole_parts_and_must_match():
    own = {"encoder": {"kernel": np.zeros((2, 3))}, "head": {"bias": np.zeros(2)}}
    out = load_into(own, {"encoder": PARTS["encoder"]}, "weights")
    assert out["encoder"] is PARTS["encoder"] and out["head"] is own["head"]
    with pytest.raises(UserError, match="has a part 'teacher'"):
        load_into(own, {"teacher": {}}, "weights")
    with pytest.raises(UserError, match=r"kernel has shape \(4,\) there and \(2, 3\) here"):
        load_into(own, {"encoder": {"kernel": np.zeros(4)}}, "weights")
    with pytest.raises(UserError, match="bias is only in the checkpoint"):
        load_into(own, {"encoder": {"kernel": np.zeros((2, 3)), "bias": np.zeros(1)}}, "weights")
