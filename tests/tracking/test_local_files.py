"""tracking/create_default_local_file.py."""

import os
import runpy
import shutil
import subprocess

import pytest

from lib.utils import workspace as workspace_module
from lib.utils.errors import UserError
from lib.utils.workspace import REPOSITORY, workspace, write_local_files

SCRIPT = "create_default_local_file.py"
PUBLISHED_TRAINING = """workspace_dir tensorboard_dir pretrained_networks lasot_dir got10k_dir lasot_lmdb_dir
    got10k_lmdb_dir trackingnet_dir trackingnet_lmdb_dir coco_dir coco_lmdb_dir imagenet_dir imagenet_lmdb_dir"""
PUBLISHED_TESTING = """save_dir results_path network_path result_plot_path lasot_path got10k_path trackingnet_path
    otb_path nfs_path uav_path tc128_path"""


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Local files in a place of their own, and no variables."""
    files = {side: tmp_path / side / "local.py" for side in ("train", "test")}
    monkeypatch.setattr(workspace_module, "LOCAL_FILES", files)
    for name in ("DATA", "SAVE", "PRETRAINED"):
        monkeypatch.delenv(f"STARK_{name}_DIR", raising=False)
    return files


def test_the_published_command(files, tmp_path, run_script, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run_script(SCRIPT, "--workspace_dir", ".", "--data_dir", "./data", "--save_dir", "saved here") == 0
    assert capsys.readouterr().out.splitlines() == [f"wrote: {path}" for path in files.values()]
    train = runpy.run_path(str(files["train"]))["EnvironmentSettings"]()
    test = runpy.run_path(str(files["test"]))["local_env_settings"]()
    for settings, names in ((train, PUBLISHED_TRAINING), (test, PUBLISHED_TESTING)):
        assert all(os.path.isabs(getattr(settings, name)) for name in names.split())
    assert train.workspace_dir == str(tmp_path)
    assert train.got10k_lmdb_dir == str(tmp_path / "data" / "got10k_lmdb")
    assert test.results_path == str(tmp_path / "saved here" / "test" / "tracking_results")


def test_what_is_written_is_what_holds_without_it_but_for_the_folders(files, tmp_path):
    write_local_files(tmp_path / "w", tmp_path / "d", tmp_path / "s", False)
    for side in ("train", "test"):
        place = workspace(side)
        assert (place.data_dir, place.save_dir) == (tmp_path / "d", tmp_path / "s")
        for name in ("lasot", "got10k", "trackingnet", "coco", "vid", "otb", "nfs", "uav"):
            assert place.dataset_dir(name) == tmp_path / "d" / name
        assert place.tensorboard_for(tmp_path / "s") == tmp_path / "s" / "tensorboard"
        assert place.results_dir == tmp_path / "s" / "test" / "tracking_results"
        assert place.plots_dir == tmp_path / "s" / "test" / "result_plots"
    assert workspace("train").pretrained_dir == tmp_path / "w" / "pretrained_networks"
    assert workspace("train").lmdb_dir("vid") == tmp_path / "d" / "vid_lmdb"


def test_what_a_user_wrote_is_not_replaced(files, tmp_path, run_script, capsys):
    arguments = [f"--{name}_dir={tmp_path}" for name in ("workspace", "data", "save")]
    files["test"].parent.mkdir()
    files["test"].write_text("mine")
    assert run_script(SCRIPT, *arguments) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert f"{files['test']} is there already" in message
    assert "--force" in message
    assert not files["train"].exists()
    assert files["test"].read_text() == "mine"


def test_force_keeps_what_was_there(files, tmp_path, run_script, capsys):
    files["test"].parent.mkdir()
    for text in ("first", "second"):
        files["test"].write_text(text)
        assert run_script(SCRIPT, f"--save_dir={tmp_path}", "--force") == 0
    kept = {path.name: path.read_text() for path in files["test"].parent.iterdir() if path != files["test"]}
    assert kept == {"local.py.bak": "first", "local.py.bak2": "second"}
    assert workspace("test").save_dir == tmp_path
    capsys.readouterr()
    assert run_script(SCRIPT, f"--save_dir={tmp_path}") == 0  # the same once more is no mistake
    assert capsys.readouterr().out.count("says the same already") == 2
    assert len(list(files["test"].parent.iterdir())) == 3


def test_odd_names_survive_and_a_folder_that_cannot_be_written_is_named(files, tmp_path):
    odd = tmp_path / 'o\'dd "{data}" \\n é'
    write_local_files(odd, odd, odd, False)
    assert workspace("train").dataset_dir("lasot") == workspace("test").save_dir / "lasot" == odd / "lasot"
    for path in files.values():
        shutil.rmtree(path.parent)
    files["train"].parent.write_text("a file where a folder should be")
    with pytest.raises(UserError, match=r"cannot write the local files: .*train"):
        write_local_files(tmp_path, tmp_path, tmp_path, False)


def test_git_ignores_them_and_their_backups():
    if not (REPOSITORY / ".git").exists():
        pytest.skip("not a git repository")
    paths = [
        f"{path}{end}" for path in ("lib/train/admin/local.py", "lib/test/evaluation/local.py") for end in ("", ".bak")
    ]
    found = subprocess.run(["git", "check-ignore", *paths], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert found.stdout.split() == paths
