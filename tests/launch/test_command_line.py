"""What the launchers for many hosts have in common: --help, --dry-run, and one line that says what is wrong, before any machine is asked for."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.launch.stubs import ROOT, refusal

TRAINING = ("--", "--config=configs/videomae_vitb.py", "--workdir=/mnt/films/run")
# The least that each takes.
LEAST = {
    "tpu.sh": ("run", "--name=tpu", "--zone=here", "--type=v5litepod-16", "--mount-bucket=films", *TRAINING),
    "xpk.sh": ("--cluster=one", "--workload=run", "--tpu-type=v5litepod-16", "--docker-image=image", "--storage=films", *TRAINING),
    "slurm.sh": ("--nodes=2", "--gpus-per-node=8", *TRAINING),
    "skypilot.sh": ("--name=run", "--accelerators=H100:8", "--mount-bucket=films", *TRAINING),
}
PROGRAMS = ("gcloud", "xpk", "sbatch", "srun", "scontrol", "sky", "mkdir", "tar", "env", "sleep")
NEEDED = [(script, flag) for script, words in LEAST.items() for flag in words[: words.index("--")] if flag.startswith("--")]


def least(script: str, *more: str) -> list[str]:
    """With more flags."""
    end = LEAST[script].index("--")
    return [*LEAST[script][:end], *more, *LEAST[script][end:]]


def shellcheck(*argv: str, text: str | None = None) -> str:
    program = shutil.which("shellcheck", path=str(Path(sys.executable).parent)) or shutil.which("shellcheck")
    assert program, "no shellcheck: pip install -e '.[test]'"
    words = [program, "--external-sources", "--shell=bash", *argv]
    done = subprocess.run(words, cwd=ROOT, input=text, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    return done.stdout


@pytest.mark.parametrize("script", sorted(path.name for path in (ROOT / "launch").iterdir() if path.suffix in (".sh", ".sbatch")))
def test_shellcheck_has_nothing_to_say(script):
    assert shellcheck(f"launch/{script}") == ""


@pytest.mark.parametrize("section", ["setup", "run"])
def test_shellcheck_has_nothing_to_say_of_the_job_of_skypilot(section):
    assert shellcheck("-", text=yaml.safe_load((ROOT / "launch" / "skypilot.yaml").read_text())[section]) == ""


def test_shellcheck_would_say_something():
    assert "SC2086" in shellcheck("-", text="rm $1\n")


@pytest.mark.parametrize("script", LEAST)
def test_a_dry_run_calls_nothing(stage, script):
    for program in PROGRAMS:
        stage.stub(program)
    before = sorted(stage.project.rglob("*"))
    done = stage.run(script, *least(script, "--dry-run"))
    assert done.code == 0 and done.out and not done.err, done
    assert stage.calls() == [] and sorted(stage.project.rglob("*")) == before


@pytest.mark.parametrize("script", LEAST)
def test_help_shows_every_flag(stage, script):
    done = stage.run(script, "--help")
    text = (stage.project / "launch" / script).read_text()
    lines = [line.split("=", 1)[1].strip('"') for line in text.splitlines() if line.startswith(("FLAGS=", "LISTS=", "SWITCHES="))]
    flags = [flag for line in lines for flag in line.split()]
    assert done.code == 0 and not done.err and len(lines) == 3
    assert [flag for flag in [*flags, "dry-run"] if f"--{flag}" not in done.out] == []
    assert f"launch/{script}" in done.out and "#" not in done.out and "set -euo" not in done.out


@pytest.mark.parametrize(("script", "flag"), NEEDED)
def test_a_missing_flag_is_named(stage, script, flag):
    name = flag.split("=")[0]
    line = refusal(stage.run(script, *[word for word in LEAST[script] if word != flag]))
    if name in ("--mount-bucket", "--storage") and script != "skypilot.sh":
        assert line.startswith(f"error: nothing mounts --workdir=/mnt/films/run: give {name}=")
    else:
        assert line == f"error: {name} is missing: see launch/{script} --help"


@pytest.mark.parametrize("script", LEAST)
@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("--nmae=x", "unknown flag --nmae: see launch/"),
        ("--dry-run=yes", "--dry-run takes no value"),
        ("--env", "lacks its value"),
        ("extra", "unexpected argument 'extra': flags are written --name=value"),
        ("-n", "unexpected argument '-n'"),
        ("--=x", "unexpected argument '--=x'"),
        ("--name time=x", "unknown flag --name time: see launch/"),
        ("--num.slices=2", "unknown flag --num.slices: see launch/"),
    ],
)
def test_a_wrong_flag_is_named(stage, script, wrong, says):
    if wrong == "--env" and script == "slurm.sh":
        wrong = "--time"
    assert says in refusal(stage.run(script, *least(script, wrong)))


@pytest.mark.parametrize(
    ("script", "flag"),
    [
        ("tpu.sh", "--retries"),
        ("xpk.sh", "--num-slices"),
        ("xpk.sh", "--max-restarts"),
        ("slurm.sh", "--nodes"),
        ("skypilot.sh", "--num-nodes"),
    ],
)
def test_a_number_is_a_number(stage, script, flag):
    line = refusal(stage.run(script, *least(script, f"{flag}=two")))
    assert line == f"error: {flag}=two: it must be a whole number"


@pytest.mark.parametrize("script", LEAST)
@pytest.mark.parametrize("training", [(), ("--",), ("--", "--workdir=/mnt/films/run")])
def test_a_training_command_has_a_recipe(stage, script, training):
    end = LEAST[script].index("--")
    assert refusal(stage.run(script, *LEAST[script][:end], *training)).startswith("error: no recipe: end with -- --config=")


@pytest.mark.parametrize("script", LEAST)
@pytest.mark.parametrize(
    ("workdir", "says"),
    [
        (("--workdir=gs://films/run",), "--workdir=gs://films/run is a URL, and a run is kept in a folder"),
        ((), "no --workdir: name a folder after -- that every host reaches"),
        (("--workdir=runs/mine",), "--workdir=runs/mine is on each host's own disk"),
        (("--workdir=/home/me",), "--workdir=/home/me is not under /mnt/films"),
        (("--workdir", "/mnt/films"), "--workdir=/mnt/films is not under /mnt/films"),
    ],
)
def test_a_run_is_kept_where_every_host_reaches_it(stage, script, workdir, says):
    """On Slurm every folder may be, and what xpk mounts is the cluster's business."""
    end = LEAST[script].index("--")
    words = (*LEAST[script][:end], "--dry-run", "--", "--config=x.py", *workdir)
    if "is a URL" in says or script in ("tpu.sh", "skypilot.sh") or (script == "xpk.sh" and "not under" not in says):
        assert says in refusal(stage.run(script, *words))
    else:
        assert stage.run(script, *words).code == 0


@pytest.mark.parametrize("script", ["tpu.sh", "xpk.sh"])
def test_another_shared_folder_has_to_be_said(stage, script):
    words = [word for word in LEAST[script] if not word.startswith(("--mount-bucket", "--storage", "--workdir"))]
    end = words.index("--")
    assert stage.run(script, *words[:end], "--shared-workdir", "--dry-run", *words[end:], "--workdir=/filestore/run").code == 0
