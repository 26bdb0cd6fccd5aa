"""What every task asks, relative speed as well, as a program that is compiled once."""

import functools

import jax

from tests.objectives.questions import RELATIVE_SPEED, TASKS, started

NAMES = (*sorted(TASKS), "relative_speed")


@functools.cache
def asker(name: str, pieces: bool = True):
    """(batch, key) -> (the pieces [Q,P,T,h,w,3], None where they are not asked for; the answers [Q,A]). Relative speed asks whether a query is the faster."""

    def relative_speed(batch, key):
        clips_3xN, which_N = RELATIVE_SPEED.clips(batch, key)
        return clips_3xN[0][:, None] if pieces else None, which_N[:, None]

    def of_pieces(batch, key):
        asked = TASKS[name].ask(memory, batch, key)
        return asked.pieces_QxPxTxHxWx3 if pieces else None, asked.label_QxA

    memory = None if name == "relative_speed" else started(TASKS[name])[1]
    return jax.jit(relative_speed if name == "relative_speed" else of_pieces)
