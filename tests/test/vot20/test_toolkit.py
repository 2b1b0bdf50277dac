"""VOT: regions to boxes and back, and the toolkit's own commands on tiny workspaces."""

import configparser
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import trax
import yaml
from vot.region import Mask
from vot.region.io import read_trajectory

from lib.config import load_config
from lib.models.alpha_refine import AlphaRefine
from lib.test.tracker import PUBLISHED_FILE
from lib.test.tracker.classic import StillTracker
from lib.test.vot20.stark_vot20 import TRACKER_OF, ObjectTrackers, box_of_region, region_of_box, region_of_mask
from lib.utils.checkpoint import save_checkpoint
from lib.utils.errors import UserError
from lib.utils.workspace import REPOSITORY
from tests.golden.fill import fill
from tests.golden_cases import VARIANTS as GOLDEN_VARIANTS
from tests.golden_cases import reference_model
from tests.test.vot20.made_workspaces import FRAMES, MovingTracker, run, vot, write_sequence, write_workspace

IMAGE = np.zeros((60, 80, 3), np.uint8)


def test_regions_become_boxes_and_boxes_regions():
    mask = np.zeros((20, 30), bool)
    mask[4, 7] = mask[9, 3] = True
    region = region_of_mask(mask)
    assert box_of_region(region) == [3, 4, 5, 6]
    assert (region.array() == mask[4:10, 3:8]).all()
    assert box_of_region(trax.Mask.create(mask.astype(np.uint8), -2, 10)) == [1, 14, 5, 6]
    assert box_of_region(trax.Polygon.create([(4, 2), (10, 5), (6, 12)])) == [4, 2, 6, 10]
    with pytest.raises(UserError, match="empty"):
        box_of_region(region_of_mask(np.zeros((5, 5), bool)))
    with pytest.raises(UserError, match="special"):
        box_of_region(trax.Special.create(0))
    for box, offset, shape in (
        ([3.4, 4.6, 10, 5], (3, 5), (5, 10)),  # rounded
        ([-4, -3, 10, 8], (0, 0), (5, 6)),  # over a corner
        ([25, 15, 10, 10], (25, 15), (5, 5)),
        ([40, 5, 10, 10], (0, 0), (1, 1)),  # outside, so nothing is set
    ):
        region = region_of_box(box, trax.Region.MASK, (20, 30))
        assert (region.offset(), region.array().shape) == (offset, shape)
        assert region.array().all() == (shape != (1, 1))
        assert box_of_region(region_of_box(box, trax.Region.RECTANGLE, (20, 30))) == pytest.approx(box)


def shown(*boxes):
    return [(trax.Rectangle.create(*box), {}) for box in boxes]


def boxes_of(answer):
    return [box_of_region(region) for region, _ in answer]


def test_each_object_keeps_its_own_state_and_its_place_in_the_answer():
    trackers, first = ObjectTrackers(MovingTracker(), trax.Region.MASK), ([10, 10, 5, 5], [40, 20, 8, 6])
    assert boxes_of(trackers.update(IMAGE, shown(*first))) == [*first]
    # A third one appears; it is answered as it was shown.
    assert boxes_of(trackers.update(IMAGE, shown([2, 3, 4, 5]))) == [[11, 11, 5, 5], [41, 21, 8, 6], [2, 3, 4, 5]]
    answer = trackers.update(IMAGE, [])
    assert boxes_of(answer) == [[12, 12, 5, 5], [42, 22, 8, 6], [3, 4, 4, 5]]
    assert [properties["confidence"] for _, properties in answer] == pytest.approx([0.9, 0.9, 0.95])
    assert {region.type for region, _ in answer} == {trax.Region.MASK}
    # Without a score there is no confidence.
    trackers = ObjectTrackers(StillTracker(), trax.Region.RECTANGLE)
    trackers.update(IMAGE, shown([10, 10, 5, 5]))
    assert [properties for _, properties in trackers.update(IMAGE, [])] == [{}]


WORKSPACES = {path.parent.name: path.parent for path in (REPOSITORY / "external").glob("vot20*/*/trackers.ini")}


def published_stack(challenge):
    """The experiments of a stack in this repository, with the window of the EAO fit for a few frames."""
    experiments = yaml.safe_load((REPOSITORY / "external" / challenge / "stack.yaml").read_text())["experiments"]
    for experiment in experiments.values():
        for analysis in experiment["analyses"]:
            analysis |= {name: value for name, value in {"low": 2, "high": 6}.items() if name in analysis}
    return experiments


def vot_report(workspace, tracker):
    vot("analysis", workspace, "--name", "report", tracker)
    return json.loads((workspace / "analysis" / "report.json").read_text())["results"]


def test_short_term_evaluation_and_analysis(tmp_path):
    write_sequence(tmp_path / "sequences" / "squares", anchors=(0, 3, -7))
    write_workspace(tmp_path, published_stack("vot20"), "mask")
    vot("evaluate", tmp_path, "moving")
    results = tmp_path / "results" / "moving"
    for experiment in ("baseline", "realtime"):
        runs = {path.name: path.read_text().count("\n") for path in results.glob(f"{experiment}/*/*_time.value")}
        lengths = {"00000000": FRAMES, "00000003": FRAMES - 3, "00000007": FRAMES}
        assert runs == {f"squares_{anchor}_time.value": length for anchor, length in lengths.items()}
    found = vot_report(tmp_path, "moving")
    ((accuracy,),) = found["unsupervised"]["results"][0]
    assert accuracy == pytest.approx(1.0)  # the tracker moves as the object does
    for experiment in ("baseline", "realtime"):
        ((eao,),) = found[experiment]["results"][0]
        assert 0.5 < eao < 0.95  # backwards it moves the wrong way
    assert "successful" in vot("pack", tmp_path, "moving")
    assert len(list(tmp_path.glob("moving_*.zip"))) == 1


