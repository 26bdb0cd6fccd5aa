"""The papers' and their authors' settings, by recipe: what the tests pin, and whose names others go through."""

SLOWONLY = ("slowonly_r50", (8, 224), ("dense", 8, 9))
# recipe -> ((model, its frames and size, sampler, its frames and stride), clips, videos a step, epochs, warm-up epochs, (optimizer, rate, its batch,
# weight decay), hidden layers and width of the head, views, the method's own)
CONTRASTIVE = {
    "simclr_slowonly50": (SLOWONLY, 2, 512, 200, 35, ("lars", 1.2, 64, 1e-6), ((2048, 2048), 128), 2, {"temperature": 0.1, "scale": 1.0}),
    "simclr_cvrl50": (
        ("cvrl_r3d50", (16, 224), ("interval", 16, 2)), 2, 1024, 200, 5, ("sgd", 0.32, 0, 1e-6), ((2048,) * 3, 128), 2, {"temperature": 0.1, "scale": 2.0},
    ),
    "moco_slowonly50": (
        SLOWONLY, 4, 512, 200, 35, ("sgd", 0.1, 64, 1e-4), ((2048, 2048), 128), 4,
        {"temperature": 0.1, "queue": 65_536, "every": True, "scale": 4.0, "average": {"decay": 0.994, "final": 1.0}},
    ),
    "moco_v3_vitb": (
        ("vit_base", (16, 224), ("dense", 16, 4)), 1, 4096, 300, 40, ("adamw", 1.5e-4, 256, 0.1), ((4096, 4096), 256), 2,
        {
            "temperature": 0.2, "queue": 0, "every": True, "scale": 0.8, "average": {"decay": 0.99, "final": 1.0},
            "predictor": {"hidden": (4096,), "dim": 256, "norm_last": True},
        },
    ),
    "byol_slowonly50": (
        SLOWONLY, 2, 512, 200, 35, ("lars", 0.6, 64, 1e-6), ((4096,), 256), 2,
        {"predictor": {"hidden": (4096,), "dim": 256}, "average": {"decay": 0.996, "final": 1.0}, "own": False},
    ),
    "uber_nce_s3d_ucf101": (
        ("s3d", (32, 128), ("dense", 32, 1)), 2, 64, 300, 0, ("adam", 1e-3, 0, 1e-5), ((1024,), 128), 2,
        {"temperature": 0.07, "queue": 2048, "average": {"decay": 0.999, "final": -1.0}, "schedule": "steps"},
    ),
    "swav_slowonly50": (
        SLOWONLY, 2, 512, 200, 35, ("lars", 0.6, 64, 1e-6), ((2048, 2048), 128), 2, {"prototypes": 1000, "temperature": 0.1, "epsilon": 0.05, "iterations": 3},
    ),
    "deep_cluster_slowonly50": (
        SLOWONLY, 2, 512, 200, 35, ("lars", 0.6, 64, 1e-6), ((2048,), 128), 2,
        {"prototypes": 3000, "heads": 3, "temperature": 0.1, "iterations": 10, "assigned": 2, "videos": 240_436, "refresh_every": 469},
    ),
    "vie_r3d18": (
        ("r3d18", (16, 112), ("dense", 16, 1)), 1, 64, 0, 0, ("sgd", 0.03, 0, 1e-4), ((), 128), 1,
        {
            "temperature": 0.07, "momentum": 0.5, "noise": 4096, "background": 4096, "clusters": 10_000, "clusterings": 1, "iterations": 20,
            "initial": 50_000, "videos": 240_436, "refresh_every": 3756, "schedule": "steps", "steps": (1_600_000, 0),
        },
    ),
    "tclr_r3d18_ucf101": (
        ("r3d18", (16, 112), ("dense", 64, 1)), 1, 40, 400, 5, ("adam", 1e-3, 0, 1e-9), ((512,), 128), 10,
        {"parts": 4, "temperature": 0.1, "weights": (1.0, 14.0, 40.0, 16.0)},
    ),
    "brave_tsm50": (
        ("tsm_r50", (16, 224), ("dense", 127, 2)), 1, 512, 0, 0, ("lars", 1.0, 0, 1e-2), ((4096,), 128), 2,
        {"predictor": {"hidden": (4096,), "dim": 128}, "both": True, "examples": 0, "steps": (300_000, 5_000)},
    ),
    "dino_timesformer": (
        ("timesformer", (8, 224), ("dense", 64, 3)), 1, 32, 20, 10, ("adamw", 5e-4, 256, 0.04), ((2048, 2048), 256), 10,
        {"prototypes": 65_536, "temperature": 0.1, "sharp": 0.04, "center_decay": 0.9, "large": 2, "frozen": 7513, "average": {"decay": 0.996, "final": 1.0}},
    ),
}  # fmt: skip

