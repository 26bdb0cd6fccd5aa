"""A slice that is not here: what its compiled step needs, in figures that fit each other, and a refusal where it does not fit.

The real TPU compiler runs behind the marker `tpu` (pip install ".[tpu]"); the rest takes the simulated devices for a slice.
"""

import importlib.util
import json

import jax
import pytest
from jax.experimental import topologies

from tests.commands import CONFIGS, SMOKE, error_line, run
from vssl_jax import aot, chips
from vssl_jax.errors import UserError
from vssl_jax.train import sharding

SMALL = chips.Chip(flops=1e12, memory=2**30, bandwidth=1e11, links=4, link_bandwidth=1e10)
has_compiler = importlib.util.find_spec("libtpu") is not None


def simulate(patch):
    """The eight CPU devices stand for the slice."""
    patch.setattr(aot, "topology", lambda name: jax.devices())
    patch.setattr(chips, "chip", lambda device: SMALL)


def measured(*argv: str) -> dict:
    with pytest.MonkeyPatch.context() as patch:
        simulate(patch)
        done = run(aot.main, SMOKE, "--topology=v5e:2x4", "--json", "--config.model.width=256", *argv)
    assert done.code == 0 and not done.err, done.err
    return json.loads(done.out)


@pytest.fixture(scope="module")
def found():
    """Figures of data parallel training. Not to be changed."""
    return measured()


def test_figures_fit_each_other(found):
    assert (found["config"], found["chips"], found["mesh"]) == ("videomae_vitb:smoke", 8, {"data": 8, "fsdp": 1, "seq": 1, "model": 1})
    (step,) = found["turns"].values()
    assert found["fits"] and step["fits"] and 0 < step["peak_bytes"] < found["capacity_bytes"] == 2**30
    assert step["argument_bytes"] + step["temporary_bytes"] <= step["peak_bytes"]
    # the model's own work and the resampling of its crop
    assert found["model_flops"] < step["flops"]
    seconds = step["seconds"]
    assert seconds["compute"] == pytest.approx(step["flops"] / SMALL.flops)
    assert seconds["memory"] == pytest.approx(step["traffic_bytes"] / SMALL.bandwidth)
    assert seconds["step"] == max(seconds["compute"], seconds["memory"], seconds["links"]) == seconds[step["bound"]]
    assert step["clips_per_second"] == pytest.approx(found["batch_size"] / seconds["step"])
    assert {c["kind"] for c in step["collectives"]} == {"all-reduce"} and all(c["group"] == 8 for c in step["collectives"])
    assert step["uncounted"] == []


def test_what_is_sharded_is_gathered(found):
    """Parameters over fsdp: less of them on each device, and gathered to be used."""
    parts = measured("--config.mesh.data=1", "--config.mesh.fsdp=-1")
    (whole_step,), (parts_step,) = found["turns"].values(), parts["turns"].values()
    assert parts["mesh"] == {"data": 1, "fsdp": 8, "seq": 1, "model": 1}
    assert parts_step["argument_bytes"] < 0.4 * whole_step["argument_bytes"]
    assert any(c["kind"] == "all-gather" for c in parts_step["collectives"])


WORDS = ("arguments", "temporaries", "matrix products", "memory traffic", "all-reduce of 8", "least step time", "clips/s")


def test_a_person_reads_all_of_it(found):
    text = "\n".join(aot.lines("v5e:2x4", found))
    for word in ("fits", *WORDS):
        assert word in text
    assert "on 8 x cpu (v5e:2x4), mesh data=8" in text


def test_what_does_not_fit_ends_with_1_and_the_settings_to_change(monkeypatch):
    simulate(monkeypatch)
    monkeypatch.setattr(chips, "chip", lambda device: chips.Chip(1e12, 2**20, 1e11, 4, 1e10))
    done = run(aot.main, SMOKE, "--topology=v5e:2x4")
    assert done.code == 1 and "DOES NOT FIT" in done.out
    for word in WORDS:
        assert word in done.out
    assert "on 8 x cpu (v5e:2x4), mesh data=8" in done.out
    for setting in ("train.batch_size", "train.grad_accumulation", "model.remat", "mesh.fsdp"):
        assert setting in done.err
    assert done.err.count("\n") == 1 and "1.00 MiB" not in done.err.split("and it has")[0]


@pytest.mark.parametrize(
    ("text", "needed"),
    [
        (
            "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries (45.16G) exceeds available HBM (15.75G).",
            46.16,  # with the arguments
        ),
        (
            "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space hbm. Used 20.00G of 15.75G hbm. Exceeded",
            20.0,
        ),
    ],
)
def test_the_compilers_refusal_is_a_figure(text, needed):
    class Step:
        def compile(self):
            raise jax.errors.JaxRuntimeError(text)

    assert aot._compile(Step(), arguments=2**30) == int(needed * 2**30)


