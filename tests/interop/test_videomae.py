"""Weights of VideoMAE in and out, without torch: against golden files, and by round trips."""

import functools
import json

import numpy as np
import pytest

from tests.interop import make_golden, ours
from tests.train import tiny
from vssl_jax import convert
from vssl_jax.errors import UserError
from vssl_jax.interop import huggingface, videomae
from vssl_jax.perturb.view import IMAGENET_STD
from vssl_jax.train import checkpoint

KINDS = ("pretraining", "classification")


@functools.cache
def golden(kind):
    ref = make_golden.load(kind)
    return ref, make_golden.weights(ref.shapes)


@pytest.mark.parametrize("kind", KINDS)
def test_logits_loss_and_gradients_are_those_of_transformers(kind):
    ref, state = golden(kind)
    pixels, mask, labels = make_golden.inputs(ref.config)
    loss, logits, grads = ours.run(state, ref.config, pixels, mask if kind == "pretraining" else labels)
    np.testing.assert_allclose(logits, ref.logits, atol=1e-5, rtol=0)
    assert loss == pytest.approx(ref.loss, abs=1e-5)
    assert len(ref.grads) >= 7 and set(grads) == set(ref.shapes)
    for name, expected in ref.grads.items():
        np.testing.assert_allclose(grads[name], expected, atol=1e-5, rtol=0, err_msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_import_of_export_is_bit_equal_and_so_is_export_of_import(kind):
    ref, state = golden(kind)
    parts, meta = videomae.from_huggingface(state, ref.config)
    exported, config = videomae.to_huggingface(parts, meta)
    tiny.assert_same_bits(exported, state)
    again, meta_again = videomae.from_huggingface(exported, config)
    tiny.assert_same_bits(again, parts)
    assert meta_again == meta


def test_both_spellings_of_the_attention_biases_load():
    ref, state = golden("pretraining")
    old = {k.replace("query.bias", "q_bias").replace("value.bias", "v_bias"): v for k, v in state.items()}
    assert set(old) != set(state)
    tiny.assert_same_bits(videomae.from_huggingface(old, ref.config)[0], videomae.from_huggingface(state, ref.config)[0])
    both = old | {k: v for k, v in state.items() if k.endswith("layer.0.attention.attention.query.bias")}
    with pytest.raises(UserError, match=r"layer.0.attention.attention.query.bias twice"):
        videomae.from_huggingface(both, ref.config)


def test_every_missing_extra_and_misshapen_key_is_listed():
    ref, state = golden("pretraining")
    bad = {k: v for k, v in state.items() if k not in ("mask_token", "decoder.norm.bias")}
    bad |= {"videomae.extra": np.zeros(3, np.float32), "decoder.head.bias": np.zeros(3, np.float32)}
    with pytest.raises(UserError) as error:
        videomae.from_huggingface(bad, ref.config)
    message = str(error.value)
    assert "missing: decoder.norm.bias, mask_token" in message
    assert "unexpected: videomae.extra" in message
    assert "of another shape: decoder.head.bias (3,), not (384,)" in message
    assert "\n" not in message


def test_every_key_is_needed():
    """None has a silent default: an empty checkpoint misses them all."""
    ref, _ = golden("classification")
    with pytest.raises(UserError) as error:
        videomae.from_huggingface({}, ref.config)
    assert str(error.value).endswith("missing: " + ", ".join(sorted(ref.shapes)))


def test_an_export_of_another_model_is_refused():
    ref, state = golden("pretraining")
    parts, meta = videomae.from_huggingface(state, ref.config)
    del parts["encoder"]["norm"]["bias"]
    parts["decoder"]["mask_token"] = np.zeros(7, np.float32)
    with pytest.raises(UserError, match=r"missing: encoder/norm/bias; of another shape: decoder/mask_token \(7,\), not \(24,\)"):
        videomae.to_huggingface(parts, meta)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"model_type": "vit_mae"}, "model_type='vit_mae'"),
        ({"qv_bias": False}, "qv_bias=False"),
        ({"hidden_act": "gelu_new"}, "hidden_act='gelu_new'"),
        ({"architectures": ["VideoMAEModel"]}, "architecture VideoMAEModel"),
        ({"architectures": ["VideoMAEForVideoClassification"]}, "use_mean_pooling=false"),
        ({"image_size": [24, 32]}, "only square"),
        ({"patch_size": "8"}, "patch_size='8': it must be a whole number"),
        ({"tubelet_size": [2]}, r"tubelet_size=\[2\]: it must be a whole number"),
        ({"decoder_hidden_size": None}, "decoder_hidden_size=None"),
    ],
)
def test_what_is_not_videomae_is_refused(change, message):
    ref, state = golden("pretraining")
    with pytest.raises(UserError, match=message):
        videomae.from_huggingface(state, ref.config | change)


