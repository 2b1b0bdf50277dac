"""The recipes of CONTRIBUTING.md, "Adding", word by word, in one copy of the code that then uses what was added."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lib.utils.workspace import REPOSITORY
from tests.data.made_sets import moving_boxes, write_boxes, write_frames, write_sequence

RECIPES = (REPOSITORY / "CONTRIBUTING.md").read_text().partition("## Adding\n")[2].partition("\n## ")[0]
LIGHTNING, LIGHTNING_BASE = "stark_lightning_X_trt", "baseline_rephead_4_lite_search5"
# A network and a run of a second or two.
TINY = (
    *("MODEL.BACKBONE.PRETRAINED=false", "DATA.TEMPLATE.SIZE=64", "DATA.SEARCH.SIZE=128", "DATA.VAL.DATASETS_NAME=[]"),
    *("TEST.TEMPLATE_SIZE=64", "TEST.SEARCH_SIZE=128", "DATA.TRAIN.SAMPLE_PER_EPOCH=4", "TRAIN.BATCH_SIZE=2"),
    *("TRAIN.NUM_WORKER=0", "TRAIN.EPOCH=1", "DATA.MAX_SAMPLE_INTERVAL=20", "DATA.TRAIN.DATASETS_NAME=[FOLDER:videos]"),
)


class Checkout:
    """A copy of the code in `folder`, with two videos in GOT-10k layout in `videos`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        unwanted = shutil.ignore_patterns("local.py*", "tutorials")  # a developer's own settings, and large files
        for name in ("lib", "tracking"):
            shutil.copytree(REPOSITORY / name, folder / name, ignore=unwanted)
        shutil.copytree(REPOSITORY / "experiments", folder / "experiments", copy_function=os.symlink)
        shutil.copy(REPOSITORY / "install_pytorch17.sh", folder)  # by which a checkout is known
        for number in range(2):
            write_sequence(folder / "videos", f"video{number}", 24)

    def append(self, file: str, code: str) -> None:
        """Add code at the end of a file, new or not."""
        with open(self.folder / file, "a", encoding="utf-8") as text:
            text.write(code)

    def change(self, file: str, old: str, new: str) -> None:
        """Replace a text that stands once in a file."""
        path = self.folder / file
        text = path.read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in {file}"
        path.write_text(text.replace(old, new), encoding="utf-8")

    def before(self, file: str, place: str, code: str) -> None:
        """Add code before a text that stands once in a file."""
        self.change(file, place, code + place)

    def enter(self, file: str, table: str, entry: str) -> None:
        """Add an entry at the begin of a table, a tuple or dictionary."""
        path = self.folder / file
        text, count = re.subn(rf"(?m)^({table}\b[^=\n]*= [({{])", rf"\g<1>{entry}, ", path.read_text(encoding="utf-8"))
        assert count == 1, f"{file} has {count} tables {table}"
        path.write_text(text, encoding="utf-8")

    def run(self, script: str, *words: str) -> str:
        """Run a script of `tracking/` in a process of its own that must succeed; gives what it prints."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("STARK", "PYTHON"))}
        given = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "MPLBACKEND": "agg"}
        how = {"cwd": self.folder, "env": kept | given, "capture_output": True, "text": True, "check": False}
        done = subprocess.run([sys.executable, f"tracking/{script}.py", *words], **how)
        assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
        return done.stdout

    def train(self, script: str, config: str, *overrides: str) -> str:
        """Train for two steps."""
        return self.run("train", "--script", script, "--config", config, "--opts", *TINY, *overrides)

    def track(self, tracker: str, config: str, dataset: str, *more: str) -> str:
        """Track the two videos of a test set."""
        said = self.run("test", tracker, config, "--dataset_name", dataset, *more)
        assert "2 tracked, 0 finished before, 0 failed" in said
        return said


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the code in which the recipes were followed."""
    checkout = Checkout(tmp_path_factory.mktemp("checkout"))
    for add in (add_data_sets, add_head_and_option, add_moving_tracker, add_tracker, add_engine):
        add(checkout)
    return checkout


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
PHOTOS = """
from .box_files import parse_boxes
from .dataset import TrackingDataset, sequence_info


class Photos(TrackingDataset):
    is_video = False

    def __len__(self):
        return 2

    def info(self, sequence):
        return sequence_info(parse_boxes(self.storage.text(f"{sequence}.txt"), "Photos"))

    def frame_path(self, sequence, frame):
        return f"{sequence}.jpg"

    def files(self):
        yield from self.storage.names()
"""


