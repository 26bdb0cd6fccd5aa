import pytest

from tests.launch import stubs


@pytest.fixture
def stage(tmp_path):
    return stubs.stage(tmp_path)
