"""What transformers computes for small random VideoMAE models: the reference of tests/interop.

    python -m tests.interop.make_golden        # rewrites tests/interop/golden/*.npz; needs torch and transformers

A golden file holds names and shapes of the tensors, the config, the outputs and some gradients, but no weights and no input: both are
drawn by numpy's legacy generator, whose streams are frozen, so the files stay small. LayerNorm's epsilon is set to 1e-6 everywhere, as in
the paper's code; transformers hard-codes 1e-5 in decoder.norm and fc_norm.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tests.interop import torch_operators

GOLDEN = Path(__file__).parent / "golden"
COMMON = {"layer_norm_eps": 1e-6, "num_hidden_layers": 2, "num_attention_heads": 3, "num_frames": 4, "tubelet_size": 2}
PRETRAINING = COMMON | {
    "architectures": ["VideoMAEForPreTraining"], "use_mean_pooling": False, "image_size": 24, "patch_size": 8, "hidden_size": 36,
    "intermediate_size": 100, "decoder_hidden_size": 24, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2,
    "decoder_intermediate_size": 60,
}  # fmt: skip
CLASSIFICATION = COMMON | {
    "architectures": ["VideoMAEForVideoClassification"], "use_mean_pooling": True, "image_size": 24, "patch_size": 8, "hidden_size": 36,
    "intermediate_size": 100, "num_labels": 5,
}  # fmt: skip
# Gradients that a golden file keeps: ends, middle, a weight of every kind.
KEPT = (
    "videomae.embeddings.patch_embeddings.projection.bias",
    "videomae.encoder.layer.0.attention.attention.query.weight",
    "videomae.encoder.layer.1.attention.attention.key.weight",
    "videomae.encoder.layer.1.attention.attention.value.bias",
    "videomae.encoder.layer.0.layernorm_after.weight",
    "videomae.encoder.layer.1.attention.output.dense.weight",
    "encoder_to_decoder.weight",
    "mask_token",
    "decoder.decoder_layers.0.attention.attention.query.bias",
    "decoder.norm.weight",
    "decoder.head.bias",
    "fc_norm.weight",
    "classifier.weight",
)


class Reference(NamedTuple):
    """Inputs and what transformers makes of them; `shapes` is the checkpoint, `grads` the gradients of the loss by name."""

    config: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]
    logits: np.ndarray
    loss: float
    grads: dict[str, np.ndarray]


def weights(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, np.ndarray]:
    """Random tensors by name. Every one-dimensional one is random too: zero biases and unit scales hide bugs."""
    rng = np.random.RandomState(seed)
    out = {}
    for name in sorted(shapes):
        value = rng.standard_normal(shapes[name]) * (0.3 if len(shapes[name]) == 1 else 0.15)
        is_scale = name.endswith("weight") and len(shapes[name]) == 1
        out[name] = (value + is_scale).astype(np.float32)
    return out


def inputs(config: dict[str, Any], visible: int = 5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Normalized pixels [2,T,H,W,3], the mask [2,N] of all tokens but `visible`, labels [2]."""
    rng = np.random.RandomState(1)
    size, patch = config["image_size"], config["patch_size"]
    pixels = rng.standard_normal((2, config["num_frames"], size, size, 3)).astype(np.float32)
    tokens = config["num_frames"] // config["tubelet_size"] * (size // patch) ** 2
    mask = np.stack([rng.permutation(tokens) >= visible for _ in range(2)])
    return pixels, mask, np.array([3, 1])


def torch_model(config: dict[str, Any], seed: int = 0):
    """The model of transformers with the weights above."""
    import torch

    torch_operators.declare()
    import transformers

    name = config["architectures"][0]
    model = getattr(transformers, name)(transformers.VideoMAEConfig(**{k: v for k, v in config.items() if k != "architectures"}))
    for norm in (model.decoder.norm,) if "Pre" in name else (model.fc_norm,):
        norm.eps = 1e-6
    state = weights({k: tuple(v.shape) for k, v in model.state_dict().items()}, seed)
    model.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()}, strict=True)
    return model.eval()


def reference(config: dict[str, Any], seed: int = 0) -> Reference:
    """Runs transformers forward and backward."""
    import torch

    model = torch_model(config, seed)
    pixels, mask, labels = inputs(config)
    pixels = torch.from_numpy(pixels.transpose(0, 1, 4, 2, 3).copy())
    if "Pre" in config["architectures"][0]:
        out = model(pixels, bool_masked_pos=torch.from_numpy(mask))
    else:
        out = model(pixels, labels=torch.from_numpy(labels))
    out.loss.backward()
    shapes = {k: tuple(v.shape) for k, v in model.state_dict().items()}
    grads = {k: p.grad.numpy() for k, p in model.named_parameters()}
    return Reference(config | {"model_type": "videomae"}, shapes, out.logits.detach().numpy(), float(out.loss.detach()), grads)


def load(name: str) -> Reference:
    """A golden file."""
    with np.load(GOLDEN / f"{name}.npz") as file:
        about = json.loads(str(file["about"]))
        grads = {k.removeprefix("grad:"): file[k] for k in file.files if k.startswith("grad:")}
        shapes = {k: tuple(v) for k, v in about["shapes"].items()}
        return Reference(about["config"], shapes, file["logits"], about["loss"], grads)


def main() -> None:
    GOLDEN.mkdir(exist_ok=True)
    for name, config in (("pretraining", PRETRAINING), ("classification", CLASSIFICATION)):
        ref = reference(config)
        about = json.dumps({"config": ref.config, "shapes": ref.shapes, "loss": ref.loss})
        grads = {f"grad:{k}": v for k, v in ref.grads.items() if k in KEPT}
        np.savez_compressed(GOLDEN / f"{name}.npz", about=about, logits=ref.logits, **grads)


if __name__ == "__main__":
    main()
