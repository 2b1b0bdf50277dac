#!/usr/bin/env bash
# Style and tests, setting up first what is missing. Arguments go to pytest:
#
#   bash tests/run.sh
#   bash tests/run.sh -k metrics
#   bash tests/run.sh tests/test/test_video.py
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=$(bash install_pytorch17.sh --python)

# The tests' networks are small: beyond a few threads, handing out the work costs more than doing it.
cores=$(getconf _NPROCESSORS_ONLN)
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((cores < 4 ? cores : 4))}

status=0
style=clean
"$python" -m ruff check . || { style=failed; status=1; }
"$python" -m ruff format --check . || { style=failed; status=1; }
echo "style: $style"
"$python" -m pytest "$@" || status=$?
exit "$status"
