"""What pixels are normalized by comes from the processor of a checkpoint: folded by hand here, and (parity) by transformers' own processors."""

import json
import logging

import jax
import numpy as np
import pytest

from tests.interop import make_golden, test_class_token
from vssl_jax import models
from vssl_jax.errors import UserError
from vssl_jax.interop import class_token, huggingface, pixels, videomae
from vssl_jax.models import backbone
from vssl_jax.models.heads import FcNormHead, LinearHead
from vssl_jax.perturb.view import normalize

HALF = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.5, 0.25, 0.125]}
VIVIT = HALF | {"image_processor_type": "VivitImageProcessor", "rescale_factor": 1 / 127.5, "offset": True}
GREY = np.linspace(0, 255, 6, dtype=np.float32)[:, None]  # of three channels


def per_channel(values):
    return np.broadcast_to(np.float32(values), (6, 3))


@pytest.mark.parametrize(
    ("processor", "expected"),
    [
        (HALF, (GREY / 255 - np.float32(HALF["image_mean"])) / np.float32(HALF["image_std"])),
        (HALF | {"image_mean": 0.5, "image_std": 0.5}, per_channel(GREY / 127.5 - 1)),
        (VIVIT, (GREY / 127.5 - 1 - np.float32(HALF["image_mean"])) / np.float32(HALF["image_std"])),
        (VIVIT | {"offset": False}, (GREY / 127.5 - np.float32(HALF["image_mean"])) / np.float32(HALF["image_std"])),
        (VIVIT | {"do_normalize": False, "image_mean": None}, per_channel(GREY / 127.5 - 1)),
        (HALF | {"do_normalize": False}, per_channel(GREY / 255)),
        (HALF | {"do_rescale": False, "image_mean": 127.5, "image_std": 64}, per_channel((GREY - 127.5) / 64)),
        ({"do_rescale": False, "do_normalize": False}, per_channel(GREY)),
        ({"video_processor_type": "VivitVideoProcessor", "rescale_factor": 1 / 127.5, "do_normalize": False}, per_channel(GREY / 127.5 - 1)),
    ],
    ids=[
        "a mean and a deviation per channel", "one for all channels", "ViViT's, minus 1", "without the offset", "an offset, not normalized",
        "not normalized", "not rescaled", "as they are", "the offset that ViViT's for videos does not write",
    ],
)  # fmt: skip
def test_all_that_a_processor_does_to_values_is_one_normalization(processor, expected):
    made = pixels.folded(processor)
    np.testing.assert_allclose(normalize(GREY / 255, made["image_mean"], made["image_std"]), expected, atol=1e-5)


def test_vivits_own_range_in_numbers():
    """[-3, 1]: transformers rescales to [-1, 1] and normalizes that by mean and deviation 1/2."""
    made = pixels.folded(VIVIT | {"image_mean": 0.5, "image_std": 0.5})
    assert made == {"image_mean": [0.75] * 3, "image_std": [0.25] * 3}
    named_by_the_model = pixels.folded({"do_normalize": False}, "vivit")
    assert named_by_the_model == {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}


@pytest.mark.parametrize(
    "change", [{"image_mean": None}, {"image_std": [1, 1]}, {"rescale_factor": "1/255"}, {"image_std": 0}, {"rescale_factor": 0}]
)
def test_settings_that_are_no_numbers_are_refused(change):
    with pytest.raises(UserError, match=next(iter(change))) as error:
        pixels.folded(HALF | change)
    assert "\n" not in str(error.value)


def test_the_processor_for_videos_is_read_and_goes_before_the_one_for_pictures(tmp_path):
    huggingface.write(tmp_path, {"x": np.zeros(1, np.float32)}, {"model_type": "vivit"} | HALF)
    assert huggingface.read(tmp_path)[1]["image_std"] == HALF["image_std"]
    (tmp_path / "video_preprocessor_config.json").write_text(json.dumps(VIVIT | {"image_mean": 0.5, "image_std": 0.5}))
    assert huggingface.read(tmp_path)[1]["image_std"] == [0.25] * 3
    (tmp_path / "preprocessor_config.json").unlink()
    assert huggingface.read(tmp_path)[1]["image_std"] == [0.25] * 3


