"""Writing the local files in which a user says where data, checkpoints and results lie."""

import os
from collections.abc import Mapping
from pathlib import Path

from lib.utils.errors import UserError
from lib.utils.files import write_text
from lib.utils.workspace import Side

_HEAD = '''"""Where {side} finds and keeps its files on this machine. Edit it freely.

Environment variables (STARK_DATA_DIR, STARK_SAVE_DIR, STARK_PRETRAINED_DIR) go before it. An empty text, or a line
that is missing, means the default. data_dir is for the data sets that are not listed.
{more}
"""

'''
_TRAINING = """
class EnvironmentSettings:
    def __init__(self):
"""
_TESTING = """from lib.test.evaluation.environment import EnvSettings


def local_env_settings():
    settings = EnvSettings()
"""
_TRAINING_NOTES = (
    "save_dir is for checkpoints/ and logs/ of runs, pretrained_networks for ImageNet weights of backbones."
)
_TESTING_NOTES = "save_dir holds checkpoints/; network_path those that are named to a tracker by their file name."
# Folders of data sets by their published names, which have an LMDB beside them.
_TRAINING_SETS = {name: name for name in ("lasot", "got10k", "trackingnet", "coco")} | {"imagenet": "vid"}
_TEST_SETS = ("lasot", "lasot_lmdb", "lasot_ext", "got10k", "trackingnet", "otb", "nfs", "uav", "tc128", "tnl2k")


def write_local_files(
    workspace_dir: Path, data_dir: Path, save_dir: Path, force: bool, files: Mapping[Side, Path]
) -> list[Path]:
    """Write the local files (`LOCAL_FILES`) of training and of testing: both, or, where one must not be replaced, none.

    `pretrained_networks/` lies in `workspace_dir`. With `force`, files that say something else are kept beside the new
    ones as `local.py.bak`, `.bak2`, … Returns the files that were written; those that say the same already stay.

    Raises:
        UserError: a file exists and says something else, or cannot be written.
    """
    work, data, save = (Path(os.path.abspath(folder.expanduser())) for folder in (workspace_dir, data_dir, save_dir))
    texts = {files["train"]: _training_text(work, data, save), files["test"]: _testing_text(data, save)}
    try:
        new = [path for path, text in texts.items() if not path.exists() or path.read_bytes() != text.encode()]
        existing = [path for path in new if path.exists()]
        if existing and not force:
            raise UserError(
                f"{' and '.join(map(str, existing))} {'are' if len(existing) > 1 else 'is'} there already: "
                "edit by hand, or replace with --force, which keeps what was there as .bak"
            )
        for path in existing:
            backups = (path.with_name(f"{path.name}.bak{number}") for number in ("", *range(2, 1000)))
            path.rename(next(backup for backup in backups if not backup.exists()))
        for path in new:
            write_text(path, texts[path])
    except OSError as error:
        raise UserError(f"cannot write the local files: {error.filename}: {error.strerror}") from error
    return new


def _training_text(work: Path, data: Path, save: Path) -> str:
    paths = {"workspace_dir": work, "save_dir": save, "tensorboard_dir": save / "tensorboard"}
    paths |= {"pretrained_networks": work / "pretrained_networks", "data_dir": data}
    paths |= {f"{name}_dir": data / folder for name, folder in _TRAINING_SETS.items()}
    paths |= {f"{name}_lmdb_dir": data / f"{folder}_lmdb" for name, folder in _TRAINING_SETS.items()}
    paths |= {f"{name}_dir": data / name for name in ("davis", "youtube_vos")}
    lines = [f"        self.{name} = {str(path)!r}\n" for name, path in paths.items()]
    return _HEAD.format(side="training", more=_TRAINING_NOTES) + _TRAINING + "".join(lines)


def _testing_text(data: Path, save: Path) -> str:
    paths = {"save_dir": save, "results_path": save / "test" / "tracking_results"}
    paths |= {"result_plot_path": save / "test" / "result_plots", "network_path": save / "test" / "networks"}
    paths |= {"data_dir": data} | {f"{name}_path": data / name for name in _TEST_SETS}
    lines = [f"    settings.{name} = {str(path)!r}\n" for name, path in paths.items()]
    return _HEAD.format(side="testing", more=_TESTING_NOTES) + _TESTING + "".join([*lines, "    return settings\n"])
