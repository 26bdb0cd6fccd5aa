"""What several hosts do together, each with one device: two processes that run one program."""

import os
import subprocess
import sys

import orbax.checkpoint as ocp
import pytest

from tests import fast_compilation
from tests.train.processes import ROOT, SECONDS, free_port
from vssl_jax.train.checkpoint import Checkpointer

PROGRAM = """
import sys
import jax

workdir, address, place = sys.argv[1], sys.argv[2], int(sys.argv[3])
jax.distributed.initialize(address, 2, place, coordinator_bind_address=address)

import dataclasses
from pathlib import Path

import orbax.checkpoint as ocp

from tests.data.array_source import ArraySource
from tests.train import tiny
from vssl_jax import jobs, pretrain
from vssl_jax.errors import UserError
from vssl_jax.train import distributed
from vssl_jax.data.broken import BrokenRecord
from vssl_jax.data.row import Input
from vssl_jax.data.sample import Dense
from vssl_jax.train.checkpoint import Checkpointer
from vssl_jax.train.loop import lower_plan
from vssl_jax.train.metrics import MetricsWriter

plan = tiny.plan(tiny.videomae(), tiny.batches(1), mesh={"data": 2})
program = lower_plan(plan)  # its shapes and fresh weights: no step is made
with jax.set_mesh(plan.mesh):
    state = program.fresh()
    spec = dataclasses.replace(tiny.SPEC, batch_size=4)
    input = Input(ArraySource(8), spec, Dense(4), BrokenRecord(1.0), shuffle=False)
    with MetricsWriter(Path(workdir), enabled=place == 0, tensorboard=False) as writer:
        jobs.pictures(plan.objective, input, Path(workdir), writer, 1).run(state, 1)

    pretrain._check_hosts(ArraySource(8))
    for other in (ArraySource(8 + place), ArraySource(8, classes=("a", "b", "cd"[place]))):
        try:
            pretrain._check_hosts(other)
        except UserError as error:
            print("refused", error, flush=True)

    distributed.check_shared(Path(workdir))
    (own := Path(workdir) / f"own-{place}").mkdir()
    distributed.SEEN_SECONDS = 1
    try:
        distributed.check_shared(own)
    except UserError as error:
        print("refused", error, flush=True)

    checkpointer = Checkpointer(Path(workdir) / "checkpoints", every=1, keep=5)
    for step in (1, 2):
        checkpointer.save(step, state)
        checkpointer.wait()
    if place == 1:
        read = ocp.StandardCheckpointHandler.restore

        def restore(self, directory, *args, **more):
            if "/checkpoints/2/" in f"{directory}/":
                raise OSError("I/O error")
            return read(self, directory, *args, **more)

        ocp.StandardCheckpointHandler.restore = restore
    restored, step = checkpointer.restore_latest(program.state_shapes)
    checkpointer.close()
print("restored", step, flush=True)
"""


@pytest.fixture(scope="module")
def hosts(tmp_path_factory):
    """(the workdir, what each process said)."""
    workdir, address = tmp_path_factory.mktemp("hosts"), f"127.0.0.1:{free_port()}"
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XLA_", "SLURM_"))}
    environment |= {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": fast_compilation.FLAGS, "PYTHONPATH": str(ROOT)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(workdir), address, str(place)],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for place in (0, 1)
    ]  # fmt: skip
    try:
        said = [process.communicate(timeout=SECONDS)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n---\n".join(said)
    return workdir, said


def test_what_one_host_cannot_read_none_goes_on_from(hosts):
    """The one before is used, by both: those that could read do not wait where the other does not come."""
    workdir, said = hosts
    assert all(output.splitlines()[-1] == "restored 1" for output in said), "\n---\n".join(said)
    assert (workdir / "checkpoints" / "damaged-2").is_dir()


def test_pictures_of_rows_that_other_hosts_hold_are_drawn(hosts):
    workdir, _ = hosts
    assert list((workdir / "report" / "pictures").glob("*.npz"))


def test_other_videos_on_other_hosts_are_refused(hosts):
    """A file that one of them lacks, or a class; in both processes."""
    for output in hosts[1]:
        refused = [line for line in output.splitlines() if line.startswith("refused the processes find")]
        assert len(refused) == 2 and "each so many: 8, 9" in refused[0] and "each so many: 8, 8" in refused[1], output


def test_a_workdir_that_is_not_one_folder_is_refused(hosts):
    """In both processes: each would write a part of every checkpoint."""
    workdir, said = hosts
    for output in said:
        assert "is on a disk of its own in 1 of 2 processes: give a folder that all hosts share" in output, output
    assert not [path for folder in (workdir, workdir / "own-0", workdir / "own-1") for path in folder.glob(".seen*")]


def test_orbax_does_not_ask_whether_to_stop(tmp_path, monkeypatch):
    """Its answer is about a step that is past, and asking changes at which step all stop."""
    checkpointer = Checkpointer(tmp_path, every=1, keep=1)
    monkeypatch.setattr(ocp.checkpoint_manager.utils, "reached_preemption", lambda step: pytest.fail("asked"))
    assert not checkpointer._manager.reached_preemption(3)
    checkpointer.close()
