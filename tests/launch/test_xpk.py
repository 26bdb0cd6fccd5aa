"""What xpk.sh asks of xpk."""

import shlex

import pytest

from tests.launch.stubs import HARD, Answer

CLUSTER = ("--cluster=one", "--project=mine", "--zone=here")
FLAGS = (
    *CLUSTER,
    "--workload=run",
    "--tpu-type=v5litepod-16",
    "--num-slices=2",
    "--docker-image=hub/image:1",
    "--storage=films",
    "--storage=more",
)
TRAINING = ("--", "--config=configs/videomae_vitb.py", "--workdir=/films/run", f"--config.data.path={HARD}")


def test_a_workload_is_submitted_with_all_it_needs(stage):
    stage.stub("xpk")
    done = stage.run("xpk.sh", *FLAGS, "--env=LIBTPU_INIT_ARGS=--a --b", "--env=X=1", "--max-restarts=3", *TRAINING)
    assert (done.code, done.out, done.err) == (0, "", "")
    quiet, (*create, command) = stage.calls("xpk")
    assert quiet == ["config", "set", "send-telemetry", "false"]
    assert create[:2] == ["workload", "create"]
    assert sorted(create[2:]) == sorted(
        [*FLAGS, "--env=LIBTPU_INIT_ARGS=--a --b", "--env=X=1", "--max-restarts=3", "--termination-grace-period-seconds=120"]
    )
    stage.stub("python")
    assert stage.command("bash", "-c", command.removeprefix("--command=")).code == 0
    assert stage.calls("python") == [["-m", "vssl_jax.main", *TRAINING[1:]]]


@pytest.mark.parametrize("code", [0, 1, 124, 125])
def test_waiting_ends_as_the_workload_does(stage, code):
    stage.stub("xpk", Answer("list", code=code))
    assert stage.run("xpk.sh", *FLAGS, "--wait", *TRAINING).code == code
    assert stage.calls("xpk")[2] == ["workload", "list", *CLUSTER, "--wait-for-job-completion=run"]


def test_a_workload_that_is_refused_is_not_waited_for(stage):
    stage.stub("xpk", Answer("create", code=1))
    assert stage.run("xpk.sh", *FLAGS, "--wait", *TRAINING).code == 1 and len(stage.calls("xpk")) == 2


def test_a_dry_run_prints_what_a_run_calls(stage):
    dry = stage.run("xpk.sh", *FLAGS, "--wait", "--dry-run", *TRAINING)
    stage.stub("xpk")
    assert stage.run("xpk.sh", *FLAGS, "--wait", *TRAINING).code == 0
    assert [shlex.split(line) for line in dry.out.splitlines()] == [["xpk", *words] for words in stage.calls("xpk")]
