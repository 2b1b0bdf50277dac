#!/usr/bin/env bash
# STARK-ST50 on VOT2020: bash exp.sh [--experiments NAMES] [other options of `vot evaluate`]
folder=$(dirname "${BASH_SOURCE[0]}")
exec bash "$folder/../../vot20/evaluate.sh" "$folder" "$@"
