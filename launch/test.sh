#!/usr/bin/env bash
# The test suite, from nothing. Extra arguments go to pytest, e.g. ./launch/test.sh tests/train
set -euo pipefail
cd "$(dirname "$0")/.."
EXTRAS="test"
. launch/environment.sh
"$VENV/bin/python" -m ruff check .
# By file: what a file compiles once for all its tests stays in one process.
exec "$VENV/bin/python" -m pytest -n auto --maxprocesses=4 --dist loadfile --no-loadscope-reorder "$@"
