#!/usr/bin/env bash
# Style and tests, one file of tests a core at a time, setting up first what is missing. Arguments go to pytest:
#
#   bash tests/run.sh
#   bash tests/run.sh -k metrics
#   bash tests/run.sh tests/test/test_video.py
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=$(bash install_pytorch17.sh --python)

# The tests' networks are small: a second core does more with tests of its own than with a share of one network.
cores=$(getconf _NPROCESSORS_ONLN)
processes=$((cores < 4 ? cores : 4))
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

status=0
style=clean
"$python" -m ruff check . || { style=failed; status=1; }
"$python" -m ruff format --check . || { style=failed; status=1; }
echo "style: $style"
"$python" -m pytest --numprocesses "$processes" --dist loadfile "$@" || status=$?
exit "$status"
