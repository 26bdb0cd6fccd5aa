"""A Cloud TPU slice from nothing to a result: what tpu.sh asks of gcloud, and in which order, whatever gcloud answers."""

import shlex
import shutil
import tarfile

import pytest

from tests.launch.stubs import HARD, Answer, refusal

SLICE = ("--name=tpu", "--zone=here", "--project=mine")
TRAINING = ("--", "--config=configs/videomae_vitb.py:smoke", "--workdir=/mnt/films/run", f"--config.data.path={HARD}")
RUN = ("run", *SLICE, "--type=v5litepod-16", "--mount-bucket=films", *TRAINING)
PLACE = ["--zone=here", "--project=mine"]
NOWHERE = Answer("describe", code=1, err="ERROR: (gcloud.compute.tpus.queued-resources.describe) NOT_FOUND: Resource 'x' was not found\n")


def states(*names: str) -> list[Answer]:
    return [NOWHERE if name == "" else Answer("describe", f"{name}\n") for name in names]


def codes(*numbers: int) -> list[Answer]:
    """Of what runs on the hosts."""
    return [Answer("ssh", code=number) for number in numbers]


def steps(stage) -> list[str]:
    """create, describe, scp, ... in order; the two that ssh does by what they do."""
    made = []
    for words in stage.calls("gcloud"):
        assert words[:2] == ["compute", "tpus"] and [word for word in words if word in PLACE] == PLACE
        made.append(words[3] if words[3] != "ssh" else "train" if "vssl_jax.main" in words[-1] else "set up")
    return made


def run(stage, states, codes, *argv):
    stage.stub("gcloud", *states, *codes)
    return stage.run("tpu.sh", *(argv or RUN))


def on_hosts(stage) -> list[str]:
    """The command lines that ssh was given."""
    calls = [words for words in stage.calls("gcloud") if words[3] == "ssh"]
    assert all("--worker=all" in words for words in calls)
    return [words[-1].removeprefix("--command=") for words in calls]


def test_a_slice_that_is_preempted_is_asked_for_again_and_the_same_command_runs(stage):
    before = states("", "WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE")
    after = states("SUSPENDING", "SUSPENDED", "", "ACTIVE")
    done = run(stage, before + after, codes(0, 42, 0, 0))
    assert done.code == 0, done.err
    waiting, working = ["describe", "create", "describe", "describe", "describe"], ["scp", "set up", "train"]
    assert steps(stage) == [*waiting, *working, "describe", "describe", "delete", "describe", "create", "describe", *working]
    assert on_hosts(stage)[:2] == on_hosts(stage)[2:]
    assert done.err.splitlines() == [
        "tpu is WAITING_FOR_RESOURCES",
        "tpu is PROVISIONING",
        "tpu is ACTIVE",
        "tpu was preempted: retry 1 of 10",
        "tpu is ACTIVE",
        "done; tpu stays until it is deleted: launch/tpu.sh delete --name=tpu --zone=here",
    ]


def test_each_call_has_what_it_needs(stage):
    flags = ("--spot", "--valid-until=6h", "--startup-script=mount.sh", "--env=LIBTPU_INIT_ARGS=--a --b", "--delete-after")
    done = run(stage, states("", "ACTIVE"), [], *RUN[:-4], *flags, *TRAINING)
    assert done.code == 0, done.err
    named = {words[3]: words for words in stage.calls("gcloud")}
    queued, vm = ["compute", "tpus", "queued-resources"], ["compute", "tpus", "tpu-vm"]
    asked = ["--node-id=tpu", "--accelerator-type=v5litepod-16", "--runtime-version=v2-alpha-tpuv5-lite", "--spot"]
    asked += ["--valid-until-duration=6h", "--metadata-from-file=startup-script=mount.sh"]
    assert named["create"] == [*queued, "create", "tpu", *PLACE, *asked]
    assert named["describe"] == [*queued, "describe", "tpu", *PLACE, "--format=value(state.state,state.failedData.error.message)"]
    assert named["scp"] == [*vm, "scp", "build/tpu.tar.gz", "tpu:vssl_jax.tar.gz", *PLACE, "--worker=all"]
    assert named["ssh"][:-1] == [*vm, "ssh", "tpu", *PLACE, "--worker=all", "--ssh-flag=-oServerAliveInterval=30"]
    assert named["delete"] == [*queued, "delete", "tpu", *PLACE, "--force", "--quiet"] and steps(stage)[-1] == "delete"
    assert not [name for name in ("--reserved",) if name in named["create"]]


