"""Where things lie: environment variables, then the user's local file, which a command writes, then the repository."""

import os
import runpy
import shutil
import sys
from pathlib import Path

import pytest

from lib.data.registry import find_kind, find_lack, load_dataset
from lib.test.tracker import find_weights
from lib.utils import workspace as workspace_module
from lib.utils.errors import UserError, run_command
from lib.utils.workspace import REPOSITORY, provenance, workspace, write_local_files
from tests.data.made_sets import moving_boxes, write_boxes

# In the style that users of the published system have.
PUBLISHED_TRAINING = """
class EnvironmentSettings:
    def __init__(self):
        self.workspace_dir = '{0}/work'    # Base directory
        self.tensorboard_dir = '{0}/curves'
        self.pretrained_networks = '{0}/imagenet'
        self.lasot_dir = '{0}/ssd/lasot'
        self.lasot_lmdb_dir = '{0}/nvme/packed'
        self.imagenet_dir = '{0}/ssd/ilsvrc'
        self.coco_dir = ''
"""
PUBLISHED_TESTING = """
from lib.test.evaluation.environment import EnvSettings

def local_env_settings():
    settings = EnvSettings()
    settings.save_dir = '{0}/work'
    settings.results_path = '{0}/results'
    settings.result_plot_path = '{0}/plots'
    settings.network_path = '{0}/networks'
    settings.got10k_path = '{0}/ssd/got10k'
    settings.uav_path = '{0}/ssd/uav'
    return settings
"""


@pytest.fixture(autouse=True)
def local_files(tmp_path, monkeypatch):
    """No local file yet, and no variable."""
    files = {side: tmp_path / side / "local.py" for side in ("train", "test")}
    for path in files.values():
        path.parent.mkdir()
    monkeypatch.setattr(workspace_module, "LOCAL_FILES", files)
    for name in workspace_module.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return files


@pytest.fixture
def published(local_files, tmp_path):
    local_files["train"].write_text(PUBLISHED_TRAINING.format(tmp_path))
    local_files["test"].write_text(PUBLISHED_TESTING.format(tmp_path))


@pytest.mark.parametrize("side", ["train", "test"])
def test_without_a_local_file_it_is_the_repository_or_where_variables_point(side, tmp_path, monkeypatch):
    place = workspace(side)
    assert (place.dataset_dir("lasot"), place.lmdb_dir("lasot")) == (REPOSITORY / "data" / "lasot", None)
    assert (place.save_dir, place.checkpoint_dir) == (REPOSITORY, REPOSITORY / "checkpoints")
    assert place.results_dir == REPOSITORY / "test" / "tracking_results"
    assert place.pretrained_dir == REPOSITORY / "pretrained_networks"
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in workspace_module.VARIABLES:
        monkeypatch.setenv(name, "~/x")
    place = workspace(side)
    assert place.data_dir == place.save_dir == place.pretrained_dir == tmp_path / "x"


def test_command_lines_know_the_home_directory_and_are_kept_in_one_line_of_utf8(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setattr(sys, "argv", ["test.py", "--output=~/x", "--results_dir", "~/x", "a~", "a\udcff", "LR=\n1"])
    with pytest.raises(SystemExit):
        run_command(lambda: None)
    assert sys.argv[1:5] == ["--output=/home/me/x", "--results_dir", "/home/me/x", "a~"]
    assert provenance()["command"].encode().endswith(rb" 'a~' 'a\udcff' 'LR=\n1'")


@pytest.mark.usefixtures("published")
def test_published_local_files_and_variables_that_go_before_them(tmp_path, monkeypatch):
    place = workspace("train")
    assert (place.save_dir, place.pretrained_dir) == (tmp_path / "work", tmp_path / "imagenet")
    assert place.dataset_dir("lasot") == tmp_path / "ssd" / "lasot"
    assert place.lmdb_dir("lasot") == tmp_path / "nvme" / "packed"
    assert (place.dataset_dir("vid"), place.lmdb_dir("vid")) == (tmp_path / "ssd" / "ilsvrc", None)
    assert place.dataset_dir("coco") == REPOSITORY / "data" / "coco"
    assert place.tensorboard_for(tmp_path / "work") == tmp_path / "curves"
    assert place.tensorboard_for(tmp_path / "other") == tmp_path / "other" / "tensorboard"
    place = workspace("test")
    assert (place.save_dir, place.results_dir) == (tmp_path / "work", tmp_path / "results")
    assert (place.plots_dir, place.dataset_dir("got10k")) == (tmp_path / "plots", tmp_path / "ssd" / "got10k")
    assert place.dataset_dir("lasot") == REPOSITORY / "data" / "lasot"  # the file of training says nothing here
    monkeypatch.setenv("STARK_DATA_DIR", str(tmp_path / "d"))
    place = workspace("train")
    assert (place.dataset_dir("lasot"), place.lmdb_dir("lasot")) == (tmp_path / "d" / "lasot", None)
    assert place.save_dir == tmp_path / "work"  # each variable is about its own
    monkeypatch.setenv("STARK_SAVE_DIR", str(tmp_path / "s"))
    assert workspace("train").tensorboard_for(tmp_path / "s") == tmp_path / "s" / "tensorboard"
    assert workspace("test").results_dir == tmp_path / "s" / "test" / "tracking_results"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("class EnvironmentSettings:\n    lasot_dir = '/a\n", r"train/local\.py: SyntaxError: .*, line 2\)"),
        ("import os\n\nfrom nowhere import x\n", r"line 3: ModuleNotFoundError: No module named 'nowhere'"),
        ("def settings():\n    pass\n", r"local\.py: KeyError: 'EnvironmentSettings'"),
    ],
)
def test_a_mistake_in_a_local_file_is_one_line(text, message, local_files):
    local_files["train"].write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        workspace("train")
    assert "\n" not in str(caught.value)
    assert "create_default_local_file.py --force" in str(caught.value)
    workspace("test")  # the other side is not concerned


