"""The benchmark's step stage on a toy: one valid line, whose numbers agree with each other."""

import json

import pytest

from vssl_jax import bench


def test_the_step_is_one_json_line_whose_numbers_agree(capsys):
    bench.main(["--config=configs/videomae_vitb.py:smoke", "--stage=step", "--steps=2", "--warmup=1", "--repeats=3"])
    lines = capsys.readouterr().out.strip().splitlines()
    assert len(lines) == 1
    out = json.loads(lines[0])
    seconds = out["step_seconds"]
    assert out["stage"] == "step" and out["batch_size"] == 8 and out["dtype"] == "float32"
    assert 0 < seconds["min"] <= seconds["median"] <= seconds["max"]
    assert out["clips_per_second"] == pytest.approx(8 / seconds["median"], rel=1e-3)
    assert out["mfu"] is None  # nobody lists a CPU's peak
    assert out["compile_seconds"] > 0 and out["peak_bytes"] > 0 and out["tflops"] > 0
