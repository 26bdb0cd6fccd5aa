"""Puzzles: put back by the label's permutation, the pieces are the clip's own, bit for bit."""

import dataclasses

import jax
import numpy as np
import pytest

from tests.objectives.questions import SPEC, TASKS, ask, started
from tests.train import tiny
from vssl_jax.errors import UserError
from vssl_jax.objectives.jigsaw import SET
from vssl_jax.perturb import jigsaw as jigsaw_lib
from vssl_jax.perturb import pieces as pieces_lib

JIGSAW, CUBIC = TASKS["jigsaw"], TASKS["cubic_puzzle"]


def uint8(pieces):
    return np.rint(pieces * 255).astype(np.uint8)


def test_jigsaw_put_together_is_the_clip():
    """Tiles as large as their cells have one place each."""
    task = dataclasses.replace(JIGSAW, tile=8)
    batch = tiny.batches(1, SPEC)[0]
    asked = ask(task, batch)
    orders = jigsaw_lib.far_apart(2, 4, 50)
    for clip, pieces, (label,) in zip(
        batch["video"].reshape(16, *batch["video"].shape[2:]), uint8(asked.pieces_QxPxTxHxWx3), asked.label_QxA, strict=True
    ):
        back = pieces[np.argsort(orders[label])].reshape(2, 2, 2, 4, 8, 8, 3)  # segment, row, column, T, h, w
        pictures = back.transpose(0, 3, 1, 4, 2, 5, 6).reshape(2, 4, 16, 16, 3)
        start = next(s for s in range(6) if np.array_equal(clip[s : s + 4], pictures[0]))
        np.testing.assert_array_equal(pictures[1], clip[start + 7 : start + 11])  # 4 frames and a gap of 3 later


def test_tiles_lie_at_drawn_places_inside_their_cells():
    clip = np.arange(16 * 16, dtype=np.float32).reshape(1, 16, 16, 1)
    seen = set()
    for seed in range(50):
        tiles = np.asarray(jigsaw_lib.tiles(jax.random.key(seed), clip, 2, 6))
        rows, columns = np.divmod(tiles[:, 0, 0, 0, 0].astype(int), 16)
        np.testing.assert_array_equal(tiles[3, 0, :, :, 0], clip[0, rows[3] : rows[3] + 6, columns[3] : columns[3] + 6, 0])
        seen |= {(int(r), int(c)) for r, c in zip(rows - [0, 0, 8, 8], columns - [0, 8, 0, 8], strict=True)}
    assert seen == {(r, c) for r in range(3) for c in range(3)}
    with pytest.raises(UserError, match="do not fit"):
        jigsaw_lib.tiles(jax.random.key(0), clip, 2, 9)


def test_the_set_is_in_the_memory_with_its_hash_and_is_what_is_asked():
    memory = started(JIGSAW)[1]
    orders = np.asarray(memory[SET]["orders"])
    np.testing.assert_array_equal(memory[SET]["sha256"], jigsaw_lib.digest(orders))
    batch = tiny.batches(1, SPEC)[0]
    key = jax.random.key(0)
    asked = jax.jit(lambda orders: JIGSAW.ask(memory | {SET: memory[SET] | {"orders": orders}}, batch, key))
    usual, other = jax.device_get((asked(orders), asked(orders[::-1])))
    np.testing.assert_array_equal(usual.label_QxA, other.label_QxA)
    assert (usual.pieces_QxPxTxHxWx3 != other.pieces_QxPxTxHxWx3).any()


def test_a_restored_set_has_to_have_its_hash():
    memory = started(JIGSAW)[1]
    JIGSAW.check_restored(memory)
    with pytest.raises(UserError, match="permutations do not have the hash"):
        JIGSAW.check_restored(memory | {SET: memory[SET] | {"orders": memory[SET]["orders"][::-1]}})


def test_the_report_counts_by_the_set_that_was_asked_with():
    params, memory = started(JIGSAW)
    orders = memory[SET]["orders"][::-1]
    shown = jax.jit(JIGSAW.pictures)(params, memory | {SET: memory[SET] | {"orders": orders}}, tiny.batches(1, SPEC)[0], jax.random.key(0))
    for label, (said, same) in zip(np.asarray(shown["label"]), np.asarray(shown["prediction"]), strict=True):
        assert same == int(np.sum(orders[label[0]] == orders[said]))
        assert JIGSAW.caption(tuple(label), (said, same)).endswith(f"which has {same} of 8 tiles in the same place")


def test_pieces_normalized_by_themselves_have_mean_0_and_deviation_1():
    asked = ask(dataclasses.replace(JIGSAW, normalize=True))
    np.testing.assert_allclose(asked.pieces_QxPxTxHxWx3.mean(axis=(2, 3, 4)), 0, atol=1e-5)
    np.testing.assert_allclose(asked.pieces_QxPxTxHxWx3.std(axis=(2, 3, 4)), 1, atol=1e-3)


def test_a_cubic_puzzle_is_of_one_time_or_of_one_cell_and_upright_again_in_order():
    task = dataclasses.replace(CUBIC, tile=8)
    batch = tiny.batches(1, SPEC)[0]
    kinds = set()
    for seed in range(4):
        asked = ask(task, batch, seed)
        clips = batch["video"].reshape(16, 4, 4, 2, 8, 2, 8, 3).transpose(0, 1, 3, 5, 2, 4, 6, 7)  # clip, time, row, column, T, h, w, C
        for clip, pieces, (label, turned) in zip(clips, uint8(asked.pieces_QxPxTxHxWx3), asked.label_QxA, strict=True):
            upright = pieces[:, :, ::-1, ::-1] if turned else pieces
            back = upright[np.argsort(pieces_lib.permutations(4)[label])]
            times = [t for t in range(4) if np.array_equal(back, clip[t].reshape(4, 4, 8, 8, 3))]
            cells = [(r, c) for r in range(2) for c in range(2) if np.array_equal(back, clip[:, r, c])]
            assert len(times) + len(cells) == 1
            kinds.add(bool(times))
    assert kinds == {True, False}


def test_a_cubic_puzzle_of_a_short_clip_is_refused():
    with pytest.raises(UserError, match="needs 16, the clips have 15"):
        ask(CUBIC, tiny.batches(1, dataclasses.replace(SPEC, frames=15))[0])


def test_a_jigsaw_of_one_piece_is_refused():
    with pytest.raises(UserError, match="nothing to put in order"):
        dataclasses.replace(JIGSAW, segments=1, grid=1)