@pytest.mark.usefixtures("published")
def test_data_sets_and_checkpoints_are_read_from_their_own_places(local_files, tmp_path, monkeypatch):
    what, remedy = find_lack("VID")
    assert what == f"there is no folder {tmp_path / 'ssd' / 'ilsvrc'}"
    assert str(local_files["train"]) in remedy
    assert f"no LMDB {tmp_path / 'nvme' / 'packed'}" in find_lack("LASOT", use_lmdb=True)[0]
    given = find_kind("LASOT", tmp_path / "given")
    assert (given.root, given.lmdb) == (tmp_path / "given" / "lasot", tmp_path / "given" / "lasot_lmdb")
    assert find_kind("COCO17").remedy.endswith("STARK_DATA_DIR to the folder of all data sets")
    with pytest.raises(UserError, match=rf"folder not found: {tmp_path}/ssd/got10k/val: .*{local_files['test']}"):
        load_dataset("got10k_val")
    for folder in ("UAV123", "uav"):  # the other usual name of a folder is found beside the first
        write_boxes(tmp_path / "ssd" / folder / "anno" / "UAV123" / "bike1.txt", moving_boxes(2))
        assert load_dataset("uav")[0].frames_dir.is_relative_to(tmp_path / "ssd" / folder)
    monkeypatch.chdir(tmp_path)
    kept, here = tmp_path / "networks" / "mine.pth.tar", Path("mine.pth.tar")
    kept.parent.mkdir()
    for path in (kept, here):
        path.touch()
        assert find_weights("stark_s", "baseline", "mine.pth.tar") == path


def test_a_data_set_is_looked_for_here_then_in_the_checkout(tmp_path, monkeypatch):
    here, checkout = tmp_path / "here" / "data", tmp_path / "checkout" / "data"
    monkeypatch.setattr(workspace_module, "REPOSITORY", checkout.parent)
    for folder in (here / "otb", checkout / "otb", checkout / "uav", checkout / "lasot_lmdb"):
        folder.mkdir(parents=True)
    monkeypatch.chdir(here.parent)
    found = [workspace("test").dataset_dir(name) for name in ("otb", "uav", "nfs")]
    assert found == [here / "otb", checkout / "uav", here / "nfs"]
    assert find_kind("LASOT").lmdb == checkout / "lasot_lmdb"
    monkeypatch.setenv("STARK_DATA_DIR", str(here))
    assert workspace("test").dataset_dir("uav") == here / "uav"


SCRIPT = "create_default_local_file.py"
PUBLISHED_NAMES = {
    "train": "workspace_dir tensorboard_dir pretrained_networks lasot_dir lasot_lmdb_dir got10k_dir imagenet_lmdb_dir",
    "test": "save_dir results_path network_path result_plot_path lasot_path got10k_path trackingnet_path otb_path",
}


def test_the_published_command_writes_what_holds_without_it_but_for_the_folders(
    local_files, tmp_path, run_script, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    save = tmp_path / 'o\'dd "{save}" \\n é'
    assert run_script(SCRIPT, "--workspace_dir", "w", "--data_dir", "./data", "--save_dir", save) == 0
    assert capsys.readouterr().out.splitlines() == [f"wrote: {path}" for path in local_files.values()]
    for side, maker in (("train", "EnvironmentSettings"), ("test", "local_env_settings")):
        settings = runpy.run_path(str(local_files[side]))[maker]()
        assert all(os.path.isabs(getattr(settings, name)) for name in PUBLISHED_NAMES[side].split())
        place = workspace(side)
        assert (place.data_dir, place.save_dir) == (tmp_path / "data", save)
        assert [place.dataset_dir(name).parent for name in ("lasot", "vid", "otb")] == [tmp_path / "data"] * 3
        assert (place.tensorboard_dir, place.plots_dir) == (save / "tensorboard", save / "test" / "result_plots")
    assert workspace("train").pretrained_dir == tmp_path / "w" / "pretrained_networks"
    assert workspace("train").lmdb_dir("vid") == tmp_path / "data" / "vid_lmdb"


def test_what_a_user_wrote_is_not_replaced_and_force_keeps_it(local_files, tmp_path, run_script, capsys):
    test = local_files["test"]
    for text in ("first", "second"):
        test.write_text(text)
        assert run_script(SCRIPT, f"--save_dir={tmp_path}") == 2
        message = capsys.readouterr().err
        assert message.count("\n") == 1
        assert f"{test} exists: edit by hand, or replace with --force" in message
        assert (test.read_text(), local_files["train"].exists()) == (text, text == "second")
        assert run_script(SCRIPT, f"--save_dir={tmp_path}", "--force") == 0
    kept = {path.name: path.read_text() for path in test.parent.iterdir() if path != test}
    assert kept == {"local.py.bak": "first", "local.py.bak2": "second"}
    assert workspace("test").save_dir == tmp_path
    shutil.rmtree(test.parent)
    test.parent.write_text("a file where a folder should be")
    with pytest.raises(UserError, match=r"cannot write the local files: .*test"):
        write_local_files(tmp_path, tmp_path, tmp_path, True)