def test_the_project_arrives_and_the_arguments_unharmed(stage):
    """What the hosts are told is done here, in a home of one."""
    (stage.project / "build").mkdir()
    (stage.project / "build" / "old.tar.gz").touch()
    stage.installed("data,tpu")
    assert run(stage, states("ACTIVE"), []).code == 0
    archive = stage.project / "build" / "tpu.tar.gz"
    with tarfile.open(archive) as packed:
        names = set(packed.getnames())
    assert {"./setup.py", "./launch/worker.sh"} <= names and not [name for name in names if "build" in name or ".venv" in name]

    home = stage.home / "vssl_jax.tar.gz"
    archive.rename(home)
    set_up, train = on_hosts(stage)
    for program in ("uv", "mountpoint"):
        stage.stub(program)
    (stage.home / "vssl_jax").mkdir()
    (stage.project / ".venv").rename(stage.home / "vssl_jax" / ".venv")
    assert stage.command("bash", "-c", set_up, folder=stage.home).code == 0
    assert stage.calls("mountpoint") == [["-q", "/mnt/films"]]
    assert stage.command("bash", "-c", train, folder=stage.home).code == 0
    assert stage.command("bash", "-c", train, folder=stage.home).code == 134, "gcloud runs it again by itself where ssh was cut off"
    assert stage.calls("python") == [["-m", "vssl_jax.main", *TRAINING[1:], "--config.distributed=on"]]


def test_a_process_that_a_signal_ends_has_an_exit_code(stage):
    """JAX ends by SIGABRT where a host is gone; a shell that had become that process would end so too, which ssh calls 255 and gcloud starts again."""
    stage.installed("data,tpu")
    assert run(stage, states("ACTIVE"), []).code == 0
    train = on_hosts(stage)[1]
    python = stage.project / ".venv" / "bin" / "python"
    python.write_text("#!/bin/sh\nkill -ABRT $$\n")
    (stage.home / "vssl_jax").mkdir()
    (stage.project / ".venv").rename(stage.home / "vssl_jax" / ".venv")
    assert stage.command("bash", "-c", train, folder=stage.home).code == 134


def test_variables_reach_the_training_command_only(stage):
    stage.installed("data,tpu")
    assert run(stage, states("ACTIVE"), [], *RUN[:-4], f"--env=WORDS={HARD}", *TRAINING).code == 0
    set_up, train = on_hosts(stage)
    assert "WORDS" not in set_up
    program = stage.project / ".venv" / "bin" / "python"
    program.unlink()
    program.write_text('#!/bin/sh\necho "$WORDS"\n')
    program.chmod(0o755)
    (stage.home / "vssl_jax").symlink_to(stage.project)
    assert stage.command("bash", "-c", train, folder=stage.home).out == HARD + "\n"


def test_whether_hosts_join_can_be_said_otherwise(stage):
    assert run(stage, states("ACTIVE"), [], *RUN, "--config.distributed=off").code == 0
    assert on_hosts(stage)[1].count("--config.distributed") == 1 and "--config.distributed=off" in on_hosts(stage)[1]


def test_a_run_that_fails_is_not_tried_again(stage):
    done = run(stage, states("ACTIVE"), codes(0, 1))
    assert done.code == 1
    assert steps(stage) == ["describe", "describe", "scp", "set up", "train", "describe", "describe", "describe"]
    assert done.err.splitlines()[-1].startswith("error: it ended with exit code 1; tpu stays until it is deleted: launch/tpu.sh delete")


@pytest.mark.parametrize("code", [1, 255])
@pytest.mark.parametrize("known_at_once", [True, False])
def test_hosts_that_vanish_are_no_failure_of_the_run(stage, code, known_at_once):
    """Their end is seen before that of the slice."""
    seen = states("ACTIVE", "ACTIVE", *([] if known_at_once else ["ACTIVE", "ACTIVE"]), "SUSPENDED", "SUSPENDED", "", "ACTIVE")
    assert run(stage, seen, codes(0, code, 0, 0)).code == 0
    assert steps(stage).count("create") == steps(stage).count("delete") == 1 and steps(stage)[-1] == "train"


@pytest.mark.parametrize("failing", ["scp", "ssh"])
def test_a_slice_that_vanishes_while_it_is_set_up_is_asked_for_again(stage, failing):
    seen = states("ACTIVE", "ACTIVE", "SUSPENDED", "SUSPENDED", "", "ACTIVE")
    assert run(stage, seen, [Answer(failing, code=1), Answer(failing)]).code == 0
    assert steps(stage).count("create") == 1 and steps(stage)[-1] == "train"


