"""A step that does not fit is refused by numbers, before anything exists."""

import io
import re
from types import SimpleNamespace

import jax
import pytest

from tests.train import tiny
from vssl_jax.errors import UserError
from vssl_jax.train import fit
from vssl_jax.train import state as state_lib
from vssl_jax.train.checkpoint import Checkpointer
from vssl_jax.train.loop import compile_plan, train


def test_needed_bytes_count_arguments_temporaries_and_new_outputs_once():
    size = 4 * 256 * 256
    compiled = jax.jit(lambda x: x + 1, donate_argnums=0).lower(jax.ShapeDtypeStruct((256, 256), "float32")).compile()
    assert size <= fit.needed_bytes(compiled) < 1.5 * size  # donated: the output reuses the argument
    compiled = jax.jit(lambda x: x + 1).lower(jax.ShapeDtypeStruct((256, 256), "float32")).compile()
    assert 2 * size <= fit.needed_bytes(compiled) < 2.5 * size


def test_the_error_names_the_numbers_and_the_settings(monkeypatch):
    gib = fit.GIB
    memory = SimpleNamespace(
        argument_size_in_bytes=5 * gib, output_size_in_bytes=5 * gib, alias_size_in_bytes=4 * gib, temp_size_in_bytes=3 * gib
    )
    monkeypatch.setattr(fit, "device_bytes", lambda device: 8 * gib)
    compiled = SimpleNamespace(memory_analysis=lambda: memory)
    with pytest.raises(UserError) as caught:
        fit.check(compiled, jax.devices()[0], 2048)
    text = str(caught.value)
    assert "9.0 GiB" in text and "8.0 GiB" in text and "2048" in text and "\n" not in text
    for setting in ("train.batch_size", "train.grad_accumulation", "model.remat", "mesh.fsdp"):
        assert setting in text
    monkeypatch.setattr(fit, "device_bytes", lambda device: 9 * gib)
    assert fit.check(compiled, jax.devices()[0], 2048) == 9 * gib


@pytest.mark.parametrize(("platform", "batches"), [("tpu", 3), ("cpu", 7)])
def test_batches_that_wait_count(platform, batches, monkeypatch):
    """Those of the feed, and on a CPU those of the host's input, which are in the same memory."""
    gib, device = fit.GIB, SimpleNamespace(platform=platform, device_kind=platform)
    memory = SimpleNamespace(argument_size_in_bytes=9 * gib, output_size_in_bytes=0, alias_size_in_bytes=0, temp_size_in_bytes=0)
    compiled = SimpleNamespace(memory_analysis=lambda: memory)
    monkeypatch.setattr(fit, "device_bytes", lambda device: (9 + batches) * gib)
    assert fit.check(compiled, device, 8, gib) == 9 * gib
    with pytest.raises(UserError, match=f"needs 9.0 GiB per device and the batches that wait for it {batches * 1.01:.1f} GiB"):
        fit.check(compiled, device, 8, int(1.01 * gib))


@pytest.mark.parametrize("missing", ["needed", "available"])
def test_where_nobody_says_nothing_is_refused(missing, monkeypatch):
    memory = None if missing == "needed" else SimpleNamespace(
        argument_size_in_bytes=1, output_size_in_bytes=0, alias_size_in_bytes=0, temp_size_in_bytes=0
    )  # fmt: skip
    monkeypatch.setattr(fit, "device_bytes", lambda device: None if missing == "available" else 0)
    fit.check(SimpleNamespace(memory_analysis=lambda: memory), jax.devices()[0], 8)


def test_a_cpu_shares_the_machine_s_memory_among_its_devices():
    whole = fit.device_bytes(jax.devices()[0]) * jax.local_device_count()
    total = re.search(r"MemTotal:\s+(\d+) kB", open("/proc/meminfo").read())
    assert 2**28 < whole <= int(total.group(1)) * 1024


@pytest.mark.parametrize(("text", "limit"), [("1048576\n", 2**20), ("max\n", None)])
def test_a_container_s_limit_counts(monkeypatch, text, limit):
    whole = fit.host_bytes() if limit is None else None
    monkeypatch.setattr(fit, "open", lambda path: io.StringIO(text), raising=False)
    assert fit.host_bytes() == limit if limit else fit.host_bytes() >= whole


def test_nothing_exists_yet_when_it_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(fit, "device_bytes", lambda device: 16)
    made = []
    monkeypatch.setattr(
        state_lib, "init", lambda *a, init=state_lib.init: made.append(isinstance(jax.numpy.zeros(()), jax.core.Tracer)) or init(*a)
    )
    plan = tiny.plan(tiny.Regression(), tiny.rows(1), checkpointer=Checkpointer(tmp_path / "checkpoints", 1, 1))
    with pytest.raises(UserError, match="lower train"):
        compile_plan(plan)
    with pytest.raises(UserError, match="lower train"):
        train(plan)
    plan.checkpointer.close()
    assert made == [True, True]  # traced for its shapes, never computed
    assert plan.checkpointer.steps() == []
