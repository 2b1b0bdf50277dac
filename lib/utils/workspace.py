"""Where data, checkpoints and results lie. Every path the project uses by default comes from here.

Environment variables say it first: STARK_DATA_DIR, STARK_SAVE_DIR, STARK_PRETRAINED_DIR. Then the user's local files,
which `tracking/create_default_local_file.py` makes; they are Python, and may be edited. Without either it is this
repository.
"""

import os
import runpy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from lib.utils.errors import UserError

Side = Literal["train", "test"]

REPOSITORY = Path(__file__).resolve().parents[2]
COMMAND = "python tracking/create_default_local_file.py"
LOCAL_FILES: dict[Side, Path] = {
    "train": REPOSITORY / "lib" / "train" / "admin" / "local.py",
    "test": REPOSITORY / "lib" / "test" / "evaluation" / "local.py",
}

# What a local file defines that makes its settings, and how the names of data sets' folders end in them.
_MAKER: dict[Side, str] = {"train": "EnvironmentSettings", "test": "local_env_settings"}
_ENDING: dict[Side, str] = {"train": "_dir", "test": "_path"}
_PATH_NAMES = ("_dir", "_path", "pretrained_networks")
# Folders of data sets whose names in a local file are others.
_ALIASES = {"vid": "imagenet"}


@dataclass(frozen=True)
class Workspace:
    """Folders of one working place.

    Attributes:
        data_dir: data sets, one folder each (`lasot`, `got10k`, `coco`, …).
        save_dir: what runs write: checkpoints, logs, results.
        pretrained_dir: ImageNet weights of backbones.
        tensorboard_dir: curves and pictures of the runs that are saved in `save_dir`.
        results_dir: `<tracker>/<config>/<sequence>.txt` lies under it.
        plots_dir: plots and tables of evaluations.
        network_dir: a checkpoint that is named to a tracker, and is not where it is named, is looked for here.
        own: places of single data sets, by their names in the local file without the ending (`lasot`, `lasot_lmdb`).
        local_file: the local file that was honoured, if any.
    """

    data_dir: Path
    save_dir: Path
    pretrained_dir: Path
    tensorboard_dir: Path
    results_dir: Path
    plots_dir: Path
    network_dir: Path
    own: Mapping[str, Path] = field(default_factory=lambda: MappingProxyType({}))
    local_file: Path | None = None

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
        return replace(self, data_dir=data_dir, own=MappingProxyType({}))

    def dataset_dir(self, name: str) -> Path:
        """The folder of a data set by its usual name (`lasot`): its own, or the one in `data_dir`."""
        return self._own(name) or self.data_dir / name

    def lmdb_dir(self, name: str) -> Path | None:
        """The LMDB of a data set by the usual name of its folder, where the local file names one."""
        return self._own(name, "_lmdb")

    def dataset_remedy(self, name: str) -> str:
        """What to do where the folder of a data set is missing."""
        if self._own(name) is None:
            return "put it there, or set STARK_DATA_DIR to the folder of all data sets"
        return f"put it there, or correct it in {self.local_file}"

    def _own(self, name: str, what: str = "") -> Path | None:
        return self.own.get(f"{_ALIASES.get(name, name)}{what}")


def workspace(side: Side) -> Workspace:
    """The working place of training, or of testing: each side has a local file of its own.

    Raises:
        UserError: the local file cannot be read; the message says where in it.
    """
    file = LOCAL_FILES[side]
    local = _read(file, side) if file.is_file() else {}
    data_variable, save_variable, pretrained_variable = (
        os.path.expanduser(os.environ.get(f"STARK_{name}_DIR", "")) for name in ("DATA", "SAVE", "PRETRAINED")
    )
    # A variable is about all that lies in its folder by default, so it also goes before the file's words on that.
    saved = {} if save_variable else local
    save_dir = Path(save_variable or saved.get("save_dir") or saved.get("workspace_dir") or REPOSITORY)
    return Workspace(
        data_dir=Path(data_variable or local.get("data_dir") or REPOSITORY / "data"),
        save_dir=save_dir,
        pretrained_dir=Path(
            pretrained_variable or local.get("pretrained_networks") or REPOSITORY / "pretrained_networks"
        ),
        tensorboard_dir=saved.get("tensorboard_dir") or save_dir / "tensorboard",
        results_dir=saved.get("results_path") or save_dir / "test" / "tracking_results",
        plots_dir=saved.get("result_plot_path") or save_dir / "test" / "result_plots",
        network_dir=saved.get("network_path") or save_dir / "test" / "networks",
        own=MappingProxyType({} if data_variable else _folders(local, side)),
        local_file=file if local else None,
    )


def _folders(local: Mapping[str, Path], side: Side) -> dict[str, Path]:
    """The places of data sets, without the ending of their names."""
    ending = _ENDING[side]
    return {name.removesuffix(ending): path for name, path in local.items() if name.endswith(ending)}


def _read(path: Path, side: Side) -> Mapping[str, Path]:
    """The paths that a local file sets, by name."""
    status = path.stat()
    return _read_once(path, side, (status.st_mtime_ns, status.st_size))


@lru_cache(maxsize=8)
def _read_once(path: Path, side: Side, _version: tuple[int, int]) -> Mapping[str, Path]:
    """`_read`, once for each state of the file."""
    # The file is the user's own program, which may fail in any way.
    try:
        settings = _settings(path, side)
        values = {name: getattr(settings, name) for name in dir(settings) if name.endswith(_PATH_NAMES)}
        return {name: _absolute(name, value) for name, value in values.items() if value}
    except Exception as error:
        raise UserError(
            f"{path}{_line(error, path)}: {type(error).__name__}: {' '.join(str(error).split())}; "
            f"correct it, or make it anew with `{COMMAND} --force`"
        ) from error


def _settings(path: Path, side: Side) -> Any:
    """Run a local file and make its settings."""
    names, maker = runpy.run_path(str(path)), _MAKER[side]
    if maker not in names:
        raise NameError(f"it does not define {maker}")
    return names[maker]()


def _line(error: Exception, path: Path) -> str:
    """Where in a file an error arose."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f", line {error.lineno}"
    lines, trace = [], error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            lines.append(trace.tb_lineno)
        trace = trace.tb_next
    return f", line {lines[-1]}" if lines else ""


def _absolute(name: str, value: object) -> Path:
    """A path of a local file; a relative one starts at the repository, wherever the command is run."""
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{name} is {value!r}, expected a path in quotation marks")
    return REPOSITORY / Path(value).expanduser()
