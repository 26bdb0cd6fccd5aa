"""When a process joins others, and what it says where it cannot. (Two processes for real: test_resume.py.)"""

import jax
import pytest

from vssl_jax.errors import UserError
from vssl_jax.train import distributed, lost
from vssl_jax.train.preemption import Preempted

NAMES = (
    "JAX_NUM_PROCESSES", "JAX_PROCESS_ID", "JAX_COORDINATOR_ADDRESS", "SLURM_NTASKS", "SLURM_STEP_NODELIST", "OMPI_COMM_WORLD_SIZE", "TPU_WORKER_HOSTNAMES",
    "MEGASCALE_COORDINATOR_ADDRESS",
)  # fmt: skip

TIMEOUTS = {"initialization_timeout": distributed.TIMEOUT_SECONDS, "heartbeat_timeout_seconds": lost.HEARTBEAT_SECONDS}


@pytest.fixture
def joined(monkeypatch):
    """What jax.distributed.initialize was called with, in an environment without any marker."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    calls = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda **settings: calls.append(settings))
    return calls


def set_all(monkeypatch, **env):
    for name, value in env.items():
        monkeypatch.setenv(name, value)


def test_alone_nothing_is_joined(joined, monkeypatch):
    distributed.initialize("auto")
    set_all(monkeypatch, SLURM_NTASKS="8")  # a script without srun: one process, whatever the job may have
    distributed.initialize("auto")
    set_all(monkeypatch, SLURM_NTASKS="1", SLURM_STEP_NODELIST="a", TPU_WORKER_HOSTNAMES="localhost", JAX_NUM_PROCESSES="1")
    distributed.initialize("auto")
    assert joined == []


@pytest.mark.parametrize(
    "env",
    [
        {"SLURM_NTASKS": "4", "SLURM_STEP_NODELIST": "a[1-4]"},
        {"OMPI_COMM_WORLD_SIZE": "2"},
        {"TPU_WORKER_HOSTNAMES": "a,b"},
        {"MEGASCALE_COORDINATOR_ADDRESS": "a"},
    ],
)
def test_a_cluster_is_found_by_its_marker_and_left_to_jax(joined, monkeypatch, env):
    set_all(monkeypatch, **env)
    distributed.initialize("auto")
    assert joined == [TIMEOUTS]
    distributed.initialize("off")
    assert len(joined) == 1


def test_on_joins_without_a_marker(joined):
    distributed.initialize("on")
    assert len(joined) == 1


def test_by_hand(joined, monkeypatch):
    set_all(monkeypatch, JAX_COORDINATOR_ADDRESS="10.0.0.1:1234", JAX_NUM_PROCESSES="2", JAX_PROCESS_ID="1")
    distributed.initialize("auto")
    expected = {"coordinator_address": "10.0.0.1:1234", "num_processes": 2, "process_id": 1}
    assert joined == [expected | TIMEOUTS]


@pytest.mark.parametrize("name", ["JAX_COORDINATOR_ADDRESS", "JAX_PROCESS_ID"])
def test_part_of_the_settings_is_an_error_that_names_the_rest(joined, monkeypatch, name):
    set_all(monkeypatch, JAX_COORDINATOR_ADDRESS="10.0.0.1:1234", JAX_NUM_PROCESSES="2", JAX_PROCESS_ID="1")
    monkeypatch.delenv(name)
    with pytest.raises(UserError, match=f"{name} is not"):
        distributed.initialize("auto")
    assert joined == []


@pytest.mark.parametrize(("name", "value"), [("JAX_PROCESS_ID", "one"), ("JAX_PROCESS_ID", "2"), ("JAX_PROCESS_ID", "-1")])
def test_a_number_that_is_none_is_an_error(joined, monkeypatch, name, value):
    set_all(monkeypatch, JAX_COORDINATOR_ADDRESS="10.0.0.1:1234", JAX_NUM_PROCESSES="2", JAX_PROCESS_ID="1")
    monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=name):
        distributed.initialize("auto")


@pytest.mark.parametrize("error", [RuntimeError("DEADLINE_EXCEEDED: nobody there\nmore"), ValueError("")])
def test_a_failure_to_join_is_one_line(joined, monkeypatch, error):
    def fail(**settings):
        raise error

    monkeypatch.setattr(jax.distributed, "initialize", fail)
    with pytest.raises(UserError, match="could not join the other processes") as caught:
        distributed.initialize("on")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("place", [0, 1])
def test_only_the_first_works_and_all_meet(monkeypatch, place):
    done = []
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(jax, "process_index", lambda: place)
    monkeypatch.setattr(distributed.checkpoint, "meet", lambda name, seconds: done.append("met"))
    distributed.on_first(lambda: done.append("worked"))
    assert done == ["worked"] * (place == 0) + ["met"]


def test_a_preemption_of_the_first_lets_the_others_go(monkeypatch):
    done = []

    def preempted():
        raise Preempted("told to stop")

    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(distributed.checkpoint, "meet", lambda name, seconds: done.append("met"))
    with pytest.raises(Preempted, match="told to stop"):
        distributed.on_first(preempted)
    assert done == ["met"]


def test_waiting_in_vain_is_one_line(monkeypatch):
    def fail(name, seconds):
        raise RuntimeError("DEADLINE_EXCEEDED: barrier\nmore")

    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    monkeypatch.setattr(distributed.checkpoint, "meet", fail)
    with pytest.raises(UserError, match=r"waited in vain for the other processes: DEADLINE_EXCEEDED: barrier$"):
        distributed.on_first(lambda: pytest.fail("only the first works"))


def test_an_unknown_mode_is_refused(joined):
    with pytest.raises(UserError, match="did you mean 'auto'"):
        distributed.initialize("auot")
