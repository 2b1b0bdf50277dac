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

import lib
from lib.commands import COMMANDS, main
from lib.utils.workspace import REPOSITORY

CLIP = REPOSITORY / "lib" / "tutorials" / "bigbuckbunny.mp4"


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


def required(name: str) -> set[str]:
    """A package of this environment, and all that it needs here."""
    found, left = set(), [name]
    while left:
        name = re.sub(r"[-_.]+", "-", left.pop()).lower()
        if name not in found:
            found.add(name)
            lines = metadata.requires(name) or []
            left += [re.match(r"[\w.-]+", line)[0] for line in lines if "extra ==" not in line and _applies(line)]
    return found


def _applies(line: str) -> bool:
    from packaging.requirements import Requirement

    marker = Requirement(line).marker
    return marker is None or marker.evaluate({"extra": ""})


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
    for name in set().union(*(required(re.match(r"[\w.-]+", x)[0]) for x in lines if "extra ==" not in x)):
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
    for path in (REPOSITORY / "lib").rglob("*.py"):
        if path.name != "local.py":
            assert f"stark_tracker/{path.relative_to(REPOSITORY / 'lib')}" in names
    for path in (REPOSITORY / "experiments").rglob("*.yaml"):
        assert f"stark_tracker/experiments/{path.relative_to(REPOSITORY / 'experiments')}" in names
    for name in ("experiments/stark_lightning_X_trt/mini.pth.tar", "data/specs/lasot_test.txt", "test/web/page/app.js"):
        assert f"stark_tracker/{name}" in names
    assert not [name for name in names if not name.startswith(("stark_tracker/", "stark_tracker-"))]


def test_it_tracks_where_only_its_dependencies_are(alone, tmp_path):
    done = run(
        alone, tmp_path, "-m", "stark_tracker", "track", CLIP, "--init_bbox", 235, 258, 292, 304, "--save_results"
    )
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
        (["track", CLIP, "--init_bbox", 1, 2, 30, 40, "--engine", "torch"], "the engine torch needs the package torch"),
        (["track", CLIP, "--init_bbox", 1, 2, 30, 40, "--device", "cuda"], "device 'cuda' needs PyTorch"),
        (["track", "stark_x", "mini", CLIP], "stark_x is neither a tracker nor a file; trackers: stark_s"),
        (["track", CLIP, CLIP, "--init_bbox", 1, 2, 30, 40], "several videos are called bigbuckbunny"),
        (["track", "stark_s", "baseline", CLIP, "--init_bbox", 1, 2, 30, 40, "--checkpoint", "x"], "x"),
        (["track", CLIP, "--init_bbox", 1, 2, 30, 40, "--opts", "TEST.WINDOW=0.9"], "other weights or options"),
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
    assert re.search(rf"stark-tracker +{re.escape(lib.__version__)}", done.stdout)
    assert re.search(r"torch +not installed", done.stdout)
    assert "onnx (fp32)" in done.stdout
    assert "stark_lightning_X_trt mini" in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_and_its_script_give_the_same_help(name, monkeypatch, capsys, run_script):
    scripts = {
        **{"track": "video_demo", "web": "web_demo", "analyze": "analysis_results", "profile": "profile_model"},
        **{"release": "release_checkpoint", "data pack": "make_lmdb", "data synthesize": "make_embedded"},
    }
    monkeypatch.setattr(sys, "argv", ["stark", *name.split(), "--help"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert said.startswith(f"usage: stark {name} ")
    script = REPOSITORY / "tracking" / f"{scripts.get(name, name)}.py"
    if script.is_file():
        assert len(script.read_text().splitlines()) <= 11
        run_script(script.name, "--help")
        shown = re.sub(rf"python \S+/{script.name}", f"stark {name}", capsys.readouterr().out)
        assert shown.split() == said.split()
