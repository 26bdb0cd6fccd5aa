"""torchvision's video networks against ours on the same random weights: outputs, gradients, running statistics, strict loading both ways."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.interop import make_golden
from vssl_jax import convert, models
from vssl_jax.interop import torchvision
from vssl_jax.models import backbone
from vssl_jax.models.heads import LinearHead

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")
pytest.importorskip("safetensors.torch")
torch_video = pytest.importorskip("tests.interop.torch_video")

CLASSES = 11
# Odd sides. torchvision's s3d ends in windows of 2 slots and 7x7 places and takes nothing smaller: for gradients it gets smaller windows.
SMALL = {"r3d_18": (2, 5, 21, 20, 3), "mc3_18": (2, 4, 21, 20, 3), "r2plus1d_18": (2, 5, 21, 20, 3), "s3d": (2, 25, 37, 40, 3)}
LARGE = {"r3d_18": (2, 9, 61, 60, 3), "mc3_18": (2, 5, 61, 60, 3), "r2plus1d_18": (2, 9, 61, 60, 3), "s3d": (1, 25, 209, 224, 3)}


def clip(shape):
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


def weights_of(logits_BxC):
    """What multiplies them into one number."""
    return np.cos(np.arange(np.prod(logits_BxC.shape))).reshape(logits_BxC.shape)


def theirs(made, name, pixels):
    """(map, logits) of torchvision."""
    maps = []
    last = made.features if name == "s3d" else made.layer4
    hook = last.register_forward_hook(lambda _, __, out: maps.append(out))
    logits = made(pixels)
    hook.remove()
    return maps[0], logits


def ours(model, params, stats, pixels, train):
    """(logits, (map, statistics afterwards)) of ours."""
    out, stats = backbone.apply(model, params["encoder"], stats, pixels, train=train, method="features")
    return LinearHead(CLASSES).apply({"params": params["head"]}, out), (out.map_BxTxHxWxD, stats)


@pytest.mark.parametrize("name", LARGE)
def test_features_and_logits_in_evaluation(name):
    made, pixels = torch_video.model(name, CLASSES), clip(LARGE[name])
    with torch.no_grad():
        expected = theirs(made, name, torch_video.channels_first(pixels))
    parts, meta = torchvision.from_torchvision({key: value.numpy() for key, value in made.state_dict().items()})
    model = models.build(meta["model"])
    logits, (found, _) = jax.jit(lambda parts, x: ours(model, parts, parts["stats"], x, False))(parts, pixels)
    assert 0.1 < np.std(expected[1].numpy()) < 10
    np.testing.assert_allclose(found, torch_video.channels_last(expected[0]), atol=1e-4, rtol=1e-4)
    np.testing.assert_allclose(logits, expected[1].numpy(), atol=1e-4)


def their_gradients(name, pixels, train):
    """(map, logits, gradient of the pixels, gradients by name, state before, state afterwards) of torchvision in float64."""
    made = torch_video.model(name, CLASSES).double().train(train)
    before = {key: value.numpy().copy() for key, value in made.state_dict().items()}
    if name == "s3d":
        made.avgpool = torch.nn.AvgPool3d((2, 1, 1), stride=1)
        made.classifier[0].eval()  # the dropout
    pixels = torch_video.channels_first(pixels).double().requires_grad_()
    found, logits = theirs(made, name, pixels)
    (logits * torch.from_numpy(weights_of(logits))).sum().backward()
    grads = {key: value.grad.numpy() for key, value in made.named_parameters()}
    after = {key: value.numpy() for key, value in made.state_dict().items()}
    return torch_video.channels_last(found), logits.detach().numpy(), torch_video.channels_last(pixels.grad), grads, before, after


def our_gradients(state, pixels, train):
    """As `their_gradients`, without the state before; names are torchvision's."""
    parts, meta = torchvision.from_torchvision(state)
    model = models.build(meta["model"] | {"dtype": "float64"})
    parts, pixels = jax.tree.map(lambda x: np.asarray(x, np.float64), (parts, pixels))

    def loss(params, pixels):
        logits, (found, stats) = ours(model, params, parts["stats"], pixels, train)
        return jnp.vdot(logits, weights_of(logits)), (found, logits, stats)

    params = {key: parts[key] for key in ("encoder", "head")}
    run = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))
    (_, (found, logits, stats)), (grads, of_pixels) = jax.tree.map(np.asarray, run(params, pixels))
    grads, _ = torchvision.to_torchvision(grads | {"stats": parts["stats"]}, meta)
    after, _ = torchvision.to_torchvision(params | {"stats": stats}, meta)
    return found, logits, of_pixels, grads, after


def assert_close(found, expected, what):
    """Within 1e-5 of the largest value: heads and means are float32 here."""
    scale = np.max(np.abs(expected))
    assert np.max(np.abs(found - expected)) <= 1e-5 * scale, f"{what}: {np.max(np.abs(found - expected)):.2e} of {scale:.2e}"


@pytest.mark.parametrize("train", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize("name", SMALL)
def test_gradients_and_statistics(name, train):
    """In float64: in float32 rounding turns a ReLU on or off here and there, and with it a piece of a gradient."""
    *expected, their_grads, before, their_after = their_gradients(name, clip(SMALL[name]), train)
    with jax.enable_x64(True):
        *found, our_grads, our_after = our_gradients(before, clip(SMALL[name]), train)
    for what, a, b in zip(("map", "logits", "gradient of the pixels"), found, expected, strict=True):
        assert_close(a, b, what)
    for key, value in their_grads.items():
        assert_close(our_grads[key], value, f"gradient of {key}")
    running = [key for key in their_after if "running" in key]
    for key in running:
        assert_close(our_after[key], their_after[key], key)
    moved = sum(np.max(np.abs(their_after[key] - before[key])) > 1e-5 for key in running)
    assert moved == (len(running) if train else 0)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("name", ["r2plus1d_18", "s3d"])
def test_files_go_there_and_back_and_load_strictly(name, suffix, tmp_path):
    from safetensors.torch import load_file

    made = torch_video.model(name, CLASSES)
    source, back = tmp_path / f"source{suffix}", tmp_path / f"back{suffix}"
    torchvision.write(source, {key: value.numpy() for key, value in made.state_dict().items()})
    assert convert.main([f"--source={source}", f"--target={tmp_path / 'export'}"]) == 0
    assert convert.main([f"--source={tmp_path / 'export'}", f"--target={back}"]) == 0
    loaded = torch.load(back, weights_only=True) if suffix == ".pth" else load_file(back)
    again = torch_video.model(name, CLASSES, seed=1)
    again.load_state_dict(loaded, strict=True)
    for key, value in made.state_dict().items():
        assert torch.equal(again.state_dict()[key], value) or key.endswith("num_batches_tracked"), key


@pytest.mark.parametrize("name", SMALL)
def test_names_are_those_of_the_golden_list(name):
    """tests/interop/test_torchvision.py runs without torch, on these."""
    assert (make_golden.GOLDEN / f"{name}.txt").read_text().split() == sorted(torch_video.model(name, CLASSES).state_dict())
