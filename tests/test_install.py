"""A wheel where only its own dependencies exist; install_pytorch17.sh with an installer that notes what it is asked."""

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


@pytest.fixture
def stark(alone, tmp_path):
    """Runs the installed program in an empty folder."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "STARK_"))}

    def run(*words: object, how: tuple[str, ...] = ("-m", "stark_tracker")) -> subprocess.CompletedProcess:
        command = [alone, *how, *map(str, words)]
        return subprocess.run(command, cwd=tmp_path, env=kept, capture_output=True, text=True)

    return run


def test_the_wheel_holds_the_whole_package(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {f"stark_tracker/{path.relative_to(REPOSITORY / 'lib')}" for path in (REPOSITORY / "lib").rglob("*.py")}
    configs = {f"stark_tracker/{path.relative_to(REPOSITORY)}" for path in REPOSITORY.glob("experiments/*/*.yaml")}
    assert {name for name in modules | configs if not name.endswith("/local.py")} <= names
    for name in ("experiments/stark_lightning_X_trt/mini.pth.tar", "data/specs/lasot_test.txt", "test/web/page/app.js"):
        assert f"stark_tracker/{name}" in names
    assert not [name for name in names if not name.startswith(("stark_tracker/", "stark_tracker-"))]


def test_it_tracks_where_only_its_dependencies_are(stark, tmp_path):
    done = stark("track", CLIP, *BOX, "--save_results")
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "output").iterdir()  # the working directory's
    assert len((folder / "boxes.txt").read_text().splitlines()) == 132
    assert list(tmp_path.iterdir()) == [tmp_path / "output"]
    code = "import sys, lib, stark_tracker; print(lib.other, stark_tracker.__version__, 'torch' in sys.modules)"
    assert stark(how=("-c", code)).stdout.split() == ["True", lib.__version__, "False"]
    said = " ".join(stark("info").stdout.split())
    for text in (f"tracker {lib.__version__}", "torch not installed", "onnx (fp32)", "stark_lightning_X_trt mini"):
        assert text in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "--help"], "needs the package torch: pip install 'stark-tracker[train]'"),
        (["web"], "pip install 'stark-tracker[web]'"),
        (["track", CLIP, *BOX, "--engine", "torch"], "the engine torch needs the package torch"),
        (["track", CLIP, *BOX, "--device", "cuda"], "device 'cuda' needs PyTorch"),
        (["track", "stark_x", "mini", CLIP], "stark_x is neither a tracker nor a file; trackers: stark_s"),
        (["track", CLIP, CLIP, *BOX], "several videos are called bigbuckbunny"),
        (["track", CLIP, *BOX, "--opts", "TEST.WINDOW=0.9"], "graphs of these weights and options"),
        (["fly"], "stark has no command 'fly'"),
    ],
)
def test_what_is_missing_is_one_line(stark, words, message):
    done = stark(*words)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


# Stands in for uv: logs the list, then leaves the metadata and the modules that the script looks for.
FAKE_UV = r"""more="${10:+ ${10} ${11} ${12}}"
[ "$*" = "pip install --compile-bytecode --python $5 --requirement $7 --override $9$more" ] || exit 1
[ -z "${10}" ] || echo "from ${12}" >>"$UV_LOG"
grep -q '^opencv-python ;' "$9" || exit 1
cat "$7" >>"$UV_LOG"
site=$("$5" -c "import sysconfig; print(sysconfig.get_paths()['purelib'])")
grep -v '^#' "$7" | sed 's/[=>]=/ /' | while read -r name version; do
  info=$site/$(echo "$name" | tr - _)-$version.dist-info
  mkdir -p "$info"
  printf 'Metadata-Version: 2.1\nName: %s\nVersion: %s\n' "$name" "$version" >"$info/METADATA"
done
for module in torch torchvision cv2; do
  printf "__version__ = '0'\nclass cuda: is_available = lambda: False\n" >"$site/$module.py"
done
"""


def script(path: Path, text: str) -> Path:
    """Write a shell script that can be run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}")
    path.chmod(0o755)
    return path