def add_data_sets(checkout: Checkout) -> None:
    """The test set `mine`, the training set MINE of the same videos, and PHOTOS, one of images."""
    registry, places = "lib/data/registry.py", "lib/utils/workspace.py"
    checkout.append("lib/data/layouts.py", MINE)
    checkout.enter(registry, "TEST_SETS", '"mine": (("mine",), layouts.mine)')
    checkout.enter("lib/test/analysis/metrics.py", "_RULES", '"mine": ScoringRule(invalid_distance=_HIT)')
    checkout.enter(places, "_TEST_SETS", '"mine"')
    checkout.before(registry, "\n\n# Sets at a path", "_mine = partial(_videos, layouts.mine)\n")
    checkout.enter(registry, "_KNOWN", '"MINE": ("mine", _mine, {})')
    checkout.append("lib/data/photos.py", PHOTOS)
    checkout.before(registry, "from .sequence", "from .photos import Photos\n")
    checkout.enter(registry, "_KNOWN", '"PHOTOS": ("photos", Photos, {})')
    checkout.enter(places, "_TRAINING_SETS", '"mine", "photos"')
    for i in range(2):
        write_frames(checkout.folder / "data/photos", [f"{i}.jpg"])
        write_boxes(checkout.folder / "data/photos" / f"{i}.txt", moving_boxes(1))
    boxes, data = moving_boxes(24, step=0), checkout.folder / "data/mine"
    boxes[12:] = np.nan  # by this set's rule such frames do not lower the precision
    for name in ("a", "b"):
        write_frames(data / "videos" / name, [f"{i + 1:08d}.jpg" for i in range(24)])
        write_boxes(data / "boxes" / f"{name}.txt", boxes)


POINT = """

class PointPredictor(nn.Module):
    def __init__(self, inputs, share):
        super().__init__()
        self.box, self.share = nn.Linear(inputs, 4), share

    def forward(self, x):
        return {"pred_boxes": (self.box(x.mean((2, 3))).sigmoid() * self.share)[:, None]}
"""


def add_head_and_option(checkout: Checkout) -> None:
    heads, options = "lib/models/heads.py", "lib/config/options.py"
    branch = '    if cfg.MODEL.HEAD_TYPE == "POINT":\n        return PointPredictor(dim, option(cfg, "MODEL.SHARE"))\n'
    checkout.append(heads, POINT)
    checkout.before(heads, '    if cfg.MODEL.HEAD_TYPE == "CENTER":\n', branch)
    checkout.enter(options, "_HEADS", '"POINT"')
    checkout.enter(options, "_TABLE", '_extra("MODEL.SHARE", 0.5, "a share of the crop", high=1)')


MOVING = """
class MovingTracker(Baseline):
    def initialize(self, image, info):
        self._box = list(info["init_bbox"])

    def track(self, image):
        self._box[0] += 1
        return {"target_bbox": list(self._box)}


"""


def add_moving_tracker(checkout: Checkout) -> None:
    checkout.before("lib/test/tracker/classic.py", "# Name -> class;", MOVING)
    checkout.enter("lib/test/tracker/classic.py", "BASELINES", '"moving": MovingTracker')


