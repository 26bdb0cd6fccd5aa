#!/usr/bin/env bash
# The test suite, from nothing. Extra arguments go to pytest, e.g. ./launch/test.sh tests/train
# EXTRAS=test,parity installs what the tests marked `parity` need too: EXTRAS=test,parity ./launch/test.sh -m parity
set -euo pipefail
cd "$(dirname "$0")/.."
EXTRAS="data,${EXTRAS:-test}"
. launch/environment.sh
"$VENV/bin/python" -m ruff check .
# One worker more than there are cores: some wait for processes that they have started.
workers=$(($(getconf _NPROCESSORS_ONLN) + 1))
# By file: what a file compiles once for all its tests stays in one process.
exec "$VENV/bin/python" -m pytest -n "$workers" --maxprocesses=4 --dist loadfile --no-loadscope-reorder "$@"
