"""torchvision beside a build of torch other than its own."""

import sys


def declare() -> None:
    """Makes `import torchvision` work, and with it transformers', which imports it where it is installed.

    torchvision asks for operators in C++ when it is imported, and its wheel does not load them beside a build of torch other than its own (the
    index has no wheel for the CPU's). Its video networks are Python and call none: they are declared here, without a body.
    """
    import torch

    try:
        import torchvision  # noqa: F401
    except ModuleNotFoundError:
        return
    except RuntimeError:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        for operator in ("nms", "qnms"):
            torch.library.define(f"torchvision::{operator}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