@pytest.mark.parametrize(
    ("of", "config", "mean", "std"),
    [
        (class_token, test_class_token.CONFIGS["timesformer"], 0.45, 0.225),
        (class_token, test_class_token.CONFIGS["vivit"], 0.5, 0.5),
        (videomae, make_golden.CLASSIFICATION | {"model_type": "videomae"}, 0.485, 0.229),
    ],
    ids=["timesformer", "vivit", "videomae"],
)
def test_without_a_processor_a_line_says_what_is_assumed_and_how_to_set_it(of, config, mean, std, caplog):
    with caplog.at_level(logging.WARNING):
        model = of.to_meta(config)["model"]
    assert (model["pixel_mean"][0], model["pixel_std"][0]) == (mean, std)
    (line,) = caplog.messages
    assert f"mean [{mean}" in line and f"std [{std}" in line and "image_mean" in line and "\n" not in line
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        assert of.to_meta(config | HALF)["model"]["pixel_std"] == HALF["image_std"]
    assert not caplog.messages


def logits_of_ours(folder, clip: np.ndarray) -> np.ndarray:
    state, config = huggingface.read(folder)
    of, head = (class_token, LinearHead) if config["model_type"] in class_token.ARCHITECTURES else (videomae, FcNormHead)
    parts, meta = of.from_huggingface(state, config)
    model = models.build(meta["model"])

    @jax.jit
    def run(parts, clip):
        features, _ = backbone.apply(
            model, parts["encoder"], {}, normalize(clip / 255, model.pixel_mean, model.pixel_std), train=False, method="features"
        )
        return head(meta["classes"]).apply({"params": parts["head"]}, features)

    return np.asarray(run(parts, clip))


@pytest.mark.parity
@pytest.mark.parametrize(
    ("kind", "processor", "settings"),
    [
        ("vivit", "VivitImageProcessor", {}),
        ("vivit", "VivitImageProcessor", {"offset": False}),
        ("vivit", "VivitVideoProcessor", {}),
        ("videomae", "VideoMAEImageProcessor", {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}),
        ("videomae", "VideoMAEVideoProcessor", {}),
        ("videomae", "VideoMAEVideoProcessor", {"do_normalize": False}),
        ("timesformer", "TimesformerVideoProcessor", {"image_mean": [0.45] * 3, "image_std": [0.225] * 3}),
    ],
)
def test_a_video_through_a_saved_processor_and_model_has_the_logits_that_the_import_gives_it(kind, processor, settings, tmp_path):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    if kind == "videomae":
        model = make_golden.torch_model(make_golden.CLASSIFICATION)
    else:
        state, meta = test_class_token.drawn(kind)
        config = test_class_token.CONFIGS[kind]
        huggingface.write(tmp_path, *class_token.to_huggingface(class_token.from_huggingface(state, config)[0], meta))
        model = getattr(transformers, config["architectures"][0]).from_pretrained(tmp_path).eval()
    model.save_pretrained(tmp_path)
    for name in pixels.PROCESSORS:
        (tmp_path / name).unlink(missing_ok=True)
    sizes = {"size": {"shortest_edge": 24}, "crop_size": {"height": 24, "width": 24}}
    getattr(transformers, processor)(**sizes, **settings).save_pretrained(tmp_path)
    saved = getattr(transformers, processor).from_pretrained(tmp_path)
    clip = np.random.default_rng(0).integers(0, 256, (1, 4, 24, 24, 3), np.uint8)
    with torch.no_grad():
        expected = model(saved(list(clip[0]), return_tensors="pt")["pixel_values"]).logits.numpy()
    assert np.std(expected) > 0.1
    np.testing.assert_allclose(logits_of_ours(tmp_path, clip.astype(np.float32)), expected, atol=1e-4)


@pytest.mark.parity
@pytest.mark.parametrize("auto", ["AutoImageProcessor", "AutoVideoProcessor"])
@pytest.mark.parametrize("kind", test_class_token.CONFIGS)
def test_the_processor_that_is_written_normalizes_as_the_model_wants(kind, auto, tmp_path):
    transformers = pytest.importorskip("transformers")
    state, meta = test_class_token.drawn(kind)
    meta["model"] |= {"pixel_mean": HALF["image_mean"], "pixel_std": HALF["image_std"]}
    huggingface.write(tmp_path, state, class_token.to_config(meta))
    clip = np.random.default_rng(0).integers(0, 256, (4, 24, 24, 3), np.uint8)
    made = getattr(transformers, auto).from_pretrained(tmp_path)(list(clip), return_tensors="np")["pixel_values"]
    expected = normalize(clip.astype(np.float32) / 255, *HALF.values())
    np.testing.assert_allclose(np.asarray(made)[0].transpose(0, 2, 3, 1), expected, atol=1e-5)
