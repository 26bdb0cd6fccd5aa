"""Ours against torchvision + torch: one training step of R3D-18 and of R(2+1)D-18 on a CPU, fp32, in one run.

  python -m tests.compare_speed_cnn [--rounds=5] [--batch_size=2]

Not a test: a figure, and it needs the extra `parity`. How it is measured stands in tests/compare_speed.py. A step is forward, backward and an
update by SGD with momentum, on normalized clips of 16 x 112 x 112 and labels of 400 classes: the same work on both sides, batch statistics
and all. The line `matmul` is of tests/compare_speed.py.

Prints one JSON line; a ratio is torch's seconds over ours: above 1, ours is faster.
"""

from collections.abc import Callable

import numpy as np

from tests import compare_speed

KINDS = {"r3d18": "r3d_18", "r2plus1d18": "r2plus1d_18"}  # ours: torchvision's
FRAMES, SIZE, CLASSES, RATE, MOMENTUM = 16, 112, 400, 1e-3, 0.9


def clips_and_labels(batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Normalized clips float32 [B,T,H,W,3] and labels [B]."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((batch_size, FRAMES, SIZE, SIZE, 3), np.float32), rng.integers(0, CLASSES, batch_size)


def torch_side(batch_size: int) -> dict[str, Callable[[], float]]:
    """{kind: run it once and return the loss}."""
    import torch

    from tests.interop import torch_video

    clips, labels = clips_and_labels(batch_size)
    clips, labels = torch_video.channels_first(clips), torch.from_numpy(labels)

    def of(name: str) -> Callable[[], float]:
        model = torch_video.model(name, CLASSES).train()
        optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=MOMENTUM)

        def step() -> float:
            optimizer.zero_grad(set_to_none=True)
            loss = torch.nn.functional.cross_entropy(model(clips), labels)
            loss.backward()
            optimizer.step()
            return loss.item()

        return step

    return {kind: of(name) for kind, name in KINDS.items()} | {"matmul": compare_speed.torch_matmul()}


def our_side(batch_size: int) -> dict[str, Callable[[], float]]:
    """As `torch_side`."""
    import jax
    import jax.numpy as jnp
    import optax

    from vssl_jax import models
    from vssl_jax.models import backbone
    from vssl_jax.models.heads import LinearHead
    from vssl_jax.objectives.losses import cross_entropy

    clips, labels = clips_and_labels(batch_size)
    clips, target = jnp.asarray(clips), jax.nn.one_hot(labels, CLASSES)
    optimizer = optax.sgd(RATE, MOMENTUM)

    def of(name: str) -> Callable[[], float]:
        model, head = models.build({"name": name}), LinearHead(CLASSES)

        def loss(params, stats):
            features, stats = backbone.apply(model, params["encoder"], stats, clips, train=True, method="features")
            return jnp.mean(cross_entropy(target, head.apply({"params": params["head"]}, features))), stats

        def update(params, stats, opt):
            (value, stats), grads = jax.value_and_grad(loss, has_aux=True)(params, stats)
            updates, opt = optimizer.update(grads, opt)
            return optax.apply_updates(params, updates), stats, opt, value

        def start(key):
            encoder, stats, _ = backbone.init(model, key, clips.shape)
            features = jax.eval_shape(lambda p, s: backbone.apply(model, p, s, clips, train=False, method="features")[0], encoder, stats)
            params = {"encoder": encoder, "head": head.lazy_init(key, features)["params"]}
            return params, stats, optimizer.init(params)

        state = list(jax.jit(start)(jax.random.key(0)))
        jitted = jax.jit(update, donate_argnums=(0, 1, 2))

        def step() -> float:
            *state[:], value = jax.block_until_ready(jitted(*state))
            return float(value)

        return step

    return {name: of(name) for name in KINDS} | {"matmul": compare_speed.our_matmul()}


SIDES = {"torch": torch_side, "ours": our_side}


def main() -> None:
    args = compare_speed.arguments(__doc__)
    if args.serve:
        compare_speed.serve(lambda: SIDES[args.serve](args.batch_size))
        return
    about = {"model": f"R3D-18 and R(2+1)D-18, {FRAMES}x{SIZE}x{SIZE}"}
    packages = ("jax", "jaxlib", "flax", "torch", "torchvision")
    compare_speed.report(about, "tests.compare_speed_cnn", (*KINDS, "matmul"), args, packages)


if __name__ == "__main__":
    main()
