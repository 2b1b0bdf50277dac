"""install_pytorch17.sh, against a small environment and an installer that only notes what it was asked for."""

import os
import shutil
import subprocess
import venv
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).resolve().parents[1]

# Stands in for uv: logs the list, then leaves the metadata and the modules that the script looks for.
FAKE_UV = """more="${10:+ ${10} ${11} ${12}}"
[ "$*" = "pip install --compile-bytecode --python $5 --requirement $7 --override $9$more" ] || exit 1
[ -z "${10}" ] || echo "from ${12}" >>"$UV_LOG"
grep -q '^opencv-python ;' "$9" || exit 1
cat "$7" >>"$UV_LOG"
exec "$5" - "$7" <<'PY'
import re, sys, sysconfig
from pathlib import Path
site = Path(sysconfig.get_paths()["purelib"])
for line in Path(sys.argv[1]).read_text().splitlines():
    if line.startswith("#"):
        continue
    name, version = re.match(r"([\\w.-]+)(?:[=>]=(.+))?", line).groups()
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n")
for module in ("torch", "torchvision", "cv2"):
    (site / f"{module}.py").write_text(
        "from types import SimpleNamespace\\n__version__ = '0'\\ncuda = SimpleNamespace(is_available=lambda: False)\\n"
    )
PY
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
