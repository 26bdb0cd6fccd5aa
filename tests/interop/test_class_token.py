"""TimeSformer and ViViT: what reaches what, weights there and back without torch, and (parity) transformers itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.interop import make_golden
from tests.models.noise import normal
from vssl_jax import convert, models
from vssl_jax.errors import UserError
from vssl_jax.evals import classifier
from vssl_jax.interop import class_token, huggingface
from vssl_jax.models import backbone
from vssl_jax.models.heads import LinearHead
from vssl_jax.models.vivit import ViViT

SIZES = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40, "image_size": 24, "num_frames": 4}
LABELS = {"id2label": {str(i): f"class {i}" for i in range(5)}, "label2id": {f"class {i}": i for i in range(5)}}
CONFIGS = {
    "timesformer": SIZES | LABELS | {"model_type": "timesformer", "architectures": ["TimesformerForVideoClassification"], "patch_size": 8},
    "vivit": SIZES | LABELS | {"model_type": "vivit", "architectures": ["VivitForVideoClassification"], "tubelet_size": [2, 8, 8]},
}


def drawn(kind: str, seed: int = 0):
    """(state, meta) with every tensor random."""
    meta = class_token.to_meta(CONFIGS[kind])
    shapes = jax.eval_shape(lambda p: class_token.unpack(p, class_token._rules(meta)), class_token._template(meta))
    return make_golden.weights({name: tuple(x.shape) for name, x in shapes.items()}, seed), meta


def pixels() -> np.ndarray:
    return normal(2, 4, 24, 24, 3)


def run(parts, meta, clip):
    """Logits, and the gradient of their weighted sum with regard to parts and pixels."""
    model = models.build(meta["model"])

    def loss(parts, clip):
        features, _ = backbone.apply(model, parts["encoder"], {}, clip, train=False, method="features")
        logits = LinearHead(meta["classes"]).apply({"params": parts["head"]}, features)
        return jnp.vdot(logits, jnp.cos(jnp.arange(logits.size)).reshape(logits.shape)), logits

    (_, logits), grads = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))(parts, clip)
    return np.asarray(logits), *jax.tree.map(np.asarray, grads)


@pytest.mark.parametrize("kind", CONFIGS)
def test_weights_go_there_and_back_bit_for_bit(kind, tmp_path):
    state, _ = drawn(kind)
    huggingface.write(tmp_path / "source", state, CONFIGS[kind] | {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.1, 0.2, 0.3]})
    assert convert.main([f"--source={tmp_path / 'source'}", f"--target={tmp_path / 'export'}"]) == 0
    assert convert.main([f"--source={tmp_path / 'export'}", f"--target={tmp_path / 'back'}"]) == 0
    back, config = huggingface.read(tmp_path / "back")
    jax.tree.map(np.testing.assert_array_equal, back, state)
    assert {key: config[key] for key in CONFIGS[kind]} == CONFIGS[kind] and config["image_std"] == [0.1, 0.2, 0.3]
    loaded = classifier.load(tmp_path / "export", {"short_side": 0, "crops": 1})
    assert loaded.class_names == tuple(LABELS["label2id"]) and loaded.objective.encoder.pixel_mean == (0.5, 0.4, 0.3)


def test_the_names_of_released_vivit_checkpoints_load():
    state, _ = drawn("vivit")
    old = {}
    for name, value in state.items():
        for new, released in (
            ("attention.o_proj", "attention.output.dense"), ("q_proj", "attention.query"), ("k_proj", "attention.key"),
            ("v_proj", "attention.value"), ("mlp.fc1", "intermediate.dense"), ("mlp.fc2", "output.dense"), ("layers", "encoder.layer"),
        ):  # fmt: skip
            name = name.replace(new, released)
        old[name] = value
    assert set(old) != set(state)
    parts, again = (class_token.from_huggingface(s, CONFIGS["vivit"])[0] for s in (state, old))
    jax.tree.map(np.testing.assert_array_equal, parts, again)


@pytest.mark.parametrize("kind", CONFIGS)
def test_placeholders_are_no_names_of_classes(kind):
    placeholders = {"id2label": {str(i): f"LABEL_{i}" for i in range(5)}}
    assert class_token.to_meta(CONFIGS[kind] | placeholders)["class_names"] == []


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("timesformer", {"attention_type": "space_only"}, "attention_type='space_only'"),
        ("timesformer", {"architectures": ["TimesformerModel"]}, "TimesformerModel"),
        ("vivit", {"hidden_act": "gelu"}, "hidden_act='gelu'"),
        ("vivit", {"layer_norm_eps": 1e-12}, "layer_norm_eps"),
        ("vivit", {"tubelet_size": 2}, "tubelet_size=2: ViViT's has three sides"),
        ("vivit", {"tubelet_size": [2, 8, "8"]}, "tubelet_size='8'"),
        ("vivit", {"image_size": [24, 32]}, r"image_size=\[24, 32\]: only square"),
        ("timesformer", {"patch_size": [8, 16]}, r"patch_size=\[8, 16\]: only square"),
        ("timesformer", {"hidden_size": "24"}, "hidden_size='24': it must be a whole number"),
        ("timesformer", {"num_frames": 0}, "num_frames=0: it must be a whole number"),
        ("timesformer", {"id2label": ["a", "b"]}, "id2label"),
    ],
)
def test_other_networks_are_refused(kind, change, message):
    with pytest.raises(UserError, match=message):
        class_token.from_huggingface({}, CONFIGS[kind] | change)


def test_equal_sides_are_square():
    sides = {"image_size": [24, 24], "patch_size": [8, 8]}
    for kind, config in CONFIGS.items():
        assert class_token.to_meta(config | {key: sides[key] for key in sides if key in config}) == class_token.to_meta(config), kind


def test_the_factorised_encoder_has_no_form_in_transformers():
    with pytest.raises(UserError, match="model 1"):
        class_token.to_config({"model": {"name": "vivit"}, "classes": 2})


@pytest.mark.parametrize(("name", "reached"), [("timesformer", [2]), pytest.param("vivit", [2, 3], marks=pytest.mark.slow)])
def test_frames_meet_only_where_they_should(name, reached):
    """With one block of TimeSformer whose layer behind the attention in time is zero, and in the factorised encoder's map, a slot sees its own
    frames only; the pooled feature sees all.
    """
    fields = {"name": name, "width": 24, "depth": 1, "heads": 3, "frames": 4, "size": 16}
    model = models.build(fields | ({"patch": 8} if name == "timesformer" else {"tubelet": (2, 8, 8), "temporal_depth": 1}))
    params = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 4, 16, 16, 3)))["params"]
    slot = 2 if name == "timesformer" else 1
    run = lambda x: model.apply({"params": params}, x)  # noqa: E731
    inside, pooled = jax.jit(
        lambda x: (
            jax.grad(lambda x: jnp.sum(run(x).map_BxTxHxWxD[:, slot] ** 2))(x),
            jax.grad(lambda x: jnp.sum(run(x).pooled_BxD ** 2))(x),
        )
    )(normal(1, 4, 16, 16, 3))
    assert [t for t in range(4) if np.any(inside[0, t])] == reached
    assert all(np.any(pooled[0, t]) for t in range(4))


def by_ours(model, params, clip):
    return jax.jit(lambda params, clip: model.apply({"params": params}, clip).pooled_BxD)(params, clip)


def by_transformers(model, params, clip):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    names = ("width", "depth", "heads", "mlp_ratio", "tubelet", "frames", "size", "temporal_depth")
    fields = {"name": "vivit"} | {name: getattr(model, name) for name in names}
    head = {"linear": {"kernel": np.zeros((model.width, 2), np.float32), "bias": np.zeros(2, np.float32)}}
    state, config = class_token.to_huggingface({"encoder": params, "head": head}, {"model": fields, "classes": 2})
    made = transformers.VivitForVideoClassification(
        transformers.VivitConfig(**{k: config[k] for k in SIZES}, tubelet_size=config["tubelet_size"])
    )
    made.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()}, strict=True)
    with torch.no_grad():
        return made.eval().vivit(torch.from_numpy(np.asarray(clip).transpose(0, 1, 4, 2, 3).copy())).last_hidden_state[:, 0].numpy()


@pytest.mark.parametrize("by", [by_ours, pytest.param(by_transformers, marks=pytest.mark.parity)])
def test_the_factorised_encoder_is_one_model_1_on_the_class_tokens_of_another(by):
    """A slot is a film of its own to the first. The second reads class tokens as films of 4 x 4 pixels, by an embedding that picks their entries."""
    sizes = {"width": 24, "heads": 3, "mlp_ratio": 40 / 24, "size": 24}
    whole = ViViT(**sizes, depth=2, temporal_depth=3, tubelet=(2, 8, 8), frames=6)
    in_space = ViViT(**sizes, depth=2, temporal_depth=0, tubelet=(2, 8, 8), frames=2)
    in_time = ViViT(**sizes | {"size": 4}, depth=3, temporal_depth=0, tubelet=(1, 4, 4), frames=3)
    clip = normal(2, 6, 24, 24, 3)
    shapes = jax.eval_shape(whole.init, jax.random.key(0), clip)["params"]
    params = jax.tree.unflatten(jax.tree.structure(shapes), [0.3 * normal(*x.shape, seed=i) for i, x in enumerate(jax.tree.leaves(shapes))])
    over_time = {name.removeprefix("time_"): params.pop(name) for name in tuple(params) if name.startswith("time_")}
    slots = by(in_space, params, clip.reshape(6, 2, 24, 24, 3))
    films = np.pad(slots, ((0, 0), (0, 24))).reshape(2, 3, 4, 4, 3)
    expected = by(
        in_time, over_time | {"patch_embed": {"kernel": np.eye(48, 24, dtype=np.float32), "bias": np.zeros(24, np.float32)}}, films
    )
    got = by_ours(whole, params | {f"time_{name}": tree for name, tree in over_time.items()}, clip)
    assert np.std(expected) > 0.1
    np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.parity
@pytest.mark.parametrize("kind", CONFIGS)
def test_logits_and_all_gradients_are_those_of_transformers(kind):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    config = CONFIGS[kind]
    fields = {k: v for k, v in config.items() if k not in ("architectures", "model_type")}
    made = getattr(transformers, config["architectures"][0])(
        getattr(transformers, {"timesformer": "TimesformerConfig", "vivit": "VivitConfig"}[kind])(**fields)
    )
    state, _ = drawn(kind)
    made.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()}, strict=True)
    clip = torch.from_numpy(pixels().transpose(0, 1, 4, 2, 3).copy()).requires_grad_()
    expected = made.eval()(clip).logits
    (expected * torch.cos(torch.arange(expected.numel())).reshape(expected.shape)).sum().backward()
    parts, meta = class_token.from_huggingface(state, config)
    logits, grads, of_pixels = run(parts, meta, pixels())
    assert np.std(logits) > 0.1
    np.testing.assert_allclose(logits, expected.detach().numpy(), atol=1e-5)
    np.testing.assert_allclose(of_pixels, clip.grad.numpy().transpose(0, 1, 3, 4, 2), atol=1e-5)
    grads, _ = class_token.to_huggingface(grads, meta)
    for name, parameter in made.named_parameters():
        np.testing.assert_allclose(grads[name], parameter.grad.numpy(), atol=1e-5, rtol=1e-4, err_msg=name)


@pytest.mark.parity
@pytest.mark.parametrize("kind", CONFIGS)
def test_what_transformers_saves_loads_and_what_is_written_is_loaded(kind, tmp_path):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    config = CONFIGS[kind]
    cls = getattr(transformers, config["architectures"][0])
    state, meta = drawn(kind)
    huggingface.write(tmp_path / "ours", *class_token.to_huggingface(class_token.from_huggingface(state, config)[0], meta))
    model, info = cls.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(info.values()), info
    assert all(torch.equal(value, torch.from_numpy(state[name])) for name, value in model.state_dict().items())
    model.save_pretrained(tmp_path / "theirs")
    again, _ = class_token.from_huggingface(*huggingface.read(tmp_path / "theirs"))
    jax.tree.map(np.testing.assert_array_equal, again, class_token.from_huggingface(state, config)[0])