class Place:
    """A copy of the script in a folder with spaces, and an active environment without packages."""

    def __init__(self, root: Path) -> None:
        self.checkout, self.environment, self.tools = root / "a check out", root / "my env", root / "tools"
        self.checkout.mkdir()
        for name in ("install_pytorch17.sh", "pyproject.toml"):
            (self.checkout / name).write_bytes((REPOSITORY / name).read_bytes())
        venv.create(self.environment, with_pip=False, symlinks=True)
        script(self.tools / "uv", FAKE_UV)
        self.log = root / "log"
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("CONDA", "PYTHON", "UV_", "PIP_"))}
        self.variables = kept | {"PATH": f"{self.tools}:{os.environ['PATH']}", "VIRTUAL_ENV": str(self.environment)}
        self.variables |= {"UV_LOG": str(self.log), "PIP_CONFIG_FILE": os.devnull}

    def install(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess:
        """Run the script from another folder than its own."""
        command = ["bash", str(self.checkout / "install_pytorch17.sh"), *arguments]
        return subprocess.run(command, cwd="/", env=self.variables | variables, capture_output=True, text=True)

    def installed(self, *arguments: str, **variables: str) -> str:
        """The list of packages that an installation brings; the log starts anew."""
        self.log.unlink(missing_ok=True)
        result = self.install(*arguments, **variables)
        assert result.returncode == 0, result.stderr
        return self.log.read_text() if self.log.exists() else ""

    def metadata(self, package: str) -> Path:
        """The folder that says that a package is installed."""
        (site,) = self.environment.glob("lib/python*/site-packages")
        return next(site.glob(f"{package}-*.dist-info"), site / f"{package}-1.0.dist-info")


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def test_an_installation_that_failed_is_repeated_and_a_second_one_does_nothing(place):
    script(place.tools / "uv", "exit 1\n")
    failed = place.install()
    assert failed.returncode == 2
    assert "with pip" in failed.stderr
    script(place.tools / "uv", FAKE_UV)
    wanted = place.installed("--python")
    assert all(name in wanted for name in ("torch==", "\nnumpy>=", "opencv-contrib-python-headless"))
    second = place.install("--python")
    assert (second.stdout, second.stderr) == (f"{place.environment / 'bin' / 'python'}\n", "")
    assert place.log.read_text() == wanted
    assert not (place.checkout / ".venv").exists()


def test_a_changed_list_or_a_missing_package_is_installed(place):
    assert "pytest>=" not in place.installed()
    project = place.checkout / "pyproject.toml"
    more = """dependencies = [
    "elsewhere>=1.0; sys_platform == 'plan9' or python_version < '3.9'",
    "here>=1.0; sys_platform != 'plan9' and python_version >= '3.9'",  # says why
"""
    project.write_text(project.read_text().replace("dependencies = [\n", more, 1))
    assert "pytest>=" in (listed := place.installed("--dev"))
    assert "\nhere>=1.0\n" in listed
    assert "elsewhere" not in listed  # it is for other machines
    assert place.install("--python").stderr == ""  # nothing is missing
    shutil.rmtree(place.metadata("tqdm"))
    assert "tqdm" in place.installed()


@pytest.mark.parametrize(
    ("machine", "pins"),
    [("x86_64", ("torch==2.14.1", "torchvision==0.29.1")), ("aarch64", ("torch==2.9.1", "torchvision==0.24.1"))],
)
def test_pytorch_fits_the_processor_and_opencv_with_windows_is_left_as_it_is(place, machine, pins):
    script(place.tools / "uname", f"echo {machine}\n")
    info = place.metadata("opencv_python")
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: opencv-python\nVersion: 1.0\n")
    listed = place.installed()
    assert set(pins) <= set(listed.split())
    assert "opencv-" not in listed


def test_old_python_is_refused_in_one_line(place, tmp_path):
    # A stand-in: it fails the version check as an old interpreter does.
    script(tmp_path / "old" / "bin" / "python", '[ "$1" = --version ] && echo Python 3.8.18\nexit 1\n')
    result = place.install(VIRTUAL_ENV=str(tmp_path / "old"))
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert all(word in line for word in ("3.8.18", "3.10"))


def test_packages_come_from_a_folder_where_there_is_no_internet(place, tmp_path):
    wheels = tmp_path / "all wheels"
    assert f"--offline: there is no folder {wheels}" in place.install("--offline", str(wheels)).stderr
    wheels.mkdir()
    assert f"from {wheels}" in place.installed("--offline", str(wheels))
    for words in (["--offline"], ["--download"], ["--online"]):
        assert place.install(*words).returncode == 2


def test_the_lock_pins_what_the_project_needs_with_hashes():
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 reads no TOML")
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    lines = (REPOSITORY / "requirements.lock").read_text().splitlines()
    pinned = dict(line.removesuffix(" \\").split("==") for line in lines if "==" in line)
    assert "https:" not in "".join(lines)
    assert sum("--hash=sha256:" in line for line in lines) >= len(pinned) > 100
    for text in [*project["dependencies"], *sum(project["optional-dependencies"].values(), [])]:
        wanted = Requirement(text)
        assert wanted.specifier.contains(pinned[canonicalize_name(wanted.name)]), text
