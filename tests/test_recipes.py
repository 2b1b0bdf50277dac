"""The recipes of CONTRIBUTING.md, "Adding", word by word, in a copy of the code that then uses what was added."""

import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from lib.utils.workspace import REPOSITORY
from tests.data.made_sets import moving_boxes, write_boxes, write_frames
from tests.recipe_checkout import Checkout
from tests.test.vot20 import made_workspaces

RECIPES = (REPOSITORY / "CONTRIBUTING.md").read_text().partition("## Adding\n")[2].partition("\n## ")[0]
LIGHTNING, LIGHTNING_BASE = "stark_lightning_X_trt", "baseline_rephead_4_lite_search5"
SPATIAL = ("MODEL.BACKBONE.TYPE=resnet18", "MODEL.TRANSFORMER.ENC_LAYERS=1", "MODEL.TRANSFORMER.DEC_LAYERS=1")
LIGHT = ("DATA.TEMPLATE.FEAT_SIZE=4", "DATA.SEARCH.FEAT_SIZE=8")


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path)


def test_what_the_recipes_name_exists():
    code = "\n".join(path.read_text(encoding="utf-8") for path in (REPOSITORY / "lib").rglob("*.py"))
    words = [word for word in re.findall(r"`([^`]+)`", RECIPES) if not re.search("[<:]", word)]
    assert len(words) > 60
    for word in words:
        path = REPOSITORY / (word.replace(".", "/") if word.startswith("lib.") else word)
        assert path.exists() or ("/" not in word and re.search(rf"\b{word}\b", code)), word


MINE = '''

def mine(storage: Storage, base: str, name: str) -> Sequences:
    """Mine: `videos/<video>/00000001.jpg …`, `boxes/<video>.txt`."""
    videos = storage.names(f"{base}videos")
    names, left_out = _present(storage, base, name, videos, videos, "expected videos/<video>/ and boxes/<video>.txt")

    def layout(folder: Path) -> dict[str, Any]:
        return {"annotation": Path(base, "boxes", f"{folder.name}.txt")}

    return _sequences(storage, base, name, [f"videos/{video}" for video in names], left_out, layout)
'''


def write_mine(root: Path, boxes: np.ndarray) -> None:
    """Two videos in this layout."""
    for name in ("a", "b"):
        write_frames(root / "videos" / name, [f"{i + 1:08d}.jpg" for i in range(len(boxes))])
        write_boxes(root / "boxes" / f"{name}.txt", boxes)


def test_a_test_set(checkout):
    checkout.append("lib/data/layouts.py", MINE)
    checkout.enter("lib/data/registry.py", "TEST_SETS", '"mine": (("mine",), layouts.mine)')
    checkout.enter("lib/test/analysis/metrics.py", "_RULES", '"mine": ScoringRule(invalid_distance=_HIT)')
    checkout.enter("lib/utils/workspace.py", "_TEST_SETS", '"mine"')
    boxes = np.tile(moving_boxes(1), (24, 1))
    boxes[12:] = np.nan  # by this set's rule such frames do not lower the precision
    write_mine(checkout.folder / "data" / "mine", boxes)
    checkout.track("still", "still", dataset="mine")
    table = checkout.run("analysis_results", "--trackers", "still:still", "--dataset", "mine")
    assert re.search(r"still.*\b100\.0", table)
    checkout.run("create_default_local_file")
    assert "mine_path" in (checkout.folder / "lib/test/evaluation/local.py").read_text()


PHOTOS = """
from .box_files import parse_boxes
from .dataset import TrackingDataset, sequence_info


class Photos(TrackingDataset):
    is_video = False

    def __init__(self, name, storage):
        super().__init__(name, storage)
        self._names = [each.removesuffix(".txt") for each in storage.names() if each.endswith(".txt")]

    def __len__(self):
        return len(self._names)

    def info(self, sequence):
        path = f"{self._names[sequence]}.txt"
        return sequence_info(parse_boxes(self.storage.text(path), path))

    def frame_path(self, sequence, frame):
        return f"{self._names[sequence]}.jpg"

    def files(self):
        yield from self.storage.names()
"""


def test_training_sets_of_sequences_and_of_images(checkout):
    registry, places = "lib/data/registry.py", "lib/utils/workspace.py"
    checkout.append("lib/data/layouts.py", MINE)
    checkout.before(registry, "\n\n# Sets at a path", "_mine = partial(_videos, layouts.mine)\n")
    checkout.enter(registry, "_KNOWN", '"MINE": ("mine", _mine, {})')
    checkout.append("lib/data/photos.py", PHOTOS)
    checkout.before(registry, "from .sequence import", "from .photos import Photos\n")
    checkout.enter(registry, "_KNOWN", '"PHOTOS": ("photos", Photos, {})')
    checkout.enter(places, "_TRAINING_SETS", '"mine", "photos"')
    write_mine(checkout.folder / "data" / "mine", moving_boxes(24))
    for i in range(3):
        write_frames(checkout.folder / "data" / "photos", [f"{i}.jpg"])
        write_boxes(checkout.folder / "data" / "photos" / f"{i}.txt", moving_boxes(1))
    checkout.run("create_default_local_file")
    assert "photos_lmdb_dir" in (checkout.folder / "lib/train/admin/local.py").read_text()
    for name in ("MINE", "PHOTOS"):
        assert "packed and verified" in checkout.run("make_lmdb", name)
    said = checkout.train(LIGHTNING, LIGHTNING_BASE, *LIGHT, sets="MINE,PHOTOS")
    assert all(text in said for text in ("2 sequences in ", "3 objects in ", "[train: 1, 2 / 2]"))


