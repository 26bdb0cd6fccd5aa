"""Against transformers itself: other sizes than the golden files, all gradients, and strict loading of what is exported."""

import numpy as np
import pytest

from tests.interop import make_golden, ours
from vssl_jax.interop import huggingface, videomae

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

CONFIGS = {
    "pretraining": make_golden.PRETRAINING | {
        "image_size": 48, "patch_size": 16, "num_frames": 6, "num_hidden_layers": 3, "hidden_size": 40, "num_attention_heads": 5,
        "intermediate_size": 72, "decoder_hidden_size": 28, "decoder_num_attention_heads": 7, "decoder_num_hidden_layers": 2,
        "decoder_intermediate_size": 52,
    },
    "pretraining without final norm": make_golden.PRETRAINING | {"use_mean_pooling": True, "tubelet_size": 1},
    "classification": make_golden.CLASSIFICATION | {"num_labels": 7, "num_frames": 6, "hidden_size": 48, "num_attention_heads": 4},
}  # fmt: skip


@pytest.mark.parametrize("name", CONFIGS)
def test_logits_loss_and_all_gradients(name):
    config = CONFIGS[name]
    ref = make_golden.reference(config, seed=3)
    pixels, mask, labels = make_golden.inputs(config)
    target = labels if name == "classification" else mask
    loss, logits, grads = ours.run(make_golden.weights(ref.shapes, seed=3), ref.config, pixels, target)
    np.testing.assert_allclose(logits, ref.logits, atol=1e-5, rtol=0)
    assert loss == pytest.approx(ref.loss, abs=1e-5)
    assert set(grads) == set(ref.grads)
    for key, expected in ref.grads.items():
        np.testing.assert_allclose(grads[key], expected, atol=1e-5, rtol=1e-5, err_msg=key)


@pytest.mark.parametrize("name", CONFIGS)
def test_what_is_exported_loads_strictly_and_gives_the_same_logits(name, tmp_path):
    config = CONFIGS[name]
    ref = make_golden.reference(config, seed=3)
    parts, meta = videomae.from_huggingface(make_golden.weights(ref.shapes, seed=3), ref.config)
    huggingface.write(tmp_path, *videomae.to_huggingface(parts, meta))

    cls = getattr(transformers, config["architectures"][0])
    model, info = cls.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values()), info
    state, _ = huggingface.read(tmp_path)
    model.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()}, strict=True)
    (model.fc_norm if name == "classification" else model.decoder.norm).eps = 1e-6
    pixels, mask, _ = make_golden.inputs(config)
    pixels = torch.from_numpy(pixels.transpose(0, 1, 4, 2, 3).copy())
    with torch.no_grad():
        out = model.eval()(pixels) if name == "classification" else model.eval()(pixels, bool_masked_pos=torch.from_numpy(mask))
    np.testing.assert_allclose(out.logits.numpy(), ref.logits, atol=1e-6)


@pytest.mark.parametrize("name", CONFIGS)
def test_what_transformers_saves_loads(name, tmp_path):
    """With the file names and the spelling of keys that this version of transformers writes."""
    model = make_golden.torch_model(CONFIGS[name], seed=3)
    model.save_pretrained(tmp_path)
    state, config = huggingface.read(tmp_path)
    parts, meta = videomae.from_huggingface(state, config)
    exported, _ = videomae.to_huggingface(parts, meta)
    expected = model.state_dict()
    assert set(exported) == set(expected)
    for key, value in exported.items():
        np.testing.assert_array_equal(value, expected[key].numpy(), err_msg=key)


@pytest.mark.parametrize("kind", ["pretraining", "classification"])
def test_golden_files_are_what_the_script_makes(kind):
    golden = make_golden.load(kind)
    fresh = make_golden.reference(getattr(make_golden, kind.upper()))
    assert golden.config == fresh.config and golden.shapes == fresh.shapes
    np.testing.assert_allclose(golden.logits, fresh.logits, atol=1e-6)
