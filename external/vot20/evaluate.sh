#!/usr/bin/env bash
# Evaluate the tracker of one workspace: bash evaluate.sh WORKSPACE [options of `vot evaluate`]
# A stopped run continues. The toolkit downloads the sequences the first time.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$1"
shift
tracker=$(basename "$PWD")  # a workspace's folder has the name of its tracker
if [ -x "$root/.venv/bin/python" ]; then export PATH="$root/.venv/bin:$PATH"; fi
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
vot evaluate --workspace . "$tracker" "$@"
vot analysis --workspace . "$tracker"
# Archive of the results for a submission:
# vot pack --workspace . TRACKER