POINT = """

class PointPredictor(nn.Module):
    def __init__(self, inputs, size):
        super().__init__()
        self.score = nn.Conv2d(inputs, 1, 1)
        self.register_buffer("points", _cell_points(size, 0.5), persistent=False)

    def forward(self, x):
        centre = (self.score(x).flatten(1).softmax(-1).unsqueeze(-1) * self.points).sum(1)
        return {"pred_boxes": torch.cat((centre, torch.full_like(centre, 0.25)), dim=-1)[:, None]}
"""
SPREAD = """

class SpreadPredictor(nn.Module):
    def __init__(self, inputs):
        super().__init__()
        self.box = nn.Linear(inputs, 5)

    def forward(self, x):
        found = self.box(x.mean((2, 3)))[:, None]
        return {"pred_boxes": found[..., :4].sigmoid(), "pred_logits": -found[..., 4:], "spread": found[..., 4:]}
"""
SPREAD_LOSS = """\
        if "spread" in output:
            error = (cxcywh_to_xyxy(prediction) - truth[:, None]).abs().mean(-1, keepdim=True)
            loss = (error * (-output["spread"]).exp() + output["spread"]).mean()
            values = {"Loss/total": loss, "Loss/spread": output["spread"].mean()}
        elif "cell_boxes" in output:"""


def add_head(checkout: Checkout, name: str, code: str, call: str) -> None:
    heads, branch = "lib/models/heads.py", f'    if cfg.MODEL.HEAD_TYPE == "{name}":\n        return {call}\n'
    checkout.append(heads, code)
    checkout.before(heads, '    if cfg.MODEL.HEAD_TYPE == "CENTER":\n', branch)
    checkout.enter("lib/config/options.py", "_HEADS", f'"{name}"')


def export(checkout: Checkout, script: str, config: str, *more: str) -> str:
    return checkout.run("export", "--script", script, "--config", config, "--frames", "folder:videos", *more)


def test_a_head(checkout):
    add_head(checkout, "POINT", POINT, "PointPredictor(dim, size)")
    options = ("MODEL.HEAD_TYPE=POINT", "MODEL.NUM_OBJECT_QUERIES=2", "MODEL.HIDDEN_DIM=64")
    assert "Loss/giou" in checkout.train("stark_s", "baseline", *SPATIAL, *options)
    assert "onnx fp32: 46 search regions" in export(checkout, "stark_s", "baseline")


def test_a_head_with_a_loss_and_a_confidence(checkout):
    add_head(checkout, "SPREAD", SPREAD, "SpreadPredictor(dim)")
    inference, scored = "lib/models/inference.py", "isinstance(model.box_head, CenterPredictor"
    checkout.change("lib/train/losses.py", '        if "cell_boxes" in output:', SPREAD_LOSS)
    checkout.change(
        "lib/train/losses.py", '= ("Loss/total", "Loss/giou", ', '= ("Loss/total", "Loss/spread", "Loss/giou", '
    )
    checkout.change(inference, "from .heads import ", "from .heads import SpreadPredictor, ")
    checkout.change(inference, scored, f"{scored} | SpreadPredictor")
    assert "Loss/spread" in checkout.train(LIGHTNING, LIGHTNING_BASE, *LIGHT, "MODEL.HEAD_TYPE=SPREAD")
    assert "logit of the confidence" in export(checkout, LIGHTNING, LIGHTNING_BASE)
    checkout.track(LIGHTNING, LIGHTNING_BASE, "--engine", "onnx")


LOGGER = """\
class Csv:
    def __init__(self, run, purge_step=None):
        self.path = run.folder / "curves.csv"

    def close(self, failed):
        pass

    def curves(self, title, step, values):
        with open(self.path, "a") as file:
            file.write(f"{title},{step},{values['Loss/total']}\\n")


"""


def test_a_logger(checkout):
    checkout.before("lib/train/loggers.py", "Logger = TensorBoard", LOGGER)
    checkout.enter("lib/train/loggers.py", "LOGGERS", '"csv": Csv')
    checkout.enter("lib/config/options.py", "_LOGGERS", '"csv"')
    checkout.train(LIGHTNING, LIGHTNING_BASE, *LIGHT, "LOG.TO=[csv]")
    assert "\ntrain,1," in (checkout.folder / "logs/curves.csv").read_text()


MOVING = """\
class MovingTracker(Baseline):
    def initialize(self, image, info):
        self._box = list(info["init_bbox"])

    def track(self, image):
        self._box[0] += 1
        return {"target_bbox": list(self._box)}


"""


