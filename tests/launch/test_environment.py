"""launch/environment.sh installs what is missing, once, and leaves what another script has put there."""

import shlex

from tests.launch.stubs import Answer


def make(stage, extras, **more):
    return stage.command("bash", "-euo", "pipefail", "launch/environment.sh", EXTRAS=extras, **more)


def test_what_is_there_is_not_installed_again(stage):
    stage.installed("data,test")
    for extras in ("test", "data", "test,data"):
        done = make(stage, extras)
        assert (done.code, done.err) == (0, "")
    assert not stage.calls("python")


def test_what_is_missing_is_added(stage):
    stage.installed("data")
    stage.stub("uv")
    (stage.project / ".venv" / "bin" / "uv").symlink_to(stage.home / "uv")
    stage.stub("python3", Answer("-c"))
    done = make(stage, "test,data")
    assert done.code == 0 and "installing" in done.err, done.err
    assert stage.calls("uv")[0][-1] == ".[data,test]"
    assert make(stage, "test").err == make(stage, "data").err == ""


def test_another_interpreter_than_the_one_that_is_there_is_not_passed_over(stage):
    stage.installed("data")
    stage.stub("python", Answer("-c", "Python 3.11\n"), Answer("-c", "Python 3.11\n"), Answer("-c", "Python 3.11\n"))
    stage.stub("python3.13", Answer("-c", "Python 3.13\n"))
    stage.stub("python3.11", Answer("-c", "Python 3.11\n"))
    done = make(stage, "data", PYTHON="python3.13")
    assert done.code == 1 and "PYTHON=python3.13 is Python 3.13, and .venv has Python 3.11: remove .venv" in done.err, done.err
    assert make(stage, "data", PYTHON="python3.11").code == 0


def test_another_setup_is_installed_anew(stage):
    stage.installed("data")
    stage.stub("uv")
    (stage.project / ".venv" / "bin" / "uv").symlink_to(stage.home / "uv")
    stage.stub("python3", Answer("-c"))
    (stage.project / "setup.py").write_text("changed")
    assert make(stage, "data").code == 0 and shlex.join(stage.calls("uv")[0]).endswith("'.[data]'")
