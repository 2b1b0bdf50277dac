"""A copy of the code, to be changed as a recipe of CONTRIBUTING.md says, and to be run."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from lib.utils.workspace import REPOSITORY
from tests.data.made_sets import write_sequence

# A network and a run of a second or two.
TINY = (
    *("MODEL.BACKBONE.PRETRAINED=false", "DATA.TEMPLATE.SIZE=64", "DATA.SEARCH.SIZE=128", "DATA.VAL.DATASETS_NAME=[]"),
    *("TEST.TEMPLATE_SIZE=64", "TEST.SEARCH_SIZE=128", "DATA.TRAIN.SAMPLE_PER_EPOCH=4", "TRAIN.BATCH_SIZE=2"),
    *("TRAIN.NUM_WORKER=0", "TRAIN.EPOCH=1", "DATA.MAX_SAMPLE_INTERVAL=20"),
)


class Checkout:
    """A copy of the code in `folder`, with two videos in GOT-10k layout in `videos`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        unwanted = shutil.ignore_patterns("local.py*", "tutorials")  # a developer's own settings, and large files
        for name in ("lib", "tracking", "external/vot20"):
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

    def run(self, script: str, *words: object) -> str:
        """Run a script of `tracking/`, or code, in a process of its own that must succeed; gives what it prints."""
        command = [f"tracking/{script}.py"] if "\n" not in script else ["-c", script]
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("STARK", "PYTHON"))}
        given = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "MPLBACKEND": "agg"}
        how = {"cwd": self.folder, "env": kept | given, "capture_output": True, "text": True, "check": False}
        done = subprocess.run([sys.executable, *command, *map(str, words)], **how)
        assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
        return done.stdout

    def train(self, script: str, config: str, *overrides: str, sets: str = "FOLDER:videos") -> str:
        """Train for two steps."""
        how = ("--script", script, "--config", config, "--device", "cpu", "--opts", *TINY, *overrides)
        return self.run("train", *how, f"DATA.TRAIN.DATASETS_NAME=[{sets}]")

    def track(self, tracker: str, config: str, *more: str, dataset: str = "folder:videos") -> str:
        """Track the two videos of a test set."""
        said = self.run("test", tracker, config, "--dataset_name", dataset, *more)
        assert "2 tracked, 0 finished before, 0 failed" in said
        return said
