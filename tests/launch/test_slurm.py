"""A job on Slurm: what is submitted, and that a job which was preempted after a save queues again, while one that failed or was cancelled does not."""

import shlex

import pytest

from tests.launch.stubs import HARD, Answer

ARGUMENTS = ("--config=configs/videomae_vitb.py", "--workdir=runs/mine", f"--config.data.path={HARD}")
SIZE = ("--nodes=2", "--gpus-per-node=4")
PLACE = ("--partition=gpu", "--account=mine", "--time=24:00:00")
# Instead of srun: runs its command line as one process, told that it has all GPUs.
SRUN = """#!/usr/bin/env bash
echo "$*" > "$HOME/srun.options"
while [[ "$1" == --* ]]; do shift; done
{before}
exec "$@"
"""


def job(stage, code=0, before="", **variables):
    """The job script, where the training command ends with this code."""
    stage.installed("data,cuda")
    stage.stub("python", Answer("-m", code=code))
    stage.stub("scontrol")
    program = stage.home / "srun"
    program.write_text(SRUN.format(before=before))
    program.chmod(0o755)
    done = stage.command("bash", "launch/slurm.sbatch", *ARGUMENTS, SLURM_JOB_ID="77", **variables)
    assert stage.calls("python") == [["-m", "vssl_jax.main", *ARGUMENTS]]
    return done


def test_what_is_submitted(stage):
    stage.installed("data,cuda")
    stage.stub("sbatch")
    done = stage.run("slurm.sh", *SIZE, *PLACE, "--cpus-per-task=12", "--job-name=mine", "--", *ARGUMENTS)
    assert (done.code, done.out, done.err) == (0, "", "")
    (words,) = stage.calls("sbatch")
    script = words.index("launch/slurm.sbatch")
    assert sorted(words[:script]) == sorted([*SIZE, *PLACE, "--ntasks-per-node=4", "--cpus-per-task=12", "--job-name=mine"])
    assert words[script + 1 :] == list(ARGUMENTS)


def test_a_project_that_cannot_be_installed_is_not_submitted(stage):
    stage.stub("sbatch")
    assert stage.run("slurm.sh", *SIZE, "--", *ARGUMENTS, PYTHON="no-such-python").code == 1
    assert stage.calls("sbatch") == []


def test_a_dry_run_prints_the_commands(stage):
    install, submit = stage.run("slurm.sh", *SIZE, "--dry-run", "--", *ARGUMENTS).out.splitlines()
    assert shlex.split(install) == ["env", "EXTRAS=data,cuda", "bash", "-euo", "pipefail", "launch/environment.sh"]
    assert shlex.split(submit)[0] == "sbatch" and shlex.split(submit)[-4:] == ["launch/slurm.sbatch", *ARGUMENTS]
    assert not [word for word in shlex.split(submit) if word.startswith(("--partition", "--account", "--time"))]


def test_what_slurm_reads_in_the_job_script(stage):
    lines = (stage.project / "launch" / "slurm.sbatch").read_text().splitlines()
    body = next(place for place, line in enumerate(lines) if not line.startswith("#"))
    options = [line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH ")]
    assert {"--requeue", "--signal=TERM@120", "--open-mode=append"} <= set(options)
    last = max(place for place, line in enumerate(lines) if line.startswith("#SBATCH"))
    assert last < body, "sbatch reads no further than the first command"


def test_one_process_per_gpu_that_all_see(stage):
    """JAX counts GPUs by the process's number on its node, and srun's exit code is 42 only where it kills no process on the first 42."""
    assert job(stage, SLURM_CPUS_PER_TASK="12").code == 0
    options = (stage.home / "srun.options").read_text().split()
    assert {"--kill-on-bad-exit=0", "--wait=60", "--cpus-per-task=12"} <= set(options)
    assert not [word for word in options if word.startswith(("--gpus-per-task", "--gpu-bind", "--ntasks"))]


def test_a_job_that_was_preempted_queues_again(stage):
    done = job(stage, code=42)
    assert done.code == 42 and done.err == "preempted after a save: job 77 queues again\n"
    assert stage.calls("scontrol") == [["requeue", "77"]]


@pytest.mark.parametrize("code", [0, 1, 134, 143])
def test_any_other_end_is_the_end(stage, code):
    assert job(stage, code=code).code == code
    assert stage.calls("scontrol") == []


def test_a_job_that_is_cancelled_does_not_queue_again(stage):
    """Slurm then tells the job script too to stop, which it does not before its processes have saved."""
    done = job(stage, code=42, before="kill -TERM $PPID")
    assert done.code == 42 and stage.calls("scontrol") == []