@pytest.mark.parametrize("target", ["folder", "file/weights.safetensors"])
def test_convert_there_and_back(tmp_path, target):
    ref, state = golden("pretraining")
    huggingface.write(tmp_path / "source", state, ref.config)
    assert convert.main([f"--source={tmp_path / 'source'}", f"--target={tmp_path / 'export'}"]) == 0
    assert convert.main([f"--source={tmp_path / 'export'}", f"--target={tmp_path / target}"]) == 0
    back, config = huggingface.read(tmp_path / target)
    tiny.assert_same_bits(back, state)
    assert set(checkpoint.load_export(tmp_path / "export")[0]) == {"encoder", "method/decoder"}
    assert {k: v for k, v in ref.config.items() if k in config} == {k: v for k, v in config.items() if k in ref.config}


def test_the_export_of_a_run_converts(tmp_path):
    """A run's export names sizes in its recipe: a preset backbone, a decoder without `out`, dtype auto, a kernel that only a TPU has."""
    ref, state = golden("pretraining")
    parts, meta = videomae.from_huggingface(state, ref.config)
    objective = {"name": "videomae", "decoder": {k: v for k, v in meta["decoder"].items() if k != "out"}}
    model = meta["model"] | {"dtype": "auto", "remat": "none", "impl": "splash"}
    export = {"encoder": parts["encoder"], "method/decoder": parts["decoder"]}
    checkpoint.save_export(tmp_path / "run" / "export", export, {"model": model, "step": 3, "config": {"objective": objective}})
    assert convert.main([f"--source={tmp_path / 'run'}", f"--target={tmp_path / 'out'}"]) == 0
    tiny.assert_same_bits(huggingface.read(tmp_path / "out")[0], state)


def test_the_statistics_of_the_pixels_go_with_the_weights(tmp_path):
    ref, state = golden("pretraining")
    parts, meta = videomae.from_huggingface(state, ref.config)
    model = meta["model"] | {"pixel_mean": [0.5, 0.4, 0.3], "pixel_std": [0.1, 0.2, 0.3]}
    huggingface.write(tmp_path, *videomae.to_huggingface(parts, meta | {"model": model}))
    assert json.loads((tmp_path / "preprocessor_config.json").read_text())["image_std"] == [0.1, 0.2, 0.3]
    assert "image_std" not in json.loads((tmp_path / "config.json").read_text())
    assert videomae.from_huggingface(*huggingface.read(tmp_path))[1]["model"] == model
    (tmp_path / "preprocessor_config.json").unlink()
    assert videomae.from_huggingface(*huggingface.read(tmp_path))[1]["model"]["pixel_std"] == list(IMAGENET_STD)


def test_an_export_without_a_decoder_or_a_head_is_refused():
    with pytest.raises(UserError, match="holds encoder, projector: only a VideoMAE"):
        convert.videomae_of_export({"encoder": {}, "method/projector": {}}, {"model": {"name": "vit_base"}})


