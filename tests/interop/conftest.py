"""Tests of parity find torch, torchvision and transformers ready to import."""

import pytest


@pytest.fixture(autouse=True)
def torch_operators(request):
    if request.node.get_closest_marker("parity"):
        pytest.importorskip("torch")
        from tests.interop.torch_operators import declare

        declare()
