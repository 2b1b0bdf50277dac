"""Where data, checkpoints and results lie by default.

First come the environment variables STARK_DATA_DIR, STARK_SAVE_DIR and STARK_PRETRAINED_DIR, then the user's local
files, which `tracking/create_default_local_file.py` makes, then the working directory. Each data set that is not there
is looked for in the checkout, and so is the folder of ImageNet weights.
"""

import os
import platform
import runpy
import shlex
import shutil
import subprocess
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from .errors import UserError
from .files import write_text

Side = Literal["train", "test"]

PACKAGE = Path(__file__).resolve().parents[1]  # the folder `lib` of a checkout, or the installed package
REPOSITORY = PACKAGE.parent
IN_CHECKOUT = (REPOSITORY / "install_pytorch17.sh").is_file()
EXPERIMENTS = (REPOSITORY if IN_CHECKOUT else PACKAGE) / "experiments"
LOCAL_FILES: dict[Side, Path] = {
    "train": PACKAGE / "train" / "admin" / "local.py",
    "test": PACKAGE / "test" / "evaluation" / "local.py",
}
VARIABLES = ("STARK_DATA_DIR", "STARK_SAVE_DIR", "STARK_PRETRAINED_DIR")
# What a local file defines, which gives its settings when it is called.
_MAKER: dict[Side, str] = {"train": "EnvironmentSettings", "test": "local_env_settings"}
# Folders of data sets whose names in a local file are others.
_ALIASES = {"vid": "imagenet"}
_LOCAL_FILE = '''"""Where {side}ing finds and keeps its files on this machine. Edit it freely.

Environment variables (STARK_DATA_DIR, STARK_SAVE_DIR, STARK_PRETRAINED_DIR) go before it. An empty text, or a line
that is missing, means the default. A relative path starts at the checkout. data_dir is for the data sets that are not
listed, save_dir for checkpoints/ and logs/, pretrained_networks for ImageNet weights of backbones, network_path for
checkpoints that are named to a tracker by their file name.
"""


class {maker}:
{lines}
'''
# Folders of the data sets that local files list; those for training have an LMDB beside them.
_TRAINING_SETS = ("lasot", "got10k", "trackingnet", "coco", "vid", "davis", "youtube_vos")
_TEST_SETS = ("lasot", "lasot_lmdb", "lasot_ext", "got10k", "trackingnet", "otb", "nfs", "uav", "tc128", "tnl2k")


@dataclass(frozen=True)
class Workspace:
    """Folders of one working place."""

    data_dir: Path  # data sets, one folder each (`lasot`, `got10k`, `coco`, …)
    save_dir: Path  # checkpoints, logs and results of runs
    pretrained_dir: Path  # ImageNet weights of backbones
    tensorboard_dir: Path  # curves and pictures of the runs that are saved in `save_dir`
    results_dir: Path  # `<tracker>/<config>/<sequence>.txt` lies under it
    plots_dir: Path  # plots and tables of evaluations
    network_dir: Path  # a checkpoint that is named to a tracker, and is not where it is named, is looked for here
    more_data_dir: Path | None = None  # of the checkout, for data sets that are missing in `data_dir`
    # Places of single data sets, by their names in the local file without `_dir` or `_path` (`lasot`, `lasot_lmdb`).
    own: Mapping[str, Path] = field(default_factory=dict)
    local_file: Path | None = None  # the local file that was read, if any

    @property
    def checkpoint_dir(self) -> Path:
        """`train/<script>/<config>/…` lies under it."""
        return self.save_dir / "checkpoints"

    def tensorboard_for(self, save_dir: Path) -> Path:
        """Where a run's curves go: runs that are saved elsewhere keep theirs there, so that none are mixed."""
        at_home = save_dir.expanduser().resolve() == self.save_dir.resolve()
        return self.tensorboard_dir if at_home else save_dir / "tensorboard"

    def moved(self, data_dir: Path) -> "Workspace":
        """The same with all data sets in another folder."""
        return replace(self, data_dir=data_dir, more_data_dir=None, own={})

    def dataset_dir(self, name: str) -> Path:
        """The folder of a data set by its usual name (`lasot`): its own, or the one in `data_dir` or the checkout."""
        places = [folder / name for folder in (self.data_dir, self.more_data_dir) if folder is not None]
        known = [place for place in places if place.is_dir() or place.with_name(f"{place.name}_lmdb").is_dir()]
        return self.own.get(_ALIASES.get(name, name), (known or places)[0])

    def lmdb_dir(self, name: str) -> Path | None:
        """The LMDB of a data set by the usual name of its folder, where the local file names one."""
        return self.own.get(f"{_ALIASES.get(name, name)}_lmdb")

    def dataset_remedy(self, name: str) -> str:
        """What to do where the folder of a data set is missing."""
        if _ALIASES.get(name, name) in self.own:
            return f"put it there, or correct it in {self.local_file}"
        return "put it there, or set STARK_DATA_DIR to the folder of all data sets"


