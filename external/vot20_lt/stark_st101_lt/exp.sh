#!/usr/bin/env bash
# STARK-ST101-LT on VOT2020-LT: bash exp.sh [--experiments NAMES] [other options of `vot evaluate`]
folder=$(dirname "${BASH_SOURCE[0]}")
exec bash "$folder/../../vot20/evaluate.sh" "$folder" "$@"
