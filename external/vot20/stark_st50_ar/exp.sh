#!/usr/bin/env bash
# STARK-ST50-AR on VOT2020: bash exp.sh [--experiments NAMES] [other options of `vot evaluate`]
# It goes on where it was stopped. The sequences are downloaded the first time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
root=$(cd ../../.. && pwd)
if [ -x "$root/.venv/bin/python" ]; then export PATH="$root/.venv/bin:$PATH"; fi
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
vot evaluate --workspace . stark_st50_ar "$@"
vot analysis --workspace . stark_st50_ar
# Archive of the results for a submission:
# vot pack --workspace . stark_st50_ar