def workspace(side: Side) -> Workspace:
    """The working place of training, or of testing: each side has a local file of its own, or a UserError about it."""
    file = LOCAL_FILES[side]
    local = _read(file, side) if file.is_file() else {}
    data_dir, save_dir, pretrained_dir = (os.path.expanduser(os.environ.get(name, "")) for name in VARIABLES)
    # A variable also goes before the file's places of all that lies in its folder by default.
    saved = {} if save_dir else local
    save_dir = Path(save_dir or saved.get("save_dir") or saved.get("workspace_dir") or Path.cwd())
    pretrained_dir = pretrained_dir or local.get("pretrained_networks") or _pretrained()
    data_dir_given = data_dir or local.get("data_dir")
    return Workspace(
        data_dir=Path(data_dir_given or Path.cwd() / "data"),
        save_dir=save_dir,
        pretrained_dir=Path(pretrained_dir),
        tensorboard_dir=saved.get("tensorboard_dir") or save_dir / "tensorboard",
        results_dir=saved.get("results_path") or save_dir / "test" / "tracking_results",
        plots_dir=saved.get("result_plot_path") or save_dir / "test" / "result_plots",
        network_dir=saved.get("network_path") or save_dir / "test" / "networks",
        own={} if data_dir else {name.rpartition("_")[0]: path for name, path in local.items()},
        more_data_dir=REPOSITORY / "data" if IN_CHECKOUT and not data_dir_given else None,
        local_file=file if local else None,
    )


def _pretrained() -> Path:
    """`pretrained_networks` of the working directory; where only the checkout has it, that one."""
    here, there = (folder / "pretrained_networks" for folder in (Path.cwd(), REPOSITORY))
    return there if IN_CHECKOUT and there.is_dir() and not here.is_dir() else here


def provenance() -> dict[str, str]:
    """What this process runs: command line, time of the start, commit of this repository, versions. Unknown is ""."""
    command = shlex.join(sys.argv).encode(errors="backslashreplace").decode().replace("\n", "\\n")
    started = datetime.now(timezone.utc).isoformat(" ", "minutes")
    found = {"command": command, "started": started, "commit": "", "python": platform.python_version()}
    if IN_CHECKOUT and shutil.which("git"):
        describe = ("git", "-C", str(REPOSITORY), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
        found["commit"] = subprocess.run(describe, capture_output=True, text=True, check=False).stdout.strip()
    packages = ("torch", "torchvision", "numpy", "opencv-contrib-python-headless", "openvino", "onnxruntime")
    return found | {package: package_version(package) for package in packages}


def package_version(name: str) -> str:
    """The version of an installed package; "" where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _read(path: Path, side: Side) -> dict[str, Path]:
    """Run a local file; the paths that its settings have, by name.

    Relative ones start at the checkout; of an installed package, at the working directory.
    """
    start = REPOSITORY if IN_CHECKOUT else Path.cwd()
    try:  # the file is the user's own program, which may fail in any way
        settings = runpy.run_path(str(path))[_MAKER[side]]()
        values = {name: getattr(settings, name) for name in dir(settings)}
        names = [name for name in values if name.endswith(("_dir", "_path", "pretrained_networks")) and values[name]]
        return {name: start / Path(values[name]).expanduser() for name in names}
    except Exception as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        raise UserError(
            f"{path}{f', line {lines[-1]}' if lines else ''}: {type(error).__name__}: {' '.join(str(error).split())}; "
            "correct it, or make it anew with `python tracking/create_default_local_file.py --force`"
        ) from error


def write_local_files(workspace_dir: Path, data_dir: Path, save_dir: Path, force: bool) -> list[Path]:
    """Write `LOCAL_FILES`: both, or, where one must not be replaced, none. Returns those that changed.

    `pretrained_networks/` lies in `workspace_dir`. With `force`, earlier files are kept as `local.py.bak`, `.bak2`, …
    Raises UserError where one exists and says something else, or cannot be written.
    """
    work, data, save = (Path(os.path.abspath(folder.expanduser())) for folder in (workspace_dir, data_dir, save_dir))
    train = {"workspace_dir": work, "save_dir": save, "tensorboard_dir": save / "tensorboard"}
    train |= {"pretrained_networks": work / "pretrained_networks", "data_dir": data}
    for folder in _TRAINING_SETS:
        name = _ALIASES.get(folder, folder)
        train |= {f"{name}_dir": data / folder, f"{name}_lmdb_dir": data / f"{folder}_lmdb"}
    test = {"save_dir": save, "results_path": save / "test" / "tracking_results"}
    test |= {"result_plot_path": save / "test" / "result_plots", "network_path": save / "test" / "networks"}
    test |= {"data_dir": data} | {f"{name}_path": data / name for name in _TEST_SETS}
    texts = {}
    for side, paths in (("train", train), ("test", test)):
        lines = "\n".join(f"    {name} = {str(path)!r}" for name, path in paths.items())
        path, text = LOCAL_FILES[side], _LOCAL_FILE.format(side=side, maker=_MAKER[side], lines=lines)
        if not path.exists() or path.read_bytes() != text.encode():
            texts[path] = text
    existing = [path for path in texts if path.exists()]
    if existing and not force:
        raise UserError(
            f"{' and '.join(map(str, existing))} exists: edit by hand, or replace with --force, which keeps a .bak"
        )
    try:
        for path in existing:
            backups = (path.with_name(f"{path.name}.bak{number}") for number in ("", *range(2, 1000)))
            path.rename(next(backup for backup in backups if not backup.exists()))
        for path, text in texts.items():
            write_text(path, text)
    except OSError as error:
        raise UserError(f"cannot write the local files: {error.filename}: {error.strerror}") from error
    return list(texts)
