"""The commands in the pages' blocks of code: each runs here, in another test, or says that it was not run here.

A comment `# not run here` stands behind a command, or on a line before the commands up to the next empty line.
"""

import re
import runpy
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lib import commands
from lib.config import load_config
from lib.models import build_model
from lib.utils.checkpoint import save_checkpoint
from lib.utils.workspace import REPOSITORY
from tests.data.made_sets import write_sequence
from tests.golden.fill import fill
from tests.test.web.made_clips import scene, write_clip
from tests.test_documents import code_lines, page_names

# Commands that run otherwise.
ELSEWHERE = (
    r"bash (tracking/quickstart|tests/run)\.sh|install_pytorch17\.sh --lock",  # by hand, before each release
    r"pip install \.",  # tests/test_package.py
    r"bash install_pytorch17\.sh &&",  # tests/test_install.py
    r"stark web|tracking/web_demo\.py",  # tests/test/web
    r"bash external/vot20\w*/[\w/]+/exp\.sh",  # tests/test/vot20/test_toolkit.py
    r"tracking/ORT_lightning",  # tests/test/test_profiling.py
)
OURS = re.compile(r"(?:\w+=\S+ )?(?:(?:python3?|bash|torchrun)\s(?:.*\s)?[\w/]+\.(?:py|sh)\b|stark |pip |docker )")
# What a command gets beside the page's words: trainings are checked and not run, measurements are short.
PROFILES = ("profile_model", "profile_model_lightning_X_trt")
MORE = {"train": ["--device", "cpu", "--check"], **dict.fromkeys(PROFILES, ["--runs", "1", "--warmup", "0"])}


def shown(page: str) -> Iterator[str]:
    """The commands of a page's blocks of code; those that are marked as not run are left out."""
    marked = False
    for line in code_lines(REPOSITORY / page):
        command, _, comment = line.strip().partition("#")
        marked = bool(line.strip()) and (marked or (not command and "not run here" in comment))
        if OURS.match(command) and not marked and "not run here" not in comment:
            yield command.strip()


COMMANDS = {page: list(dict.fromkeys(shown(page))) for page in page_names()}


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A checkpoint of STARK-ST that learned nothing, and the folder of exported graphs."""
    folder = tmp_path_factory.mktemp("shared")
    net = fill(build_model("stark_st2", load_config("stark_st2", "baseline")))
    save_checkpoint(folder / "STARKST_ep0050.pth.tar", {"net": net.state_dict()})
    (folder / "onnx").mkdir()
    return folder


@pytest.fixture
def place(tmp_path, monkeypatch, shared):
    """A working directory with all that the pages name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STARK_SAVE_DIR", str(tmp_path))
    Path("experiments").symlink_to(REPOSITORY / "experiments")
    Path("checkpoints").mkdir()
    for path in (Path("STARKST_ep0050.pth.tar"), Path("checkpoints/onnx")):
        path.symlink_to(shared / path.name)
    write_sequence(Path("path/to/mine"), "a", count=24)
    for name in ("sequences", "test", "held_out"):
        Path("path/to", name).symlink_to(tmp_path / "path/to/mine")
    for name in ("my.mp4", "clip.mp4"):
        write_clip(Path(name), (scene(i, (320, 240)) for i in range(12)))
    boxes = "".join(f'<box frame="{i}" xtl="40" ytl="60" xbr="80" ybr="99" outside="0"/>' for i in range(12))
    for file in (Path("annotations.xml"), Path("task/annotations.xml")):
        file.parent.mkdir(exist_ok=True)
        file.write_text(f'<annotations><meta/><track id="0" label="car">{boxes}</track></annotations>')
    return tmp_path


def ours(command: str, place: Path, monkeypatch) -> int:
    """Run a command in this process; gives its exit status."""
    words = [re.sub(r"(?<![\w.])/path/", f"{place}/path/", word) for word in shlex.split(command)]
    script = next((word for word in words if word.endswith(".py")), None)
    words = words[words.index(script) + 1 :] if script else words[1:]
    name = Path(script).stem if script else words[0]
    words += MORE.get(name, [])
    if "--checkpoints" in words:  # what the training before it, which is only checked here, leaves
        best = Path(words[words.index("--checkpoints") + 1])
        best.parent.mkdir(parents=True, exist_ok=True)
        best.symlink_to(REPOSITORY / "experiments/stark_lightning_X_trt/mini.pth.tar")
    monkeypatch.setattr(sys, "argv", [script or "stark", *words])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(REPOSITORY / script), run_name="__main__") if script else commands.main()
    return ended.value.code or 0


@pytest.mark.parametrize("page", [page for page, listed in COMMANDS.items() if listed])
def test_commands_run(page, place, monkeypatch):
    for command in COMMANDS[page]:
        if not re.search("|".join(ELSEWHERE), command):
            assert ours(command, place, monkeypatch) == 0, command
