"""Which errors say that another process is gone. (Hosts that are lost for real: test_resume.py.)"""

import jax
import pytest

from vssl_jax import cli
from vssl_jax.errors import UserError
from vssl_jax.train import lost

GONE = (
    "UNKNOWN: Gloo AllGather failed: [pair.cc:547] Connection closed by peer [127.0.0.1]:19614\nmore",
    "UNAVAILABLE: Failed to send RPC to coordination service.",
    "INTERNAL: NCCL operation ncclAllReduce(...) failed: remote process exited",
)


@pytest.fixture
def together(monkeypatch):
    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)


@pytest.mark.parametrize("kind", [jax.errors.JaxRuntimeError, ValueError])
@pytest.mark.parametrize("text", GONE)
def test_a_companion_that_is_gone_is_known_also_behind_another_error(together, text, kind):
    error = kind(text)
    assert lost.sign(error) == text.partition("\n")[0]
    behind = UserError("a checkpoint could not be written")
    behind.__cause__ = error
    assert lost.sign(behind) == lost.sign(error)


@pytest.mark.parametrize(
    "error",
    [
        jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory"),
        jax.errors.JaxRuntimeError("INTERNAL: bug"),
        jax.errors.JaxRuntimeError("INTERNAL: NCCL operation ncclGetUniqueId(&id) failed: unhandled system error"),
        ValueError("the coordination of axes is wrong"),
        OSError(GONE[0]),
        None,
    ],
)
def test_other_errors_say_nothing_of_it(together, error):
    assert lost.sign(error) is None


def test_alone_nobody_can_be_lost():
    assert lost.sign(jax.errors.JaxRuntimeError(GONE[0])) is None


@pytest.mark.parametrize("kind", [jax.errors.JaxRuntimeError, UserError])
def test_the_command_ends_with_one_line_and_the_code_of_a_lost_process(together, monkeypatch, capsys, kind):
    codes = []
    monkeypatch.setattr("os._exit", lambda code: codes.append(code) or (_ for _ in ()).throw(SystemExit(code)))
    monkeypatch.setattr("sys.argv", ["vssl_jax"])

    def fail(argv):
        try:
            raise jax.errors.JaxRuntimeError(GONE[0])
        except jax.errors.JaxRuntimeError as error:
            if kind is UserError:
                raise UserError("a checkpoint could not be written: check its space") from error
            raise

    with pytest.raises(SystemExit):
        cli.run(fail)
    said = capsys.readouterr().err
    assert codes == [134] and said.count("\n") == 1
    assert said.startswith("error: another process of the run was lost (UNKNOWN: Gloo") and "goes on from the last checkpoint" in said
