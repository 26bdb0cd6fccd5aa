"""Tests of parity find torch, torchvision and transformers ready to import."""

import builtins

import pytest


@pytest.fixture(autouse=True)
def torch_operators(request):
    if request.node.get_closest_marker("parity"):
        pytest.importorskip("torch")
        from tests.interop.torch_operators import declare

        declare()


@pytest.fixture
def without_torch(monkeypatch):
    """torch is not installed."""
    real = builtins.__import__

    def importing(name, *args, **kw):
        if name == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
        return real(name, *args, **kw)

    monkeypatch.setattr(builtins, "__import__", importing)
