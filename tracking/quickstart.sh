#!/usr/bin/env bash
# The main job: set up what is missing, make small videos, train a small tracker on them, evaluate it on unseen
# ones beside a box that never moves, and save table, plots and a video. A few minutes on two CPU cores.
#
#   bash tracking/quickstart.sh [OUTPUT]     OUTPUT: output/quickstart by default
#
# Run again, it goes on where it stopped; with everything done it only prints the table anew.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
output=${1:-output/quickstart}
python=$(bash install_pytorch17.sh --python)
mkdir -p "$output"
output=$(cd "$output" && pwd)
export STARK_SAVE_DIR=$output

tracker=stark_lightning_X_trt
test_set=$output/data/test
checkpoint=$output/checkpoints/train/$tracker/quickstart/STARKLightningXtrt_latest.pth.tar

run() {
  printf '\n\033[1m$ python %s\033[0m\n' "$*"
  "$python" "$@"
}

run tracking/make_embedded.py --split train --sequences 150 --output "$output/data/train"
run tracking/make_embedded.py --split test --output "$test_set"
run tracking/train.py --script $tracker --config quickstart --save_dir "$output" \
  --opts "DATA.TRAIN.DATASETS_NAME=['FOLDER:$output/data/train']"
run tracking/test.py $tracker quickstart --dataset "folder:$test_set" --checkpoint "$checkpoint"
run tracking/test.py still still --dataset "folder:$test_set"
run tracking/analysis_results.py --trackers $tracker:quickstart still:still --dataset "folder:$test_set" \
  --output "$output/plots"

first=$(head -n 1 "$test_set/list.txt")
box=$(head -n 1 "$test_set/$first/groundtruth.txt" | tr ',' ' ')
# shellcheck disable=SC2086 # four numbers, four arguments
run tracking/video_demo.py $tracker quickstart "$test_set/$first" --init_bbox $box --checkpoint "$checkpoint" \
  --save_results --output "$output/overlay" --overwrite

"$python" - "$output/plots/scores.json" <<'PY'
import json, sys

rows = {row["tracker"]: row for row in json.load(open(sys.argv[1], encoding="utf-8"))["trackers"]}
trained, still = (rows[name]["ao"] for name in ("stark_lightning_X_trt", "still"))
print(f"\nAO {trained:.1f} against {still:.1f} of a box that never moves: {trained / still:.1f} times as high")
if trained < 2 * still:
    sys.exit("error: the trained tracker is less than twice as good as a still box: model, data or schedule is wrong")
PY

cat <<EOF

Look at      $output/plots/success.png
             $output/overlay/video.mp4
Try next     python tracking/train.py --script $tracker --config quickstart --opts "DATA.TRAIN.DATASETS_NAME=['FOLDER:<your data>']"
             python tracking/video_demo.py $tracker quickstart <your video> --init_bbox x y w h --checkpoint $checkpoint
             python tracking/train.py --script stark_s --config baseline
with the environment active: source .venv/bin/activate
EOF
