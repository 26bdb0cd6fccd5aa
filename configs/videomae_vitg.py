"""VideoMAE ViT-g on Kinetics-400: what a billion parameters take, sharded over a pod.

Paper: the network and its decoder are VideoMAE V2's (Wang, Huang, Zhao et al., "VideoMAE V2: Scaling Video Masked Autoencoders with Dual Masking", CVPR 2023);
the masks, the data and the schedule are VideoMAE's, of which no run at this size has been published. Rate and clipping are V2's for this network.
Command: python -m vssl_jax.main --config=configs/videomae_vitg.py --config.data.source=folder --config.data.path=VIDEOS --workdir=RUN
Before asking for a pod: python -m vssl_jax.aot --config=configs/videomae_vitg.py --topology=v5e:16x16
Hardware and hours: V2's authors name more than two weeks on 64 A100 for this network with VideoMAE's masks, which this is; their own, in the decoder too, are
1.48 times faster. Expected: nothing has been published.
Reproduced here: not yet run at full size.

Variants: `:local` pretrains a small ViT on the embedded dataset in minutes on a CPU; `:smoke` runs the same code at toy size in seconds.
"""

from configs import videomae


def get_config(arg: str = ""):
    config = videomae.recipe(arg, backbone="vit_giant", data="k400", epochs=800, batch_size=2048).unlock()
    if not arg:
        config.model.tubelet = (2, 14, 14)
        config.model.remat = "dots"
        config.mesh.fsdp = 64  # 12 GB of parameters and moments; the width, 1408, splits into 64 parts, not into 256
        config.optimizer.update({"learning_rate": 6e-4, "clip_norm": 0.02})
    return config.lock()
