"""Being told to stop: finish the step, save, exit with 42.

One process listens to SIGTERM and SIGINT itself, because JAX's preemption service exists only under jax.distributed. With several
processes that service makes them agree on the step at which all save. A second signal ends the process at once.
"""

import os
import signal
import threading
from types import FrameType

import jax
from jax.experimental import multihost_utils

EXIT_CODE = 42


class Preempted(Exception):
    """The run was told to stop and has saved its state."""


class Listener:
    """`with Listener() as listener: ... if listener.asked(step): save and leave`.

    `together`: whether all processes run this (None: where there are several); what one of them does alone, it also stops alone.
    """

    def __init__(self, together: bool | None = None):
        self._together = jax.process_count() > 1 if together is None else together
        self._asked = threading.Event()
        self._old: dict[int, object] = {}

    def __enter__(self) -> "Listener":
        if not self._together and threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._old[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exc) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._asked.is_set():
            os._exit(128 + number)
        self._asked.set()

    @property
    def heard(self) -> bool:
        """Whether this process was told to stop since: of a run that it is alone in."""
        return self._asked.is_set()

    def asked(self, step: int) -> bool:
        """True once a stop was asked for. With several processes every process calls this at every step, and all get the same answer."""
        if self._together:
            return multihost_utils.reached_preemption_sync_point(step)
        return self._asked.is_set()
