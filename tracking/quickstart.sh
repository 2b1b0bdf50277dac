#!/usr/bin/env bash
# The main job: set up what is missing, make small videos, train a small tracker on them, evaluate it on unseen
# ones beside a box that never moves, and save table, plots and a video. Then track a clip with the weights that come
# with the repository. A few minutes on two CPU cores.
#
#   bash tracking/quickstart.sh [OUTPUT]     OUTPUT: output/quickstart by default
#
# Run again, it goes on where it stopped; with everything done it only prints the table anew.
set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
output=${1:-$repository/output/quickstart}
python=$(bash "$repository/install_pytorch17.sh" --python)
mkdir -p "$output"
output=$(cd "$output" && pwd)
cd "$repository"
export STARK_SAVE_DIR=$output STARK_DATA_DIR=$output/data

tracker=stark_lightning_X_trt
test_set=$output/data/embedded/test

run() {
  printf '\n$ python %s\n' "$*"
  "$python" "$@"
}

printf '\n$ export STARK_SAVE_DIR="%s" STARK_DATA_DIR="%s"\n' "$STARK_SAVE_DIR" "$STARK_DATA_DIR"
run tracking/make_embedded.py --split train --output "$output/data/embedded/train"
run tracking/make_embedded.py --split test --output "$test_set"
run tracking/train.py --script $tracker --config quickstart --save_dir "$output"
run tracking/test.py $tracker quickstart --dataset "folder:$test_set"
run tracking/test.py still still --dataset "folder:$test_set"
run tracking/analysis_results.py --trackers $tracker:quickstart still:still --dataset "folder:$test_set" \
  --output "$output/plots"

sequence=$test_set/$(sed -n 2p "$test_set/list.txt")
read -r -a box < <(head -n 1 "$sequence/groundtruth.txt" | tr ',' ' ')
run tracking/video_demo.py $tracker quickstart "$sequence" --init_bbox "${box[@]}" --no_window \
  --save_results --output "$output/overlay" --overwrite

"$python" - "$output/plots/scores.json" <<'PY'
import json, sys

with open(sys.argv[1], encoding="utf-8") as file:
    rows = json.load(file)["trackers"]
trained, still = (rows[name]["scores"]["ao"] for name in ("stark_lightning_X_trt:quickstart", "still:still"))
print(f"\nAO {trained:.1f} against {still:.1f} of a box that never moves: {trained / still:.1f} times as high")
if trained < 2 * still:
    sys.exit("error: the trained tracker is not twice as good as a still box: model, data or schedule is wrong")
PY

run tracking/video_demo.py sample:bigbuckbunny --no_window --save_results --output "$output/sample" --overwrite

cat <<EOF

Look at    $output/plots/success.png
           $output/overlay/video.mp4   by what was trained just now
           $output/sample/video.mp4    by the weights that come with the repository
Try next, after  source .venv/bin/activate; export STARK_SAVE_DIR="$STARK_SAVE_DIR"
  python tracking/video_demo.py <your video> --init_bbox <x> <y> <w> <h>
  python tracking/video_demo.py $tracker quickstart <your video> --init_bbox <x> <y> <w> <h>
  unset STARK_SAVE_DIR
  python tracking/train.py --script $tracker --config quickstart --opts "DATA.TRAIN.DATASETS_NAME=['FOLDER:<your sequences>']"
  python tracking/train.py --script stark_s --config baseline
EOF