NETWORK = """\
import torch.nn.functional as F

from .stark import STARKS


class STARKBlurred(STARKS):
    def encode_template(self, region):
        return self.encode(type(region)(F.avg_pool2d(region.tensors, 3, 1, 1), region.mask))
"""


def add_tracker(checkout: Checkout) -> None:
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


ENGINE = """
import onnxruntime


def open_graph(path):
    session = onnxruntime.InferenceSession(path)
    return lambda *inputs: session.run(None, {each.name: x for each, x in zip(session.get_inputs(), inputs)})
"""


def add_engine(checkout: Checkout) -> None:
    engines, graphs = "lib/test/tracker/engines/__init__.py", "lib/test/tracker/engines/graphs.py"
    checkout.append("lib/test/tracker/engines/plain.py", ENGINE)
    checkout.before(graphs, "openvino, package\n", "plain, ")
    branch = '    elif engine == "plain":\n        parts = [plain.open_graph(path) for path in (template, search)]\n'
    checkout.before(graphs, "    else:\n        tensorrt = ", branch)
    checkout.enter(engines, "PRECISIONS_OF", '"plain": ("fp32",)')
    checkout.before(engines, '"onnx": "onnxruntime"', '"plain": "onnxruntime", ')
    checkout.change(engines, '"cpu": (', '"cpu": ("plain", ')
    checkout.enter("lib/test/tracker/export.py", "FORMATS", '"plain"')


def test_a_test_set_and_a_tracker_without_a_network(checkout):
    checkout.track("moving", "moving", "folder:videos")
    (boxes,) = checkout.folder.rglob("video1.txt")
    assert np.loadtxt(boxes)[:, 0].tolist() == [10 + i for i in range(24)]
    checkout.track("still", "still", "mine")
    table = checkout.run("analysis_results", "--trackers", "still:still", "--dataset", "mine")
    assert re.search(r"still.*\b100\.0", table)
    checkout.run("create_default_local_file")
    for file, line in (("test/evaluation", "mine_path"), ("train/admin", "photos_lmdb_dir")):
        assert line in (checkout.folder / "lib" / file / "local.py").read_text()


def test_training_sets_an_option_and_a_head(checkout):
    sizes = ("DATA.TEMPLATE.FEAT_SIZE=4", "DATA.SEARCH.FEAT_SIZE=8")
    parts = ("MODEL.HEAD_TYPE=POINT", "MODEL.SHARE=1", "DATA.TRAIN.DATASETS_NAME=[MINE,PHOTOS]")
    said = checkout.train(LIGHTNING, LIGHTNING_BASE, *sizes, *parts)
    assert all(text in said for text in ("2 sequences in ", "2 objects in ", "[train: 1, 2 / 2]", "Loss/giou"))
    assert "packed and verified" in checkout.run("make_lmdb", "PHOTOS")
    network = ("--script", LIGHTNING, "--config", LIGHTNING_BASE, "--frames", "folder:videos")
    assert "onnx fp32: 46 search regions" in checkout.run("export", *network)
    checkout.track(LIGHTNING, LIGHTNING_BASE, "folder:videos", "--engine", "onnx")


def test_a_tracker_with_a_network(checkout):
    layers = ("MODEL.BACKBONE.TYPE=resnet18", "MODEL.TRANSFORMER.ENC_LAYERS=1", "MODEL.TRANSFORMER.DEC_LAYERS=1")
    assert "STARKBlurred with resnet18" in checkout.train("stark_blurred", "baseline", *layers)
    checkout.track("stark_blurred", "baseline", "folder:videos", "--engine", "torch")


def test_an_engine(checkout):
    network = ("--script", LIGHTNING, "--config", "mini", "--frames", "folder:videos")
    said = checkout.run("export", *network, "--format", "plain", "--output", "out")
    assert "wrote out/search.onnx" in said
    assert "plain fp32: 46 search regions" in said
    assert "engine: plain fp32" in checkout.track(LIGHTNING, "mini", "folder:videos")
