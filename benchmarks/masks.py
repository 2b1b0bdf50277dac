"""Train a mask head on a part of COCO's photographs, and compare its masks on the others with filled boxes.

python benchmarks/masks.py --coco FOLDER --output FOLDER [--config small] [--opts TRAIN.EPOCH=2 …]

The same command continues a stopped training. Every fifth photograph is held out; masks of its objects are made around
boxes that are moved and scaled at random, as those of a tracker are.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measuring import report
from lib.data.coco import ANNOTATIONS
from lib.data.registry import build_dataset
from lib.models.alpha_refine import SCRIPT
from lib.test.tracker.masks import create_refiner
from lib.train.options import RunOptions
from lib.train.processing import jitter_box
from lib.train.run import train
from lib.utils.errors import UserError, run_command
from lib.utils.files import write_text

HELD_OUT = 5  # every so many photographs
JITTER = (0.25, 0.15)  # of the centre and the sides of boxes; what trackers that still follow are off by


def split(coco: Path, output: Path) -> tuple[Path, Path]:
    """Two folders in COCO's layout, which link to the photographs of one: to train on, and held out."""
    try:
        content = json.loads((coco / ANNOTATIONS).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {coco / ANNOTATIONS}: {error.strerror}") from error
    parts = []
    for name in ("training", "held_out"):
        images = [image for i, image in enumerate(content["images"]) if (i % HELD_OUT == 0) == (name == "held_out")]
        ids = {image["id"] for image in images}
        objects = [entry for entry in content["annotations"] if entry["image_id"] in ids]
        write_text(output / name / ANNOTATIONS, json.dumps({"images": images, "annotations": objects}))
        if not (output / name / "images").exists():
            (output / name / "images").symlink_to((coco / "images").resolve())
        parts.append(output / name)
    return parts[0], parts[1]


def overlaps(config: str, checkpoint: Path, folder: Path, device: str) -> Iterator[dict[str, float]]:
    """Of each object of a folder, the overlap of its mask with that of the network, and with those of two boxes."""
    dataset = build_dataset(f"COCO_masks:{folder}")
    refiner = create_refiner(config, checkpoint, device)
    rng = np.random.default_rng(0)
    for i in range(len(dataset)):
        image, truth, box = dataset.image(i, 0), dataset.mask(i, 0), dataset.info(i).boxes[0].astype(np.float64)
        refiner.initialize(image, box)
        about = jitter_box(box, *JITTER, rng)
        masks = {
            "network": refiner.mask(image, about),
            "the box it was given, filled": filled(about, truth.shape),
            "the true box, filled": filled(box, truth.shape),
        }
        yield {name: (mask & truth).sum() / max((mask | truth).sum(), 1) for name, mask in masks.items()}


def filled(box: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The pixels (H, W) bool of a box xywh, rounded to whole ones."""
    mask = np.zeros(size, bool)
    x, y, right, bottom = np.round([box[0], box[1], box[0] + box[2], box[1] + box[3]]).clip(0).astype(int)
    mask[y:bottom, x:right] = True
    return mask


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--coco", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True, help="checkpoints and logs of the training lie under it")
    parser.add_argument("--config", default="small", help="in experiments/alpha_refine/")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--opts", nargs="+", default=[], metavar="KEY=VALUE", help="for the training")
    given = parser.parse_args()
    training, held_out = split(given.coco, given.output)
    sets = (f"DATA.TRAIN.DATASETS_NAME=['COCO_masks:{training}']", f"DATA.VAL.DATASETS_NAME=['COCO_masks:{held_out}']")
    options = RunOptions(SCRIPT, given.config, given.output, device=given.device, overrides=(*sets, *given.opts))
    train(options)
    checkpoint = options.folder / "AlphaRefine_latest.pth.tar"
    found = list(overlaps(given.config, checkpoint, held_out, given.device))
    rows = []
    for name in found[0]:
        values = [each[name] for each in found]
        row = {"masks": name, "mean IoU": float(np.mean(values)), "median IoU": float(np.median(values))}
        rows.append(row | {"objects": len(found)})
    report("Masks of objects in photographs that were held out", rows, given.output / "masks.json")


if __name__ == "__main__":
    run_command(main)