def test_a_slice_that_is_preempted_before_it_was_active_is_asked_for_again(stage):
    seen = states("", "PROVISIONING", "SUSPENDED", "SUSPENDED", "SUSPENDED", "", "ACTIVE")
    done = run(stage, seen, [])
    assert done.code == 0 and steps(stage).count("create") == 2 and "tpu was preempted: retry 1 of 10" in done.err


def test_set_up_that_fails_is_not_tried_again(stage):
    done = run(stage, states("ACTIVE"), codes(3))
    assert done.code == 3 and "train" not in steps(stage) and "create" not in steps(stage)


def test_a_request_that_fails_says_why(stage):
    done = run(stage, [NOWHERE, Answer("describe", "FAILED\tno capacity by then\n")], [])
    assert done.code == 1 and steps(stage) == ["describe", "create", "describe"]
    *others, last = done.err.splitlines()
    assert others == ["tpu is FAILED"]
    assert last.startswith("error: the request for tpu failed: no capacity by then; tpu stays until it is deleted")


def test_a_request_that_gcloud_refuses_ends_it(stage):
    done = run(stage, [NOWHERE, Answer("create", code=1, err="ERROR: no quota\n")], [])
    assert (done.code, done.err) == (1, "ERROR: no quota\n") and steps(stage) == ["describe", "create"]


@pytest.mark.parametrize("code", [42, 134])
def test_retries_are_counted(stage, code):
    done = run(stage, states("ACTIVE"), [*codes(0, code, 0, code, 0, code)], *RUN[:-4], "--retries=2", *TRAINING)
    assert done.code == code and steps(stage).count("train") == 3 and steps(stage).count("delete") == 2
    assert done.err.splitlines()[-1].startswith("error: tpu was preempted, and --retries=2 are used up: the same command goes on")


def test_what_is_there_is_used(stage):
    assert run(stage, states("ACTIVE"), []).code == 0
    assert steps(stage) == ["describe", "describe", "scp", "set up", "train"]


@pytest.mark.parametrize("left", ["FAILED", "SUSPENDED"])
def test_what_an_earlier_slice_left_is_deleted_first(stage, left):
    assert run(stage, states(left, left, "ACTIVE"), []).code == 0
    assert steps(stage)[:4] == ["describe", "describe", "delete", "create"]


@pytest.mark.parametrize("state", ["DELETING", ""])
def test_a_slice_that_somebody_deletes_is_not_asked_for_again(stage, state):
    done = run(stage, states("ACTIVE", "ACTIVE", state), codes(0, 255))
    assert done.code == 1 and "create" not in steps(stage) and "delete" not in steps(stage)
    assert done.err.splitlines()[-1] == "error: tpu was deleted, or never created"


def test_answers_that_get_lost_are_asked_for_again(stage):
    lost = [Answer("describe", code=1, err="ERROR: network is unreachable\n")] * 4
    assert run(stage, [*states("ACTIVE"), *lost, *states("ACTIVE")], []).code == 0


@pytest.mark.parametrize(
    "says",
    [
        "ERROR: (gcloud.x) NOT_FOUND: The project my-porject was not found or you do not have permission",
        "ERROR: (gcloud.x) You do not currently have an active account selected.",
        "ERROR: (gcloud.x) The required property [project] is not currently set.\n- set the property `core/project`",
    ],
)
def test_what_is_wrong_with_the_login_is_said_at_once(stage, says):
    """And a slice that goes on costing is not taken for one that is gone."""
    done = run(stage, [Answer("describe", code=1, err=f"{says}\nmore of it\n")], [], "delete", *SLICE)
    assert done.code == 1 and done.err == f"error: gcloud does not tell the state of tpu: {says.splitlines()[0]}\n"
    assert steps(stage) == ["describe"]


def test_without_gcloud_nothing_is_taken_for_done(stage):
    (stage.home / "bash").symlink_to("/bin/bash")
    for name in ("dirname", "basename", "mktemp", "grep", "tail", "sleep", "rm"):
        (stage.home / name).symlink_to(shutil.which(name))
    done = stage.run("tpu.sh", "delete", *SLICE, PATH=str(stage.home))
    assert done.code == 1 and done.err.startswith("error: gcloud is not on PATH"), done.err


