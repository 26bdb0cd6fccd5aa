#!/usr/bin/env bash
# The main job on this machine, from nothing to a result table: installs, builds the embedded dataset, pretrains, exports, evaluates, reports.
# Extra arguments go to main, e.g. ./launch/local.sh --config.train.steps=200
set -euo pipefail
cd "$(dirname "$0")/.."
EXTRAS=data
. launch/environment.sh
exec "$VENV/bin/python" -m vssl_jax.main --config=configs/videomae_vitb.py:local "$@"
