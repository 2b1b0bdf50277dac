"""install_pytorch17.sh, against a small environment and an installer that only notes what it was asked for."""

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]

# Stands in for uv: logs the list, then leaves the metadata and the modules that the script looks for.
FAKE_UV = """#!/bin/sh
[ "$*" = "pip install --compile-bytecode --python $5 --requirement $7 --override $9" ] || exit 1
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


class Place:
    """A copy of the script in a folder with spaces, and an active environment without packages."""

    def __init__(self, root: Path) -> None:
        self.checkout = root / "a check out"
        self.checkout.mkdir()
        for name in ("install_pytorch17.sh", "requirements.txt"):
            (self.checkout / name).write_bytes((REPOSITORY / name).read_bytes())
        self.environment = root / "my env"
        venv.create(self.environment, with_pip=False, symlinks=True)
        tools = root / "tools"
        tools.mkdir()
        (tools / "uv").write_text(FAKE_UV)
        (tools / "uv").chmod(0o755)
        self.log = root / "log"
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("CONDA", "PYTHON", "UV_", "PIP_"))}
        self.variables = kept | {
            "PATH": f"{tools}:{os.environ['PATH']}",
            "VIRTUAL_ENV": str(self.environment),
            "UV_LOG": str(self.log),
        }

    def install(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess:
        """Run the script from another folder than its own."""
        return subprocess.run(
            ["bash", str(self.checkout / "install_pytorch17.sh"), *arguments],
            cwd="/",
            env=self.variables | {"PIP_CONFIG_FILE": os.devnull} | variables,
            capture_output=True,
            text=True,
        )

    def installed_lists(self) -> str:
        return self.log.read_text() if self.log.exists() else ""


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def test_second_run_installs_nothing_and_prints_the_interpreter(place):
    first = place.install("--python")
    assert first.returncode == 0, first.stderr
    python = str(place.environment / "bin" / "python")
    assert first.stdout == f"{python}\n"
    wanted = place.installed_lists()
    assert "torch==" in wanted
    assert "\nnumpy>=" in wanted
    assert "opencv-contrib-python-headless" in wanted

    second = place.install("--python")
    assert second.stdout == first.stdout
    assert second.stderr == ""
    assert place.installed_lists() == wanted
    assert not (place.checkout / ".venv").exists()


def test_a_changed_list_or_a_missing_package_is_installed(place):
    place.install()
    once = place.installed_lists()
    with open(place.checkout / "requirements.txt", "a") as requirements:
        requirements.write("another-package>=1.0\n")
    assert place.install().returncode == 0
    assert "another-package" in place.installed_lists()[len(once) :]

    (metadata,) = place.environment.glob("lib/python*/site-packages/tqdm-*.dist-info")
    (metadata / "METADATA").unlink()
    metadata.rmdir()
    before = len(place.installed_lists())
    assert place.install().returncode == 0
    assert "tqdm" in place.installed_lists()[before:]


def test_packages_for_other_machines_are_left_out(place):
    with open(place.checkout / "requirements.txt", "a") as requirements:
        requirements.write('elsewhere>=1.0; sys_platform == "plan9" or python_version < "3.9"\n')
        requirements.write('here>=1.0; sys_platform != "plan9" and python_version >= "3.9"  # says why\n')
    assert place.install().returncode == 0
    assert "elsewhere" not in place.installed_lists()
    assert "\nhere>=1.0\n" in place.installed_lists()
    assert place.install("--python").stderr == ""  # nothing is missing


def test_opencv_with_windows_is_left_as_it_is(place):
    (site,) = place.environment.glob("lib/python*/site-packages")
    info = site / "opencv_python-4.12.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: opencv-python\nVersion: 4.12.0\n")
    assert place.install().returncode == 0
    assert "opencv-" not in place.installed_lists()


@pytest.mark.parametrize(
    ("machine", "pins"),
    [("x86_64", ("torch==2.14.1", "torchvision==0.29.1")), ("aarch64", ("torch==2.9.1", "torchvision==0.24.1"))],
)
def test_pytorch_fits_the_processor(place, machine, pins):
    uname = Path(place.variables["PATH"].split(":")[0]) / "uname"
    uname.write_text(f"#!/bin/sh\necho {machine}\n")
    uname.chmod(0o755)
    assert place.install().returncode == 0
    assert set(pins) <= set(place.installed_lists().split())


def test_old_python_is_refused_in_one_line(place, tmp_path):
    # A stand-in: it fails the version check as an old interpreter does.
    old = tmp_path / "old" / "bin" / "python"
    old.parent.mkdir(parents=True)
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.8.18\nexit 1\n')
    old.chmod(0o755)
    result = place.install(VIRTUAL_ENV=str(tmp_path / "old"))
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert "3.8.18" in line
    assert "3.10" in line
    result = place.install(VIRTUAL_ENV="", PYTHON=str(old))
    assert result.returncode == 2
    assert str(old) in result.stderr


def test_broken_environment_is_made_anew(place, tmp_path):
    base = tmp_path / "base python"  # pip would take seconds to come into an environment that never uses it
    base.write_text(
        f'#!/bin/sh\n[ "$1 $2" = "-m venv" ] && exec "{sys.executable}" -m venv --without-pip "$3"\n'
        f'exec "{sys.executable}" "$@"\n'
    )
    base.chmod(0o755)
    broken = place.checkout / ".venv"
    (broken / "bin").mkdir(parents=True)
    (broken / "bin" / "python").symlink_to("/nonexistent/python")
    result = place.install("--python", VIRTUAL_ENV="", PYTHON=str(base))
    assert result.returncode == 0, result.stderr
    assert "broken" in result.stderr
    assert subprocess.run([result.stdout.strip(), "-c", "import torch"]).returncode == 0


def test_failed_installation_leaves_no_stamp(place):
    uv = Path(place.variables["PATH"].split(":")[0]) / "uv"
    working = uv.read_text()
    uv.write_text("#!/bin/sh\nexit 1\n")
    result = place.install()
    assert result.returncode == 2
    assert "with pip" in result.stderr
    assert not list(place.environment.glob(".stark*"))
    uv.write_text(working)
    assert place.install().returncode == 0
    assert "numpy" in place.installed_lists()
