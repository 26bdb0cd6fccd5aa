"""TensorFlow comes beside the compilation, and says what it lacks only where it is used."""

import subprocess
import sys

import pytest

from vssl_jax.data import recipe, tensorflow_host
from vssl_jax.errors import UserError


def test_only_videos_need_it(monkeypatch):
    started = []
    monkeypatch.setattr(tensorflow_host, "preload", lambda: started.append(1))
    recipe.preload({"source": "synthetic"})
    assert started == []
    recipe.preload({"source": "folder"})
    assert started == [1]


def test_a_failure_is_said_where_it_is_used(monkeypatch, recwarn):
    def fail():
        raise UserError("reading videos needs TensorFlow")

    monkeypatch.setattr(tensorflow_host, "tensorflow", fail)
    tensorflow_host.preload().join()
    with pytest.raises(UserError, match="needs TensorFlow"):
        tensorflow_host.tensorflow()
    assert not recwarn.list  # pytest reports what a thread raises


def test_the_main_thread_may_ask_for_it_meanwhile_and_keras_is_left_out():
    code = (
        "from vssl_jax.data import tensorflow_host as host; thread = host.preload(); first = host.tensorflow(); thread.join(); "
        "assert first is host.tensorflow() and first.data is not None; "
        "import os, sys; assert 'keras' not in sys.modules and 'TF_USE_LEGACY_KERAS' not in os.environ"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