def test_convert_says_in_one_line_what_is_wrong(tmp_path, capsys):
    ref, state = golden("pretraining")
    cases = {"nothing there": tmp_path / "none"}
    huggingface.write(tmp_path / "no_config", state, ref.config)
    (tmp_path / "no_config" / "config.json").unlink()
    cases["config.json is missing"] = tmp_path / "no_config"
    huggingface.write(tmp_path / "cut", state, ref.config)
    file = tmp_path / "cut" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    cases["not a complete safetensors file"] = tmp_path / "cut"
    for expected, source in cases.items():
        assert convert.main([f"--source={source}", f"--target={tmp_path / 'out'}"]) == 1
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1
        if expected != "nothing there":
            assert expected in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [("pretraining", {"positions": "sincos_3d"}, "sincos_1d only"), ("classification", {"final_norm": True}, "from its first token")],
)
def test_a_model_that_transformers_would_compute_otherwise_is_refused(kind, change, message):
    ref, _ = golden(kind)
    meta = videomae.to_meta(ref.config)
    with pytest.raises(UserError, match=message):
        videomae.to_config(meta | {"model": meta["model"] | change})


@pytest.mark.parametrize("normalized", [True, False])
def test_the_target_of_a_run_s_recipe_goes_into_config_json(normalized):
    ref, state = golden("pretraining")
    parts, meta = videomae.from_huggingface(state, ref.config)
    objective = {"decoder": {k: v for k, v in meta["decoder"].items() if k != "out"}, "normalize_target": normalized}
    export = {"encoder": parts["encoder"], "method/decoder": parts["decoder"]}
    _, config = videomae.to_huggingface(*convert.videomae_of_export(export, {"model": meta["model"], "config": {"objective": objective}}))
    assert config["norm_pix_loss"] is normalized
    there = videomae.to_meta(config)
    assert there["normalize_target"] is normalized and videomae.to_config(there)["norm_pix_loss"] is normalized


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ({"config.json": '{"seed": 0}'}, "a config.json without model_type"),
        ({"config.json": "not JSON"}, "a config.json without model_type"),
        ({"metrics.jsonl": ""}, "metrics.jsonl"),
        ({"checkpoints/1/x": ""}, "checkpoints"),
        ({"export/meta.json": "{}"}, "export"),
        ({"meta.json": "{}"}, "meta.json"),
        ({"config.json": '{"model_type": "videomae"}', "model.safetensors.index.json": "{}"}, "model.safetensors.index.json"),
        ({"config.json": '{"model_type": "videomae"}', "others.safetensors": ""}, "others.safetensors"),
        ({"video_preprocessor_config.json": "{}"}, "video_preprocessor_config.json"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
@pytest.mark.parametrize("name", ["", "weights.safetensors"])
def test_what_is_written_for_transformers_takes_no_run_s_and_no_other_weights_place(held, said, name, tmp_path):
    ref, state = golden("pretraining")
    for file, text in held.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(text)
    before = contents(tmp_path)
    with pytest.raises(UserError, match=f"holds {said}, which these weights do not belong to") as error:
        huggingface.write(tmp_path / name, state, ref.config)
    assert "\n" not in str(error.value) and contents(tmp_path) == before


@pytest.mark.parametrize("name", ["", "weights.safetensors"])
def test_what_was_written_for_transformers_is_written_again(name, tmp_path):
    ref, state = golden("pretraining")
    huggingface.write(tmp_path / name, {key: value + 1 for key, value in state.items()}, ref.config)
    huggingface.write(tmp_path / name, state, ref.config)
    tiny.assert_same_bits(huggingface.read(tmp_path / name)[0], state)


def test_convert_takes_no_other_folders_place_and_says_where_it_cannot_write(tmp_path, capsys):
    ref, state = golden("pretraining")
    huggingface.write(tmp_path / "source", state, ref.config)
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    assert convert.main([f"--source={tmp_path / 'source'}", f"--target={tmp_path / 'run'}"]) == 1
    assert (
        "holds checkpoints, and an export would take its place" in capsys.readouterr().err and (tmp_path / "run" / "checkpoints").is_dir()
    )
    assert convert.main([f"--source={tmp_path / 'source'}", f"--target={tmp_path / 'export'}"]) == 0
    (tmp_path / "file").write_text("x")
    assert convert.main([f"--source={tmp_path / 'export'}", f"--target={tmp_path / 'file'}"]) == 1
    error = capsys.readouterr().err
    assert "cannot be written" in error and error.count("\n") == 1 and (tmp_path / "file").read_text() == "x"
