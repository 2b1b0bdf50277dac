"""The checkpoint of the best validation: which one stays, also over stops, and what the check says."""

import pytest
import torch

from lib.config import load_config
from lib.test.tracker import load_network
from lib.train.checkpoints import CheckpointFolder
from lib.train.checks import check_run
from lib.train.run import train
from lib.train.trainer import Trainer
from lib.utils.checkpoint import load_checkpoint
from lib.utils.checkpoint_files import find_checkpoint
from lib.utils.errors import UserError
from tests.train.tiny_runs import NAME, NO_VALIDATION, lightning, options


@pytest.fixture
def validated(monkeypatch):
    """Gives validations these values of all measures, by epoch."""

    def give(*values):
        def validate(self, epoch):
            self.stats["val"] = {"IoU": values[epoch - 1], "Loss/total": values[epoch - 1]}

        monkeypatch.setattr(Trainer, "validate", validate)

    return give


def run_of(videos, folder, *more, metric="IoU", epochs=3):
    small = ("DATA.TRAIN.SAMPLE_PER_EPOCH=4", f"TRAIN.KEEP_BEST={metric}", f"TRAIN.EPOCH={epochs}")
    return lightning(videos, folder, *small, *more)


def best(run):
    """Its epoch and value, as the file says, whose weights are those of the epoch's own checkpoint."""
    saved = load_checkpoint(run.folder / f"{NAME}_best.pth.tar")
    assert saved["epoch"] == saved["best"]["epoch"]
    own = run.folder / f"{NAME}_ep{saved['epoch']:04d}.pth.tar"
    if own.is_file():
        assert all(torch.equal(value, saved["net"][name]) for name, value in load_checkpoint(own)["net"].items())
    return saved["epoch"], saved["best"]["value"]


@pytest.mark.parametrize(("metric", "epoch", "value"), [("IoU", 2, 0.75), ("Loss/total", 1, 0.5)])
def test_the_best_stays_and_is_not_taken_for_the_newest(metric, epoch, value, videos, tmp_path, validated):
    validated(0.5, 0.75, 0.625)
    run = run_of(videos, tmp_path, "TRAIN.KEEP_CHECKPOINTS=1", metric=metric)
    train(run)
    assert best(run) == (epoch, value)
    kept = {path.name.removesuffix(".pth.tar") for path in run.folder.iterdir()}
    assert kept == {f"{NAME}_{what}" for what in ("best", "latest", "previous", "ep0003")}
    assert find_checkpoint(run.folder, NAME).name == f"{NAME}_latest.pth.tar"


def test_a_run_that_goes_on_knows_the_best_until_the_validation_is_another(videos, tmp_path, validated):
    validated(0.5, 0.75, 0.625, 0.5)
    train(run_of(videos, tmp_path, epochs=2))
    run = run_of(videos, tmp_path)
    train(run)
    assert best(run) == (2, 0.75)
    other = run_of(videos, tmp_path, f"DATA.VAL.DATASETS_NAME=['FOLDER:{videos}','FOLDER:{videos}']", epochs=4)
    train(other)
    assert best(other) == (4, 0.5)  # values over other sets do not compare


def test_killed_before_the_state_is_saved_the_best_is_the_same(videos, tmp_path, validated, monkeypatch):
    validated(0.5, 0.75, 0.625)
    run, save = run_of(videos, tmp_path), CheckpointFolder.save

    def die(self, checkpoint):
        if checkpoint["epoch"] == 2:
            raise KeyboardInterrupt
        save(self, checkpoint)

    with monkeypatch.context() as patch:
        patch.setattr(CheckpointFolder, "save", die)
        with pytest.raises(KeyboardInterrupt):
            train(run)
    assert best(run) == (2, 0.75)
    assert load_checkpoint(run.folder / f"{NAME}_latest.pth.tar")["epoch"] == 1
    train(run)
    assert best(run) == (2, 0.75)
    assert load_checkpoint(run.folder / f"{NAME}_latest.pth.tar")["best"]["value"] == 0.75


def test_a_real_validation_and_the_file_in_use(videos, tmp_path):
    run = run_of(videos, tmp_path, metric="Loss/l1", epochs=1)
    stats, path = train(run), run.folder / f"{NAME}_best.pth.tar"
    assert best(run) == (1, stats["val"]["Loss/l1"])
    assert load_network(run.script, load_config(run.script, run.config, run.overrides), path)
    for name in ("latest", "previous", "ep0001"):
        (run.folder / f"{NAME}_{name}.pth.tar").unlink(missing_ok=True)
    with pytest.raises(UserError, match=f"holds {NAME}_best.pth.tar, which training would overwrite"):
        train(run)


def problems(run):
    report = check_run(run, load_config(run.script, run.config, run.overrides))
    return [text for kind, subject, text in report.findings if (kind, subject) == ("problem", "best checkpoint")]


def test_the_check_names_what_no_validation_gives(videos, tmp_path):
    assert problems(run_of(videos, tmp_path)) == []
    assert problems(run_of(videos, tmp_path, "MODEL.HEAD_TYPE=CENTER", metric="Loss/center")) == []
    (text,) = problems(run_of(videos, tmp_path, metric="Loss/center"))
    assert "'Loss/center', which no validation reports; valid: Loss/total, Loss/giou, Loss/l1, IoU" in text
    one, two = (options(script, videos, tmp_path, "TRAIN.KEEP_BEST=accuracy") for script in ("stark_st1", "stark_st2"))
    assert problems(two) == []
    assert "'accuracy', which no" in problems(one)[0]
    for without in (NO_VALIDATION, "TRAIN.VAL_EPOCH_INTERVAL=4"):
        (text,) = problems(run_of(videos, tmp_path, without))
        assert "and the run has none: name sets in DATA.VAL.DATASETS_NAME, and" in text
