"""Where what is made once is kept for every run: compiled programs, the embedded dataset, the benchmark's films."""

import os
from pathlib import Path

FOLDER = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vssl_jax"
