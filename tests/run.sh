#!/usr/bin/env bash
# Style, import contracts and tests, one file of tests a core at a time, setting up first what is missing. Arguments go to pytest:
#
#   bash tests/run.sh
#   bash tests/run.sh -k metrics
#   bash tests/run.sh tests/test/test_video.py
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=$(bash install_pytorch17.sh --python --dev)

# The tests' networks are small: a second core does more with tests of its own than with a share of one network.
cores=$(getconf _NPROCESSORS_ONLN)
processes=$((cores < 4 ? cores : 4))
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

# The page's tests drive a Chromium. Where it can be installed at once, as by the root of a container, it is (in about 20
# seconds); elsewhere these tests are skipped, and say so.
find_chromium() { command -v chromium || command -v chromium-browser || command -v google-chrome; }
if [[ $# -eq 0 && $(id -u) -eq 0 ]] && command -v apt-get >/dev/null && ! find_chromium >/dev/null; then
  echo "installing chromium for the tests of the page"
  timeout 180 bash -c 'apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium' \
    >/dev/null 2>&1 || echo "note: it could not be installed; the tests of the page are skipped"
fi

status=0
style=clean
"$python" -m ruff check . || { style=failed; status=1; }
"$python" -m ruff format --check . || { style=failed; status=1; }
"$(dirname "$python")/lint-imports" --no-cache --no-logo || { style=failed; status=1; }
echo "style: $style"
# A process that dies ends the run: pytest-xdist, having replaced it, may wait for ever for tests that it had.
"$python" -m pytest --numprocesses "$processes" --dist loadfile --max-worker-restart 0 "$@" || status=$?
exit "$status"
