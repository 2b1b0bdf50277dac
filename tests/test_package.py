"""The installed package: what a wheel holds, and what it does where only its own dependencies exist."""

import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import lib
from lib.utils.workspace import REPOSITORY

CLIP = REPOSITORY / "lib" / "tutorials" / "bigbuckbunny.mp4"
BOX = ("--init_bbox", 235, 258, 292, 304)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel, made of what git knows, which builds leave as it is."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in ("lib", "experiments"):
        shutil.copytree(REPOSITORY / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "local.py*"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    build = "from setuptools.build_meta import build_wheel; build_wheel('..')"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def needed(lines: list[str]) -> set[str]:
    """The packages that requirements name, and all that these need here."""
    found, left = set(), list(map(Requirement, lines))
    while left:
        line = left.pop()
        name = canonicalize_name(line.name)
        if name not in found and (line.marker is None or line.marker.evaluate({"extra": ""})):
            found.add(name)
            left += map(Requirement, metadata.requires(name) or [])
    return found


@pytest.fixture(scope="module")
def alone(wheel, tmp_path_factory):
    """An environment with the wheel and the dependencies that it names, and another package called `lib`."""
    place = tmp_path_factory.mktemp("alone")
    venv.create(place / "v", with_pip=False, symlinks=True)
    (site,) = (place / "v").glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
        (about,) = [name for name in archive.namelist() if name.endswith("/METADATA")]
        lines = re.findall(r"^Requires-Dist: (.*)$", archive.read(about).decode(), re.MULTILINE)
    for name in needed(lines):
        for top in {path.parts[0] for path in metadata.files(name)} - {"..", "__pycache__"}:
            (site / top).symlink_to(metadata.distribution(name).locate_file(top))
    (site / "lib").mkdir()
    (site / "lib" / "__init__.py").write_text("other = True\n")
    return place / "v" / "bin" / "python"


def run(python: Path, folder: Path, *words: object) -> subprocess.CompletedProcess:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "STARK_"))}
    return subprocess.run([str(python), *map(str, words)], cwd=folder, env=kept, capture_output=True, text=True)


def test_the_wheel_holds_the_whole_package(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {f"stark_tracker/{path.relative_to(REPOSITORY / 'lib')}" for path in (REPOSITORY / "lib").rglob("*.py")}
    configs = {f"stark_tracker/{path.relative_to(REPOSITORY)}" for path in REPOSITORY.glob("experiments/*/*.yaml")}
    assert {name for name in modules | configs if not name.endswith("/local.py")} <= names
    for name in ("experiments/stark_lightning_X_trt/mini.pth.tar", "data/specs/lasot_test.txt", "test/web/page/app.js"):
        assert f"stark_tracker/{name}" in names
    assert not [name for name in names if not name.startswith(("stark_tracker/", "stark_tracker-"))]


def test_it_tracks_where_only_its_dependencies_are(alone, tmp_path):
    done = run(alone, tmp_path, "-m", "stark_tracker", "track", CLIP, *BOX, "--save_results")
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "output").iterdir()  # the working directory's
    assert len((folder / "boxes.txt").read_text().splitlines()) == 132
    assert list(tmp_path.iterdir()) == [tmp_path / "output"]
    code = "import sys, lib, stark_tracker; print(lib.other, stark_tracker.__version__, 'torch' in sys.modules)"
    assert run(alone, tmp_path, "-c", code).stdout.split() == ["True", lib.__version__, "False"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "--help"], "needs the package torch: pip install 'stark-tracker[train]'"),
        (["web"], "pip install 'stark-tracker[web]'"),
        (["track", CLIP, *BOX, "--engine", "torch"], "the engine torch needs the package torch"),
        (["track", CLIP, *BOX, "--device", "cuda"], "device 'cuda' needs PyTorch"),
        (["track", "stark_x", "mini", CLIP], "stark_x is neither a tracker nor a file; trackers: stark_s"),
        (["track", CLIP, CLIP, *BOX], "several videos are called bigbuckbunny"),
        (["track", CLIP, *BOX, "--opts", "TEST.WINDOW=0.9"], "other weights or options"),
        (["fly"], "stark has no command 'fly'"),
    ],
)
def test_what_is_missing_is_one_line(alone, tmp_path, words, message):
    done = run(alone, tmp_path, "-m", "stark_tracker", *words)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_info_names_versions_engines_and_weights(alone, tmp_path):
    done = run(alone, tmp_path, "-m", "stark_tracker", "info")
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stdout.split())
    for text in (f"tracker {lib.__version__}", "torch not installed", "onnx (fp32)", "stark_lightning_X_trt mini"):
        assert text in said
