"""Writing the local files in which a user says where data, checkpoints and results lie."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from lib.utils.errors import UserError
from lib.utils.files import atomic_path, write_text
from lib.utils.workspace import Side

TRAINING = '''"""Where training finds its data and keeps its runs, on this machine. Edit it freely.

Environment variables (STARK_DATA_DIR, STARK_SAVE_DIR, STARK_PRETRAINED_DIR) go before it. An empty text, or a line
that is missing, means the default.
"""


class EnvironmentSettings:
    def __init__(self):
        self.workspace_dir = {workspace}
        self.save_dir = {save}  # checkpoints/ and logs/ of runs
        self.tensorboard_dir = {save}/tensorboard
        self.pretrained_networks = {workspace}/pretrained_networks  # ImageNet weights of backbones

        # Data sets, and the LMDBs that --use_lmdb reads in their place; data_dir is for those that are not listed.
        self.data_dir = {data}
        self.lasot_dir = {data}/lasot
        self.lasot_lmdb_dir = {data}/lasot_lmdb
        self.got10k_dir = {data}/got10k
        self.got10k_lmdb_dir = {data}/got10k_lmdb
        self.trackingnet_dir = {data}/trackingnet
        self.trackingnet_lmdb_dir = {data}/trackingnet_lmdb
        self.coco_dir = {data}/coco
        self.coco_lmdb_dir = {data}/coco_lmdb
        self.davis_dir = {data}/davis
        self.youtube_vos_dir = {data}/youtube_vos
        self.imagenet_dir = {data}/vid
        self.imagenet_lmdb_dir = {data}/vid_lmdb
'''

TESTING = '''"""Where testing finds test sets and checkpoints, and keeps results, on this machine. Edit it freely.

Environment variables (STARK_DATA_DIR, STARK_SAVE_DIR) go before it. An empty text, or a line that is missing, means
the default.
"""

from lib.test.evaluation.environment import EnvSettings


def local_env_settings():
    settings = EnvSettings()
    settings.save_dir = {save}  # checkpoints/ of trained networks
    settings.results_path = {save}/test/tracking_results
    settings.result_plot_path = {save}/test/result_plots
    settings.network_path = {save}/test/networks  # checkpoints that are named to a tracker by their file name

    # Test sets; data_dir is for those that are not listed.
    settings.data_dir = {data}
    settings.lasot_path = {data}/lasot
    settings.lasot_lmdb_path = {data}/lasot_lmdb
    settings.lasot_ext_path = {data}/lasot_ext
    settings.got10k_path = {data}/got10k
    settings.trackingnet_path = {data}/trackingnet
    settings.otb_path = {data}/otb
    settings.nfs_path = {data}/nfs
    settings.uav_path = {data}/uav
    settings.tc128_path = {data}/tc128
    settings.tnl2k_path = {data}/tnl2k
    return settings
'''


def write_local_files(
    workspace_dir: Path,
    data_dir: Path,
    save_dir: Path,
    force: bool,
    files: Mapping[Side, Path],
) -> list[Path]:
    """Write the local files of training and of testing. Both, or, where one must not be replaced, none.

    Args:
        workspace_dir: `pretrained_networks/` lies in it.
        data_dir: folder of all data sets.
        save_dir: checkpoints, logs and results lie under it.
        force: replace files that say something else; they are kept beside the new ones as `local.py.bak`, `.bak2`, …
        files: where they go: `lib.utils.workspace.LOCAL_FILES`.

    Returns:
        The files that were written; those that say the same already are left as they are.

    Raises:
        UserError: a file is there and says something else, or cannot be written.
    """
    folders = {"workspace": workspace_dir, "data": data_dir, "save": save_dir}
    texts = {files[side]: _fill(text, folders) for side, text in (("train", TRAINING), ("test", TESTING))}
    try:
        there = {path: path.read_bytes() for path in texts if path.exists()}
        changed = [path for path, content in there.items() if content != texts[path].encode()]
        if changed and not force:
            raise UserError(
                f"{' and '.join(map(str, changed))} {'are' if len(changed) > 1 else 'is'} there already: "
                "edit by hand, or replace with --force, which keeps what was there as .bak"
            )
        for path in changed:
            with atomic_path(_free_backup(path)) as temporary:
                temporary.write_bytes(there[path])
        new = [path for path in texts if path in changed or path not in there]
        for path in new:
            write_text(path, texts[path])
    except OSError as error:
        raise UserError(f"cannot write the local files: {error.filename}: {error.strerror}") from error
    return new


def _fill(text: str, folders: Mapping[str, Path]) -> str:
    """Put absolute paths, quoted, in the place of `{name}` and `{name}/below`."""

    def path(place: re.Match) -> str:
        return repr(str(Path(os.path.abspath(folders[place[1]].expanduser()), place[2].lstrip("/"))))

    return re.sub(r"\{(\w+)\}(\S*)", path, text)


def _free_backup(path: Path) -> Path:
    """The first of `.bak`, `.bak2`, … that is not there."""
    number, backup = 1, path.with_name(f"{path.name}.bak")
    while backup.exists():
        number += 1
        backup = path.with_name(f"{path.name}.bak{number}")
    return backup
