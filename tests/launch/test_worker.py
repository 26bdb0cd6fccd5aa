"""What a host is set up with: a Python of its own, the project, and the bucket that the run is kept in."""

import pytest

from tests.launch.stubs import Answer


@pytest.fixture
def host(stage):
    stage.installed("data,tpu")
    stage.stub("uv", Answer("find", "/pythons/3.12/python\n"))
    for name in ("curl", "sudo", "gcsfuse"):
        stage.stub(name)
    return stage


def test_a_host_gets_a_python_and_its_bucket(host):
    host.stub("mountpoint", Answer("-q", code=1))
    done = host.run("worker.sh", EXTRAS="data,tpu", MOUNT_BUCKET="films")
    assert done.code == 0, done.err
    assert host.calls("uv") == [["python", "install", "3.12"], ["python", "find", "--managed-python", "3.12"]]
    assert host.calls("curl") == []
    assert [words[0] for words in host.calls("sudo")] == ["mkdir", "chown"]
    (mounted,) = host.calls("gcsfuse")
    assert mounted[-2:] == ["films", "/mnt/films"]
    # Orbax renames folders; other hosts look for what one has just written.
    assert {"--implicit-dirs", "--metadata-cache-ttl-secs=0", "--metadata-cache-negative-ttl-secs=0"} <= set(mounted)
    (limit,) = [word for word in mounted if word.startswith("--rename-dir-limit=")]
    assert int(limit.split("=")[1]) >= 10_000


def test_what_is_mounted_stays(host):
    host.stub("mountpoint")
    assert host.run("worker.sh", EXTRAS="data,tpu", MOUNT_BUCKET="films").code == 0
    assert host.calls("gcsfuse") == host.calls("sudo") == []


def test_no_bucket_is_no_mount(host):
    host.stub("mountpoint", Answer("-q", code=1))
    assert host.run("worker.sh", EXTRAS="data,tpu").code == 0
    assert host.calls("gcsfuse") == host.calls("sudo") == []


def test_the_environment_is_made_with_that_python(host):
    """Another interpreter would be the image's, which is too old."""
    (host.project / ".venv" / "installed").unlink()
    host.stub("mountpoint")
    host.stub("uv", Answer("find", "/pythons/3.12/python\n"))
    done = host.run("worker.sh", EXTRAS="data,tpu")
    assert done.code == 1 and "tried /pythons/3.12/python" in done.err


@pytest.mark.parametrize("failing", [Answer("install", code=3), Answer("find", code=3)])
def test_a_host_without_python_is_a_failure(host, failing):
    host.stub("uv", failing)
    assert host.run("worker.sh", EXTRAS="data,tpu", MOUNT_BUCKET="films").code == 3
    assert host.calls("gcsfuse") == []