# recipe -> (videos of the data, stride, videos a step, epochs, drops of the rate, how often one channel is all, rows of the memory)
DPC = {
    "dpc_r3d18": (240_436, 5, 128, 300, (), 0.5, 0),
    "memdpc_r3d18_ucf101": (9_537, 3, 32, 500, (0.6, 0.8), 0.25, 1024),
}

# recipe -> (model, its frames and size, dense frames and stride, videos a step, epochs, rate, weight decay, drops, the task's own)
PRETEXT = {
    "appearance_change_r3d18": (
        "r3d18", (16, 112), (16, 2), 32, 20, 1e-3, 5e-4, (),
        {"adjust": "saturation", "color_levels": (1.0, 0.6, 0.3, 0.0), "noise_levels": (0.0, 0.05, 0.1, 0.2)},
    ),
    "clip_order_r3d10_ucf101": (
        "r3d10_vcop", (16, 112), (64, 1), 8, 300, 1e-3, 5e-4, (), {"count": 3, "gap": 8, "hidden": 512, "dropout": 0.5},
    ),
    "cubic_puzzle_r3d18": ("r3d18", (16, 80), (128, 1), 32, 20, 1e-3, 5e-4, (), {"picture": 224, "hidden": 512, "dropout": 0.5}),
    "frame_order_c3d_ucf101": ("c3d_vcop", (16, 80), (92, 1), 64, 0, 1e-2, 5e-4, (130 / 170,), {"count": 4, "gaps": (4, 15), "hidden": 512, "steps": 170_000}),
    "jigsaw_r3d18": ("r3d18", (4, 80), (28, 1), 32, 20, 1e-3, 5e-4, (), {"segments": 3, "grid": 2, "permutations": 1000, "normalize": True}),
    "motion_statistics_r3d10_ucf101": (
        "r3d10_vcop", (16, 112), (16, 1), 30, 180, 5e-4, 5e-3, (1 / 3, 2 / 3), {"error": "squares", "motion": 1.0, "appearance": 0.1, "bins": 32},
    ),
    "odd_one_out_r3d18_ucf101": ("r3d18", (6, 112), (22, 1), 8, 300, 1e-3, 5e-4, (), {"count": 6, "skip": 2, "fusion": "differences"}),
    "order_verification_c3d_ucf101": (
        "c3d_vcop", (16, 112), (122, 1), 128, 0, 1e-3, 5e-4, (0.8,), {"gaps": (4, 15), "positive": 0.25, "hidden": 0, "steps": 100_000},
    ),
    "pace_r2plus1d10": ("r2plus1d10_vcop", (16, 112), (61, 1), 30, 18, 1e-3, 5e-3, (1 / 3, 2 / 3), {"paces": (1, 2, 3, 4)}),
    "temporal_transform_r3d18_ucf101": ("r3d18", (16, 128), (121, 1), 16, 200, 3e-4, 1 / 3, (), {"speeds": 4, "optimizer": "adamw", "schedule": "cosine"}),
    "speediness_s3dg": (
        "s3d_g", (64, 224), (140, 1), 32, 20, 1e-2, 5e-4, (), {"normal": (1.0, 1.2), "fast": (1.7, 2.2), "resize": (64 / 224, 1.5)},
    ),
    "playback_rate_r3d10_ucf101": (
        "r3d10_vcop", (16, 112), (125, 1), 8, 300, 1e-2, 5e-4, (),
        {"rates": (1, 2, 4, 8), "classification": 0.1, "reconstruction": 1.0, "emphasis": (0.8, 2.0), "widths": (256, 128, 64)},
    ),
    "relative_speed_r2plus1d10": (
        "r2plus1d10_vcop", (16, 112), (128, 1), 128, 200, 0.1, 1e-4, (),
        {"speeds": (1, 2), "queue": 16_384, "dim": 128, "temperature": 0.07, "margin": 2.0, "decay": 0.999, "schedule": "cosine"},
    ),
    "rotation_r3d18": ("r3d18", (16, 112), (16, 2), 32, 0, 0.1, 1e-3, (0.2, 0.4, 0.6, 0.8), {"every": True, "steps": 120_000}),
}  # fmt: skip
