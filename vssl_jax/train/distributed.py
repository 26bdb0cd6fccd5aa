"""Joining the other processes of a run, before any JAX backend is used, and leaving them together."""

import logging
import os
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils

from vssl_jax.errors import UserError, unknown_name
from vssl_jax.train import checkpoint, lost
from vssl_jax.train.preemption import Preempted

log = logging.getLogger(__name__)
TIMEOUT_SECONDS = 300
WAIT_SECONDS = 30 * 24 * 3600  # for process 0 to evaluate; one that has died is noticed by its heartbeat long before
SEEN_SECONDS = 60  # for a network disk to show what another host has written
MODES = ("auto", "on", "off")


def _cluster_found() -> bool:
    """More than one process by the environment: our own variables, Slurm, Open MPI, or a Cloud TPU slice of several hosts.

    A single host is left alone: initializing there can hang on half-set markers. So is a command in a Slurm script without srun: it is one process, however
    many tasks the job may have.
    """
    names = ["JAX_NUM_PROCESSES", "OMPI_COMM_WORLD_SIZE"] + ["SLURM_NTASKS"] * ("SLURM_STEP_NODELIST" in os.environ)
    counts = [os.environ.get(name, "1") for name in names]
    hosts = os.environ.get("TPU_WORKER_HOSTNAMES", "")
    return any(count.isdigit() and int(count) > 1 for count in counts) or "," in hosts or "MEGASCALE_COORDINATOR_ADDRESS" in os.environ


def _by_hand() -> dict[str, str | int]:
    """The arguments of jax.distributed.initialize from our variables; {} where they are not set. The address alone is JAX's business: it
    finds the rest on some clusters.
    """
    names = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
    given = [name for name in names[1:] if name in os.environ]
    if not given:
        return {}
    if missing := [name for name in names if name not in os.environ]:
        raise UserError(f"{given[0]} is set but {' and '.join(missing)} is not: set all three, in every process")
    address, count, place = (os.environ[name] for name in names)
    if not (count.isdigit() and place.isdigit() and int(place) < int(count)):
        raise UserError(f"JAX_PROCESS_ID={place} of JAX_NUM_PROCESSES={count}: give a number from 0 to JAX_NUM_PROCESSES - 1")
    return {"coordinator_address": address, "num_processes": int(count), "process_id": int(place)}


def initialize(mode: str = "auto") -> None:
    """Joins the run. 'auto' does so where the environment shows several processes, 'on' always, 'off' never.

    By hand: set JAX_COORDINATOR_ADDRESS=host:port, JAX_NUM_PROCESSES and JAX_PROCESS_ID in every process.
    """
    if mode not in MODES:
        raise unknown_name("distributed mode", mode, MODES)
    if mode == "off" or (mode == "auto" and not _cluster_found()):
        return
    by_hand = _by_hand()
    if by_hand:
        log.warning(
            "process %s of %s: waiting up to %d s for the others at %s",
            by_hand["process_id"], by_hand["num_processes"], TIMEOUT_SECONDS, by_hand["coordinator_address"],
        )  # fmt: skip
    try:
        jax.distributed.initialize(initialization_timeout=TIMEOUT_SECONDS, heartbeat_timeout_seconds=lost.HEARTBEAT_SECONDS, **by_hand)
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"could not join the other processes: {str(error).partition(chr(10))[0]}; start the same command on every host"
        ) from error
    log.warning("process %d of %d, %d devices in all", jax.process_index(), jax.process_count(), jax.device_count())


def check_shared(folder: Path) -> None:
    """Raises UserError, in every process, where `folder` is not one that all of them see: each writes its part of every checkpoint there, and none of them
    would be whole.
    """
    if jax.process_count() == 1:
        return
    mark = folder / f".seen-by-all-{int(multihost_utils.broadcast_one_to_all(np.uint32(secrets.randbits(32)))):08x}"
    if jax.process_index() == 0:
        mark.touch()
    multihost_utils.sync_global_devices("the mark is made")
    until = time.monotonic() + SEEN_SECONDS
    while not (seen := mark.exists()) and time.monotonic() < until:
        time.sleep(0.5)
    answers = multihost_utils.process_allgather(np.int32(seen))
    if jax.process_index() == 0:
        mark.unlink()
    if not answers.all():
        raise UserError(
            f"--workdir={folder} is on a disk of its own in {np.sum(answers == 0)} of {len(answers)} processes: give a folder that all hosts share, "
            "on a network disk or a mounted bucket"
        )


def on_first(work: Callable[[], None]) -> None:
    """Runs `work` in process 0, for as long as it takes, while the others wait for it here.

    They may not leave before: the shutdown of jax.distributed ends all processes where one is five minutes later than another, whatever
    `shutdown_timeout_seconds` says (jax 0.10.2 and 0.12.0). An error of the work is not waited for: it ends all processes.
    """
    if jax.process_count() == 1:
        work()
    elif jax.process_index() == 0:
        try:
            work()
        except Preempted:
            _wait()
            raise
        _wait()
    else:
        _wait()


def _wait() -> None:
    """In a thread, since signals are handled in the main one, and only while it runs Python."""
    failed: list[Exception] = []

    def meet() -> None:
        try:
            checkpoint.meet("what process 0 does alone", WAIT_SECONDS)
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=meet, name="wait", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.2)
    if failed:
        raise UserError(f"waited in vain for the other processes: {str(failed[0]).partition(chr(10))[0]}") from failed[0]
