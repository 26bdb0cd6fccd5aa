"""A managed job of SkyPilot: what is submitted, what the job is, and how its processes find one another."""

import shlex

import pytest
import yaml

from tests.launch.stubs import HARD, refusal

ARGUMENTS = ("--config=configs/videomae_vitb.py", "--workdir=/mnt/films/run", f"--config.data.path={HARD}")
GPUS = ("--name=run", "--accelerators=H100:8", "--mount-bucket=films")
TPU = ("--name=run", "--accelerators=tpu-v5litepod-16", "--mount-bucket=films")
# Instead of Python: its arguments, and what it finds in the environment.
PYTHON = """#!/usr/bin/env bash
printf '%s\\n' "${JAX_COORDINATOR_ADDRESS-none}" "${JAX_NUM_PROCESSES-none}" "${JAX_PROCESS_ID-none}" "$@"
"""


def submitted(stage, *argv):
    """(sky's flags, the job's variables)."""
    stage.stub("sky")
    done = stage.run("skypilot.sh", *argv, "--", *ARGUMENTS)
    assert (done.code, done.out, done.err) == (0, "", "")
    (words,) = stage.calls("sky")
    assert words[:3] == ["jobs", "launch", "launch/skypilot.yaml"]
    flags, variables, rest = [], {}, iter(words[3:])
    for word in rest:
        if word == "--env":
            name, _, value = next(rest).partition("=")
            variables[name] = value
        else:
            flags.append(word)
    return flags, variables


def job(stage):
    return yaml.safe_load((stage.project / "launch" / "skypilot.yaml").read_text())


def started(stage, rank, variables, nodes=2):
    """What a node's training command finds: address, processes, its number, and its arguments."""
    program = stage.project / ".venv" / "bin" / "python"
    program.parent.mkdir(parents=True)
    program.write_text(PYTHON)
    program.chmod(0o755)
    addresses = "\n".join(["10.0.0.1", "10.0.0.2"][:nodes])
    node = {"SKYPILOT_NODE_IPS": addresses, "SKYPILOT_NUM_NODES": str(nodes), "SKYPILOT_NODE_RANK": str(rank)}
    done = stage.command("bash", "-c", job(stage)["run"], **node, **variables)
    assert done.code == 0, done.err
    return done.out.splitlines()


def test_a_job_on_gpus(stage):
    flags, variables = submitted(stage, *GPUS, "--num-nodes=2", "--infra=gcp/us-central1", "--env=XLA_FLAGS=--a --b")
    assert flags == ["--yes", "--name", "run", "--gpus", "H100:8", "--num-nodes", "2", "--infra", "gcp/us-central1"]
    assert variables.pop("TRAINING") and variables == {"EXTRAS": "data,cuda", "BUCKET": "films", "XLA_FLAGS": "--a --b"}


def test_a_job_on_a_slice(stage):
    flags, variables = submitted(stage, *TPU, "--on-demand", "--detach")
    assert flags == ["--yes", "--name", "run", "--gpus", "tpu-v5litepod-16", "--num-nodes", "1", "--no-use-spot", "--detach-run"]
    assert variables["EXTRAS"] == "data,tpu"


@pytest.mark.parametrize("rank", [0, 1])
def test_nodes_with_gpus_are_told_of_one_another(stage, rank):
    _, variables = submitted(stage, *GPUS, "--num-nodes=2")
    assert started(stage, rank, variables) == ["10.0.0.1:8476", "2", str(rank), "-m", "vssl_jax.main", *ARGUMENTS]


def test_one_node_is_one_process(stage):
    _, variables = submitted(stage, *GPUS)
    assert started(stage, 0, variables, nodes=1)[:3] == ["10.0.0.1:8476", "1", "0"]


@pytest.mark.parametrize("rank", [0, 1])
def test_the_hosts_of_a_slice_find_one_another(stage, rank):
    _, variables = submitted(stage, *TPU)
    assert started(stage, rank, variables) == ["none"] * 3 + ["-m", "vssl_jax.main", *ARGUMENTS, "--config.distributed=on"]


def test_several_slices_are_refused(stage):
    stage.stub("sky")
    assert "several slices: launch/xpk.sh" in refusal(stage.run("skypilot.sh", *TPU, "--num-nodes=2", "--", *ARGUMENTS))
    assert stage.calls() == []


def test_the_exit_code_is_that_of_sky(stage):
    (stage.home / "sky").write_text("#!/bin/sh\nexit 7\n")
    (stage.home / "sky").chmod(0o755)
    assert stage.run("skypilot.sh", *GPUS, "--", *ARGUMENTS).code == 7


def test_a_dry_run_prints_what_a_run_calls(stage):
    dry = stage.run("skypilot.sh", *GPUS, "--env=X=1 2", "--dry-run", "--", *ARGUMENTS)
    submitted(stage, *GPUS, "--env=X=1 2")
    assert [shlex.split(line) for line in dry.out.splitlines()] == [["sky", *words] for words in stage.calls("sky")]


def test_the_job(stage):
    """A job that ends with 42 goes on, on spot machines, from what the bucket has; what depends on the run has to be given."""
    task = job(stage)
    assert task["resources"]["job_recovery"]["recover_on_exit_codes"] == [42] and task["resources"]["use_spot"] is True
    assert task["file_mounts"] == {"/mnt/${BUCKET}": {"source": "gs://${BUCKET}", "mode": "MOUNT"}}
    assert task["workdir"] == "." and task["setup"] == "bash launch/worker.sh"
    assert task["envs"] == {"EXTRAS": "data,cuda", "BUCKET": None, "TRAINING": None}