def test_a_tracker_without_a_network(checkout):
    checkout.before("lib/test/tracker/classic.py", "# Name -> class;", MOVING)
    checkout.enter("lib/test/tracker/classic.py", "BASELINES", '"moving": MovingTracker')
    checkout.track("moving", "moving")
    (boxes,) = checkout.folder.rglob("video1.txt")
    assert np.loadtxt(boxes)[:, 0].tolist() == [10 + i for i in range(24)]


NETWORK = """\
import torch.nn.functional as F

from .stark import STARKS


class STARKBlurred(STARKS):
    def encode_template(self, region):
        return self.encode(type(region)(F.avg_pool2d(region.tensors, 3, 1, 1), region.mask))
"""


def test_a_tracker_with_a_network(checkout):
    models, name = "lib/models/__init__.py", "stark_blurred"
    checkout.append("lib/models/stark_blurred.py", NETWORK)
    checkout.before(models, "from .stark_lightning", "from .stark_blurred import STARKBlurred\n")
    checkout.enter(models, "NETWORKS", f'"{name}": STARKBlurred')
    checkout.enter("lib/utils/checkpoint_files.py", "NET_TYPES", f'"{name}": "STARKBlurred"')
    for table in ("SPATIAL", "TESTED"):
        checkout.enter("lib/config/options.py", table, f'"{name}"')
    (checkout.folder / "experiments" / name).mkdir()
    checkout.append(f"experiments/{name}/baseline.yaml", "MODEL: {HIDDEN_DIM: 64}")
    checkout.enter("lib/test/tracker/__init__.py", "SCRIPT_OF", f'"{name}": "{name}"')
    assert "STARKBlurred with resnet18" in checkout.train(name, "baseline", *SPATIAL)
    checkout.track(name, "baseline", "--engine", "torch")


ENGINE = """\
from . import package


def open_graph(path):
    session = package("onnxruntime", "the engine plain").InferenceSession(str(path))
    names = [each.name for each in session.get_inputs()]
    return lambda *inputs: session.run(None, dict(zip(names, inputs, strict=True)))
"""
BRANCH = """\
    elif engine == "plain":
        parts = [plain.open_graph(path) for path in (template, search)]
"""


def test_an_engine(checkout):
    engines, graphs = "lib/test/tracker/engines/__init__.py", "lib/test/tracker/engines/graphs.py"
    checkout.append("lib/test/tracker/engines/plain.py", ENGINE)
    checkout.before(graphs, "openvino, package\n", "plain, ")
    checkout.before(graphs, "    else:\n        tensorrt = ", BRANCH)
    checkout.enter(engines, "PRECISIONS_OF", '"plain": ("fp32",)')
    checkout.before(engines, '"onnx": "onnxruntime"', '"plain": "onnxruntime", ')
    checkout.change(engines, '"cpu": (', '"cpu": ("plain", ')
    checkout.enter("lib/test/tracker/export.py", "FORMATS", '"plain"')
    said = export(checkout, LIGHTNING, "mini", "--format", "plain", "--output", "out")
    assert "wrote out/search.onnx" in said
    assert "plain fp32: 46 search regions" in said
    assert "engine: plain fp32" in checkout.track(LIGHTNING, "mini")


def test_a_vot_workspace(checkout, tmp_path):
    checkout.enter("lib/test/vot20/stark_vot20.py", "TRACKER_OF", f'"mini": ("{LIGHTNING}", "mini")')
    folder = checkout.folder / "external/vot20/stark_mini"
    shutil.copytree(folder.with_name("stark_s50"), folder)
    for path in folder.iterdir():
        path.write_text(path.read_text().replace("s50", "mini").replace("S50", "MINI"))
    sequence = made_workspaces.write_sequence(tmp_path / "squares", frames=3)
    vot = ["env", f"PYTHONPATH={checkout.folder}", sys.executable, "-m", "vot", "--registry", str(folder)]
    assert "Test concluded" in made_workspaces.run([*vot, "test", "stark_mini", "--sequence", str(sequence)], tmp_path)


OPTION = """
from lib.config import load_config, option
from lib.test.tracker import find_weights, graphs_folder

network = ("stark_lightning_X_trt", "mini")
for given in ((), ("DATA.SHARE=0.25", "MODEL.DEEPER=true"), ("DATA.SHARE=2",)):
    cfg = load_config(*network, given)
    print(option(cfg, "DATA.SHARE"), graphs_folder(*network, cfg, find_weights(*network)).name)
"""


def test_an_option(checkout):
    checkout.enter("lib/config/options.py", "_TABLE", '_extra("DATA.SHARE", 0.5, "a share", high=2)')
    checkout.enter("lib/config/options.py", "_TABLE", '_extra("MODEL.DEEPER", False, "decides what is computed")')
    (default, graphs), (given, others), (more, same) = re.findall(r"(?m)^(\S+) (\w{20})$", checkout.run(OPTION))
    assert (default, given, more) == ("0.5", "0.25", "2.0")
    assert graphs == same != others
