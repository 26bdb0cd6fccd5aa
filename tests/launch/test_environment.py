"""launch/environment.sh installs what is missing, once, and leaves what another script has put there."""

import shlex

from tests.launch.stubs import Answer


def make(stage, extras):
    return stage.command("bash", "-euo", "pipefail", "launch/environment.sh", EXTRAS=extras)


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


def test_another_setup_is_installed_anew(stage):
    stage.installed("data")
    stage.stub("uv")
    (stage.project / ".venv" / "bin" / "uv").symlink_to(stage.home / "uv")
    stage.stub("python3", Answer("-c"))
    (stage.project / "setup.py").write_text("changed")
    assert make(stage, "data").code == 0 and shlex.join(stage.calls("uv")[0]).endswith("'.[data]'")