def test_another_error_of_the_compiler_is_not_taken_for_it():
    class Step:
        def compile(self):
            raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        aot._compile(Step(), arguments=0)


def test_this_machines_own_compiler_has_no_capacity_and_no_times():
    done = run(aot.main, SMOKE, "--topology=local:2", "--json", "--config.model.depth=1")
    found = json.loads(done.out)
    (step,) = found["turns"].values()
    assert done.code == 0 and found["chips"] == 2 and found["capacity_bytes"] is None and "seconds" not in step
    assert step["flops"] > 0 and found["parameters"] * 4 == pytest.approx(found["state_bytes"] / 3, rel=0.01)
    text = aot.lines("r", found)
    assert any("batches that wait" in line for line in text) and not any("clips/s" in line or "fit" in line.lower() for line in text)
    assert "there are 8 devices here" in error_line(run(aot.main, SMOKE, "--topology=local:9"))


@pytest.mark.parametrize("name", ["local:0", "v5e", "v5e:16", "16x16", "v5e:4x4x4x4", "v5e:4 x 4"])
def test_a_slice_is_a_chip_and_a_shape(name):
    assert "v5e:4x4" in error_line(run(aot.main, SMOKE, f"--topology={name}"))


def test_no_slice_is_one_line():
    assert "--topology=v5e:4x4" in error_line(run(aot.main, SMOKE))


def test_no_compiler_is_one_line(monkeypatch):
    def none(**options):
        raise RuntimeError("JAX TPU support not installed; cannot generate TPU topology.")

    monkeypatch.setattr(topologies, "get_topology_desc", none)
    assert "pip install '.[tpu]'" in error_line(run(aot.main, SMOKE, "--topology=v5e:4x4"))


def test_every_chip_of_the_table_has_a_peak():
    assert all(chip.flops > 1e14 for chip in chips.CHIPS.values())
    assert all(chip.memory and chip.bandwidth and chip.links and chip.link_bandwidth for name, chip in chips.CHIPS.items() if "TPU" in name)


@pytest.mark.tpu
@pytest.mark.skipif(not has_compiler, reason="pip install '.[tpu]'")
class TestTPU:
    """By libtpu, for chips that are not here."""

    @pytest.mark.timeout(900)
    def test_vitb_on_16_chips(self):
        done = run(aot.main, f"--config={CONFIGS / 'videomae_vitb.py'}", "--topology=v5e:4x4", "--json", "--config.train.batch_size=128")
        found = json.loads(done.out)
        (step,) = found["turns"].values()
        assert done.code == 0 and found["chip"] == "TPU v5 lite" and found["chips"] == 16
        # parameters and two moments in float32, and the batch
        assert step["argument_bytes"] == pytest.approx(3 * 4 * 94_210_944 + found["waiting_bytes"] / 3, rel=0.05)
        # the model's products, the crop's resampling, the padding of attention's lengths to blocks of 128, its scores made anew twice
        assert found["remat"] == "dots" and 1.0 < step["flops"] / found["model_flops"] < 1.3
        assert {(c["kind"], c["group"]) for c in step["collectives"]} == {("all-reduce", 16)}
        assert step["uncounted"] == []

    @pytest.mark.timeout(900)
    def test_what_the_compiler_cannot_place(self):
        done = run(aot.main, f"--config={CONFIGS / 'videomae_vitb.py'}", "--topology=v5e:2x2", "--config.train.batch_size=1024")
        assert done.code == 1 and "DOES NOT FIT" in done.out and "15.75 GiB" in done.err

    @pytest.mark.parametrize(("name", "why"), [("v5e:3x5", "no slice"), ("v9:2x2", "no slice")])
    def test_no_such_slice(self, name, why):
        with pytest.raises(UserError, match=why):
            aot.topology(name)

    def test_two_cores_of_a_v4_are_one_device(self):
        assert len(aot.topology("v4:2x2x4")) == 16

    @pytest.mark.parametrize("name", ["v4:4x8x8", "v5p:4x8x8", "v5e:16x16", "v6e:16x16"])
    @pytest.mark.parametrize("sizes", [{}, {"fsdp": 4}, {"model": 2}, {"fsdp": 16, "model": 2}], ids=str)
    def test_a_mesh_has_every_chip_also_where_its_axes_are_no_whole_rows_of_chips(self, name, sizes):
        chips = aot.topology(name)
        placed = sharding.make_mesh({"data": -1} | sizes, chips).devices
        assert placed.shape[1:] == (sizes.get("fsdp", 1), 1, sizes.get("model", 1))
        assert {chip.id for chip in placed.flat} == {chip.id for chip in chips} and placed.size == 256