def test_of_a_clone_what_git_knows_arrives(stage):
    """And new files, but not what runs leave."""
    (stage.project / ".gitignore").write_text("/RUN*/\nbuild/\n")
    for name in ("RUN/checkpoints/1", "configs/mine.py"):
        (stage.project / name).parent.mkdir(parents=True)
        (stage.project / name).touch()
    assert stage.command("git", "init", "-q").code == 0 and stage.command("git", "add", "launch", "setup.py").code == 0
    (stage.project / "launch" / "xpk.sh").unlink()
    assert run(stage, [], [], "setup", *SLICE).code == 0
    with tarfile.open(stage.project / "build" / "tpu.tar.gz") as packed:
        names = {name.removeprefix("./") for name in packed.getnames()}
    assert {"setup.py", "launch/worker.sh", "configs/mine.py"} <= names and not [
        name for name in names if name.startswith(("RUN", "build", ".git/"))
    ]


def test_but_not_for_ever(stage):
    done = run(stage, [Answer("describe", code=1, err="warning\nERROR: permission denied\n")], [])
    assert done.code == 1 and done.err == "error: gcloud does not tell the state of tpu: ERROR: permission denied\n"
    assert steps(stage) == ["describe"] * 5


@pytest.mark.parametrize(
    ("type_", "version"),
    [
        ("v3-32", "tpu-ubuntu2204-base"),
        ("v4-16", "tpu-ubuntu2204-base"),
        ("v5litepod-16", "v2-alpha-tpuv5-lite"),
        ("v5p-16", "v2-alpha-tpuv5"),
        ("v6e-16", "v2-alpha-tpuv6e"),
    ],
)
def test_the_type_chooses_the_software_version(stage, type_, version):
    assert f"--runtime-version={version} " in stage.run("tpu.sh", "create", *SLICE, f"--type={type_}", "--reserved", "--dry-run").out
    assert "--runtime-version=own " in stage.run("tpu.sh", "create", *SLICE, f"--type={type_}", "--runtime=own", "--spot", "--dry-run").out


def test_a_dry_run_prints_the_commands_of_a_run_that_meets_no_trouble(stage):
    dry = stage.run("tpu.sh", *RUN[:-4], "--delete-after", "--dry-run", *TRAINING).out
    assert run(stage, states("", "ACTIVE"), [], *RUN[:-4], "--delete-after", *TRAINING).code == 0
    lines = [shlex.split(line) for line in dry.splitlines()]
    assert [words[1:] for words in lines if words[0] == "gcloud"] == stage.calls("gcloud")
    assert [words[0] for words in lines if words[0] != "gcloud"] == ["mkdir", "tar"]


@pytest.mark.parametrize(
    ("step", "seen", "made"),
    [
        ("create", [], ["create"]),
        ("wait", states("PROVISIONING", "ACTIVE"), ["describe", "describe"]),
        ("setup", [], ["scp", "set up"]),
        ("status", states("ACTIVE"), ["describe"]),
        ("delete", states("ACTIVE"), ["describe", "delete"]),
        ("delete", states(""), ["describe"]),
    ],
)
def test_steps_alone(stage, step, seen, made):
    done = run(stage, seen, [], step, *SLICE, *(["--type=v4-8"] if step == "create" else []))
    assert done.code == 0, done.err
    assert ("there is no queued resource tpu in here of mine: nothing is deleted" in done.err) == (
        made == ["describe"] and step == "delete"
    )
    assert steps(stage) == made


@pytest.mark.parametrize("state", ["SUSPENDED", "FAILED", ""])
def test_waiting_for_what_does_not_come_fails(stage, state):
    assert run(stage, states(state), [], "wait", *SLICE).code == 1


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ((), "no subcommand: launch/tpu.sh run, create, wait, setup, status or delete"),
        (SLICE, "no subcommand"),
        (("rnu", *SLICE), "unknown subcommand 'rnu': run, create, wait"),
        (("create", *SLICE), "--type is missing"),
        (("create", *SLICE, "--type=v7"), "--type=v7: no software version is known for it: give --runtime"),
        (("create", *SLICE, "--type=v4-8", "--spot", "--reserved"), "--spot and --reserved exclude each other"),
        (("status", "--name=tpu"), "--zone is missing"),
        (("delete", *SLICE, *TRAINING), "only 'run' takes a training command"),
    ],
)
def test_a_wrong_command_line(stage, argv, says):
    stage.stub("gcloud")
    assert says in refusal(stage.run("tpu.sh", *argv))
    assert stage.calls() == []