def test_long_term_evaluation_and_analysis(tmp_path):
    write_sequence(tmp_path / "sequences" / "squares", rectangles=True)
    write_workspace(tmp_path, published_stack("vot20_lt"), "rectangle")
    vot("evaluate", tmp_path, "moving")
    (confidence,) = tmp_path.glob("results/moving/longterm/squares/*_confidence.value")
    values = [float(value) if value else None for value in confidence.read_text().split("\n")][:FRAMES]
    assert values[0] is None  # it was told where the object is
    assert values[1:] == pytest.approx([1 - 0.05 * i for i in range(1, FRAMES)])
    ((precision, recall, f_score),) = vot_report(tmp_path, "moving")["longterm"]["results"][0]
    assert (precision, recall) == (1, 1 - 1 / FRAMES)  # the first frame is given, the others are all found
    assert f_score == pytest.approx(2 * precision * recall / (precision + recall))


@pytest.mark.parametrize(("variant", "answer"), [("s50", ""), ("st50", "_ar")])
def test_a_networks_experiment_by_its_script(tmp_path, variant, answer):
    """The published files, unchanged, beside other sequences, a shorter stack, and weights that were never trained."""
    identifier, (script, config, _) = f"stark_{variant}{answer}", GOLDEN_VARIANTS[f"stark_{variant}"]
    name, epoch = {"s50": ("STARKS", 500), "st50": ("STARKST", 50)}[variant]
    content = {"net": reference_model(f"stark_{variant}").state_dict(), "net_type": name, "epoch": epoch}
    save_checkpoint(tmp_path / "checkpoints/train" / script / config / f"{name}_ep{epoch:04d}.pth.tar", content)
    if answer:
        masks = fill(AlphaRefine(load_config("alpha_refine", "baseline")))
        # Masks of untrained weights are all or nothing; without their means the last kernels give edges.
        kernels = masks.refiner.project.conv2.weight
        kernels.data -= kernels.data.mean((2, 3), keepdim=True)
        save_checkpoint(tmp_path / "checkpoints" / PUBLISHED_FILE, {"net": masks.state_dict()})
    write_sequence(tmp_path / "data" / "vot2020" / "squares", anchors=(FRAMES - 3,))
    challenge = tmp_path / "external" / "vot20"
    results = shutil.ignore_patterns("results", "logs", "analysis", "cache")
    workspace = shutil.copytree(WORKSPACES[identifier], challenge / identifier, ignore=results)
    shutil.copy(REPOSITORY / "external" / "vot20" / "evaluate.sh", challenge)
    experiments = {"baseline": published_stack("vot20")["baseline"]}
    (challenge / "stack.yaml").write_text(yaml.safe_dump({"title": "short", "experiments": experiments}))
    (tmp_path / "lib").symlink_to(REPOSITORY / "lib")
    said = run(["bash", str(workspace / "exp.sh"), "--experiments", "baseline"], tmp_path)
    assert "Evaluation concluded successfuly" in said
    assert "Analysis successful" in said
    results = workspace / "results" / identifier / "baseline" / "squares"
    assert len((results / f"squares_{FRAMES - 3:08d}_time.value").read_text().split()) == 3
    for region in read_trajectory(str(results / f"squares_{FRAMES - 3:08d}.bin"))[1:]:
        assert isinstance(region, Mask)
        assert region.mask.any()
        assert region.mask.all() == (not answer)  # a box is answered as a filled rectangle


def test_a_tracker_that_cannot_start_says_why_in_one_line(tmp_path):
    write_sequence(tmp_path / "sequences" / "squares", rectangles=True)
    registry = str(WORKSPACES["stark_st50_lt"] / "trackers.ini")
    write_workspace(tmp_path, published_stack("vot20_lt"), registry=registry)
    said = vot("evaluate", tmp_path, "stark_st50_lt")
    reason = re.escape(str(tmp_path / "checkpoints" / "train" / "stark_st2" / "baseline"))
    assert re.search(f"Server terminated the session: .*{reason}", said)
    (log,) = tmp_path.glob("logs/stark_st50_lt_*.log")
    assert len(re.findall(f"^error: .*{reason}.*$", log.read_text(), re.M)) == 1
    assert "Traceback" not in log.read_text()
    # Its process does not load the toolkit, with which it would start more than twice as slowly.
    code = "import sys, lib.test.vot20.stark_vot20; sys.exit('vot' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY)


@pytest.mark.parametrize("name", WORKSPACES)
def test_a_workspace_is_consistent(name):
    folder, (_, network, *ending) = WORKSPACES[name], name.split("_")
    assert network in TRACKER_OF
    challenge = folder.parent.name
    assert ending in ([["lt"]] if challenge == "vot20_lt" else [[], ["ar"]])
    trackers = configparser.ConfigParser()
    trackers.read(folder / "trackers.ini")
    assert trackers.sections() == [name]
    assert trackers[name]["label"] == name.upper().replace("_", "-")
    assert trackers[name]["command"] == f"from lib.test.vot20.stark_vot20 import run_entry; run_entry('{name}')"
    assert (folder / trackers[name]["paths"]).resolve() == REPOSITORY
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert (folder / config["registry"][0]).samefile(folder / "trackers.ini")
    assert (folder / config["stack"]).is_file()
    assert (folder / config["sequences"]).resolve() == REPOSITORY / "data" / challenge.replace("vot20", "vot2020")
    assert "vot20/evaluate.sh" in (folder / "exp.sh").read_text()
