"""A dress rehearsal of what happens to long runs, through the command line: killed, a host lost, told to stop, damaged, going on with another
number of hosts. On the same hosts they end in the same bits.
"""

import random
import shutil
import signal
import time

import numpy as np
import pytest

from tests.train import tiny
from tests.train.processes import Run
from vssl_jax.train import goodput, lost
from vssl_jax.train.checkpoint import load_export
from vssl_jax.train.metrics import read_metrics

STEPS = 48  # of 30 ms on a fast machine: several processes notice SIGTERM by asking once a second
EVERY = 6
SECONDS = 240
# At this width the patch embedding is spread over two devices.
SETTINGS = (f"--config.train.steps={STEPS}", f"--config.checkpoint.every={EVERY}", "--config.mesh.fsdp=2", "--config.model.width=48")
# Where the run is stopped: early enough that it cannot end first, at another place every day. Printed with a failure.
SEED = random.SystemRandom().randrange(1000)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("xla")


def start(workdir, cache, count):
    return Run(workdir, cache, *SETTINGS, count=count)


def finished(workdir, cache, count):
    with start(workdir, cache, count) as run:
        assert run.wait() == [0] * count, run.output()
        assert "fsdp,-" in run.output(), "something is sharded"
    return load_export(workdir)[0], losses(workdir)


def losses(workdir):
    lines = read_metrics(workdir)
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))  # each once, whatever happened
    return [line["loss"] for line in lines]


@pytest.fixture(scope="module")
def alone(tmp_path_factory, cache):
    return finished(tmp_path_factory.mktemp("alone") / "run", cache, 1)


@pytest.fixture(scope="module")
def together_workdir(tmp_path_factory):
    return tmp_path_factory.mktemp("together") / "run"


@pytest.fixture(scope="module")
def together(together_workdir, cache):
    return finished(together_workdir, cache, 2)


def stop_and_go_on(workdir, cache, count, damage):
    """SIGKILL of one process at a random step, the same command again, SIGTERM, damage to what it saved, the same command again."""
    draw = random.Random(SEED)
    killed, told = draw.randint(1, 7), draw.randint(8, 10)
    print(f"seed {SEED}: SIGKILL at step {killed}, SIGTERM at step {told}")
    with start(workdir, cache, count) as run:
        run.wait_for_step(killed)
        lose_one(run, draw.randrange(count))
    with start(workdir, cache, count) as run:
        run.wait_for_step(told)
        run.processes[-1].send_signal(signal.SIGTERM)
        assert run.wait() == [42] * count, run.output()
    saved = sorted(int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit())
    assert saved[-1] >= told and not (workdir / "export").exists()
    if damage:
        truncate(workdir / "checkpoints" / str(saved[-1]))
    with start(workdir, cache, count) as run:
        assert run.wait() == [0] * count, run.output()
        if damage:
            assert f"{saved[-1]} IS DAMAGED" in run.output() and f"going on from step {saved[-2]}" in run.output()
            assert (workdir / "checkpoints" / f"damaged-{saved[-1]}").is_dir()
        else:
            assert f"resuming at step {saved[-1]}" in run.output()
        assert "3 starts" in run.output()
    account = goodput.account(workdir)
    assert account.starts == 3 and account.kept > 0 and account.starting > 0 and account.total < 2 * SECONDS
    return load_export(workdir)[0], losses(workdir)


def lose_one(run, which):
    """A host vanishes: the others have ended before a minute is over, and say why."""
    print(f"process {which} is lost")
    run.processes[which].send_signal(signal.SIGKILL)
    lost_at = time.monotonic()
    codes = run.wait()
    assert time.monotonic() - lost_at < 60
    # JAX's own watch may be first: it ends a process by a signal.
    assert all(code in (lost.EXIT_CODE, -signal.SIGABRT) for i, code in enumerate(codes) if i != which), run.output()
    assert len(codes) == 1 or "Terminating process" in run.output() or "another process of the run was lost" in run.output()


def truncate(checkpoint):
    """Cuts every file of arrays in half."""
    cut = [p for p in checkpoint.rglob("*") if p.is_file() and "/d/" in str(p)]
    assert cut
    for path in cut:
        with open(path, "r+b") as file:
            file.truncate(path.stat().st_size // 2)


@pytest.mark.slow
def test_one_process_killed_and_told_to_stop_ends_in_the_same_bits(alone, cache, tmp_path):
    params, logged = stop_and_go_on(tmp_path / "run", cache, 1, damage=False)
    tiny.assert_same_bits(params, alone[0])
    assert logged == alone[1]


def test_two_processes_are_one(alone, together):
    np.testing.assert_allclose(together[1], alone[1], rtol=0, atol=1e-5)
    assert tiny.largest_difference(together[0], alone[0]) <= 1e-5


@pytest.mark.timeout(3 * SECONDS)
def test_two_processes_killed_told_to_stop_and_damaged_end_in_the_same_bits(together, cache, tmp_path):
    params, logged = stop_and_go_on(tmp_path / "run", cache, 2, damage=True)
    tiny.assert_same_bits(params, together[0])
    assert logged == together[1]


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 4])
def test_a_run_goes_on_with_another_number_of_hosts(together, together_workdir, cache, tmp_path, count):
    """From the checkpoint before the last of two processes: the last steps run on one process, and on four."""
    workdir = tmp_path / "run"
    shutil.copytree(together_workdir, workdir)
    shutil.rmtree(workdir / "checkpoints" / str(STEPS))
    shutil.rmtree(workdir / "export")
    with start(workdir, cache, count) as run:
        assert run.wait() == [0] * count, run.output()
        assert f"resuming at step {STEPS - EVERY}" in run.output()
    np.testing.assert_allclose(losses(workdir), together[1], rtol=0, atol=1e-5)
    assert tiny.largest_difference(load_export(workdir)[0], together[0]) <= 1e-5
