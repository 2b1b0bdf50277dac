"""The check before a training: settings, weights, data sets, output folder, and the report of it all."""

import importlib.util
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from lib.config import load_config
from lib.data.registry import pack
from lib.models import build_model
from lib.train import checks
from lib.train.checks import check_run, usable_validation
from lib.train.options import RunOptions, Stage
from lib.utils.checkpoint import save_checkpoint
from lib.utils.errors import UserError
from tests.data.made_trees import make_got10k, make_outlined_coco, write_lines
from tests.train.tiny_runs import NAME, NO_VALIDATION, THIN, lightning, options, state, trained


def check(run):
    return check_run(run, load_config(run.script, run.config, run.overrides))


def find(run, subject, state="problem"):
    """The texts of a check of a run, or of its report."""
    report = check(run) if isinstance(run, RunOptions) else run
    return [finding.text for finding in report.findings if (finding.subject, finding.state) == (subject, state)]


def saved(run, epoch=1, path=None):
    """A checkpoint of a run's network; its path."""
    net = build_model(run.script, load_config(run.script, run.config, run.overrides))
    path = path or run.folder / f"{type(net).__name__}_latest.pth.tar"
    save_checkpoint(path, state(epoch, net=net.state_dict()))
    return path


@pytest.fixture
def still(tmp_path):
    """Three videos of 24 frames of 24 x 16 pixels; the boxes do not move."""
    root = make_got10k(tmp_path / "still", ["a", "b", "c"], frames=24)
    for name in "abc":
        write_lines(root / name / "groundtruth.txt", ["2,3,8,6"] * 24)
    return root


def training_on(tmp_path, name, use_lmdb=False):
    """A run on a training set, without validation."""
    overrides = (f"DATA.TRAIN.DATASETS_NAME=['{name}']", "DATA.VAL.DATASETS_NAME=[]")
    return RunOptions("stark_s", "baseline", tmp_path / "save", None, None, use_lmdb, "cpu", overrides)


def test_a_sound_run_passes_and_nothing_is_written(videos, tmp_path):
    report = check(lightning(videos, tmp_path))
    report.require()
    assert {finding.state for finding in report.findings} == {"ok"}, report.table()
    assert list(report.datasets) == [f"FOLDER:{videos}"]
    assert list(tmp_path.iterdir()) == []
    sets = f"train FOLDER:{videos}", f"val FOLDER:{videos}"
    subjects = [finding.subject for finding in report.findings]
    assert subjects == ["configuration", "device", "network", "output folder", *sets]
    length = "stark_lightning_X_trt, baseline_rephead_4_lite_search5: 2 epochs of 2 steps of 4 samples"
    assert find(report, "configuration", "ok") == [length]
    check(
        options("stark_st1", videos, tmp_path, "DATA.MAX_SAMPLE_INTERVAL=[9, 20]", "DATA.TEMPLATE.NUMBER=3")
    ).require()
    check(lightning(videos, tmp_path, "MODEL.HEAD_TYPE=CENTER", "TRAIN.KEEP_BEST=Loss/center")).require()


def test_all_problems_are_reported_at_once(videos, tmp_path, monkeypatch):
    monkeypatch.setenv("STARK_DATA_DIR", str(tmp_path / "nothing"))
    broken = shutil.copytree(videos, tmp_path / "broken")
    for image in broken.glob("*/*.jpg"):
        image.write_bytes(b"")
    (tmp_path / "file").write_text("")
    sets = "DATA.TRAIN.DATASETS_NAME=[LASOT, VDI]", "DATA.TRAIN.DATASETS_RATIO=[1, 1]"
    run = options("stark_st2", broken, tmp_path / "file" / "below", *sets, "DATA.TEMPLATE.NUMBER=3")
    with pytest.raises(UserError) as error:
        check(replace(run, device="cuda:99")).require()
    text = str(error.value)
    assert text.endswith("problems: 7, notes: 0")
    expected = [
        ("configuration", "'DATA.TEMPLATE.NUMBER' is 3", "one template more than there are intervals"),
        ("device", "'cuda:99' is not available", "choose auto"),
        ("output folder", f"cannot write to {tmp_path / 'file'}", "another --save_dir"),
        ("previous stage", "none is named", "--script_prv stark_st1"),
        ("train LASOT", f"no folder {tmp_path / 'nothing' / 'lasot'}", "STARK_DATA_DIR"),
        ("train VDI", "'VDI' is the name of no data set", "did you mean 'VID'?"),
        (f"val FOLDER:{broken}", "3 of 3 images read are unusable", "mend these files"),
    ]
    for subject, what, remedy in expected:
        (line,) = [line for line in text.splitlines() if line.startswith(subject) and "  problem  " in line]
        assert line.index(what) < line.index(remedy)


@pytest.mark.parametrize(
    ("script", "overrides", "subject", "message"),
    [
        ("stark_st1", ["DATA.MAX_SAMPLE_INTERVAL=[100, 200]"], "configuration", "'DATA.TEMPLATE.NUMBER' is 2 with"),
        (
            "stark_st1",
            ["DATA.SEARCH.NUMBER=2"],
            "configuration",
            "'DATA.SEARCH.NUMBER' must be 1: the network searches",
        ),
        ("stark_st1", ["DATA.SAMPLER_MODE=causal"], "configuration", "causal takes one template and one interval"),
        ("stark_s", ["DATA.TRAIN.DATASETS_RATIO=[1, 2]"], "configuration", "RATIO' is [1, 2] for 1 data sets, but"),
        ("stark_s", ["DATA.VAL.DATASETS_RATIO=[0]"], "configuration", "--opts DATA.VAL.DATASETS_RATIO=[1] samples"),
        ("stark_s", ["DATA.TRAIN.DATASETS_NAME=[]"], "configuration", "is empty"),
        (
            "stark_s",
            ["LOG.TO=[wandb]"],
            "configuration",
            "wandb is not installed: pip install wandb, or leave wandb out",
        ),
        (
            "stark_s",
            ["TRAIN.NUM_WORKER=3"],
            "configuration",
            "need 4 MiB in /dev/shm, which has 1: start the container",
        ),
        ("stark_s", ["TRAIN.NUM_WORKER=0"], "output folder", "no room for the weights of three checkpoints, 0.1 GiB"),
        ("stark_s", ["TRAIN.COMPILE=default"], "device", "needs a C++ compiler, and there is no 'no-such-compiler'"),
        ("stark_s", ["MODEL.HIDDEN_DIM=100"], "network", "MODEL.HIDDEN_DIM"),
        ("stark_s", ["TRAIN.KEEP_BEST=Loss/center"], "best checkpoint", "valid: Loss/total, Loss/giou, Loss/l1, IoU"),
        ("stark_st2", ["TRAIN.KEEP_BEST=IoU"], "best checkpoint", "valid: Loss/total, cls_loss, accuracy"),
        ("stark_s", ["TRAIN.KEEP_BEST=IoU", NO_VALIDATION], "best checkpoint", "the run has none: name sets in"),
        ("stark_s", ["TRAIN.KEEP_BEST=IoU", "TRAIN.VAL_EPOCH_INTERVAL=4"], "best checkpoint", "the run has none"),
    ],
)
def test_settings_that_contradict_each_other(script, overrides, subject, message, videos, tmp_path, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "wandb" else find_spec(name))
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda path: SimpleNamespace(free=2**20))
    monkeypatch.setenv("CXX", "no-such-compiler")
    (text,) = find(options(script, videos, tmp_path, *overrides), subject)
    assert message in text


def test_precision_and_device(videos, tmp_path, monkeypatch):
    monkeypatch.setattr(checks, "select_device", torch.device)
    monkeypatch.setattr(checks, "has_fast_bf16", lambda device: False)
    for amp, device, found in (("true", "mps", "problem"), ("fp16", "cpu", "note"), ("bf16", "cpu", "note")):
        (text,) = find(replace(lightning(videos, tmp_path, f"TRAIN.AMP={amp}"), device=device), "device", found)
        assert "--opts TRAIN.AMP=off" in text
    monkeypatch.setattr(checks, "has_fast_bf16", lambda device: True)
    check(lightning(videos, tmp_path, "TRAIN.AMP=bf16")).require()


def test_imagenet_weights(videos, tmp_path, monkeypatch):
    monkeypatch.setenv("STARK_PRETRAINED_DIR", str(tmp_path))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    subject, wanted = "ImageNet weights", "MODEL.BACKBONE.PRETRAINED=true"
    run = options("stark_s", videos, tmp_path, wanted)
    (text,) = find(run, subject, "note")
    assert f"downloads them to {tmp_path / 'hub' / 'checkpoints'}" in text
    assert f"put resnet18-f37072fd.pth into {tmp_path}" in text
    assert not (tmp_path / "hub").exists()
    file = tmp_path / "resnet18-f37072fd.pth"
    torch.save({"conv1.weight": torch.zeros(1)}, file)
    assert find(run, subject, "ok") == [f"of resnet18: {file}"]
    file.write_bytes(file.read_bytes()[:50])
    assert str(file) in find(run, subject)[0]
    (text,) = find(lightning(videos, tmp_path, wanted), subject)
    assert "RepVGG-A0-train.pth" in text


def test_the_previous_stage(videos, tmp_path):
    subject, first = "previous stage", options("stark_st1", videos, tmp_path)
    run = options("stark_st2", videos, tmp_path, previous=Stage("stark_st1"))
    assert find(run, subject)[0].startswith(f"no checkpoint folder {first.folder}: train first")
    path = saved(first, epoch=20)
    assert find(run, subject, "ok") == [f"{path}: epoch 20, the weights fit"]
    path.write_bytes(path.read_bytes()[:-100])
    assert "truncated" in find(run, subject)[0]
    # A file without a score head fits, another network's does not.
    file = saved(options("stark_s", videos, tmp_path), 7, tmp_path / "s.pth.tar")
    run = replace(run, previous=Stage("stark_s", checkpoint=file))
    assert find(run, subject, "ok") == [f"{file}: epoch 7, the weights fit"]
    saved(lightning(videos, tmp_path), 7, file)
    assert "does not fit the model" in find(run, subject)[0]
    # Once the run has begun, the file is no longer needed.
    file.unlink()
    saved(run)
    check(run).require()


def test_the_teacher(videos, tmp_path):
    run, (stage, _, path) = lightning(videos, tmp_path, *THIN), trained(tmp_path)
    assert find(replace(run, teacher=stage), "teacher", "ok") == [f"{path}: epoch 3, the weights fit"]
    path.unlink()
    for named, part in (
        (replace(run, teacher=stage), "no checkpoint STARKS_ep*.pth.tar in"),
        (replace(run, teacher=Stage("stark_lightning_X_trt")), "cannot guide itself: name a spatial one"),
        (replace(run, teacher=Stage("stark_s", "nowhere", path)), "no configuration 'nowhere'"),
        (options("stark_s", videos, tmp_path, teacher=stage), "trains stark_lightning_X_trt, not stark_s: leave out"),
    ):
        (text,) = find(named, "teacher")
        assert part in text


def test_the_output_folder(videos, tmp_path):
    run, subject = lightning(videos, tmp_path), "output folder"
    assert find(run, subject, "ok") == [f"{run.folder}: a new run"]
    path = saved(run, 1)
    assert f"{path}: epoch 1 of 2 is finished: training goes on" in find(run, subject, "ok")
    (run.folder / f"{NAME}_previous.pth.tar").write_bytes(path.read_bytes())
    path.write_bytes(b"")
    assert f"{path} is damaged; the checkpoint before it is used" in find(run, subject, "note")
    saved(run, 2)
    assert find(run, subject, "note") == [f"{path}: epoch 2 of 2 is finished: nothing is left to train"]
    assert "does not fit the model" in find(lightning(videos, tmp_path, "MODEL.HIDDEN_DIM=64"), subject)[0]


def test_data_sets_are_counted_and_what_is_wrong_in_them_is_named(still, tmp_path):
    def found(state, root=still):
        return find(training_on(tmp_path, f"FOLDER:{root}"), f"train FOLDER:{root}", state)

    counted = f"3 sequences in {still}; 3 read, with an image of each; visible in 72 of 72 frames"
    assert found("ok") == [counted]
    lines = ["2,3,8,6"] * 24
    lines[9:14] = ["nan,3,8,6", "24,3,4,4", "2,-6,8,6", "23.5,3,8,6", "-7,-5,8,6"]  # the second, third are outside
    write_lines(still / "b" / "groundtruth.txt", lines)
    write_lines(still / "b" / "absence.label", [int(number == 11) for number in range(24)])
    assert found("ok") == [counted.replace("72 of 72 frames", "70 of 72 frames; 1 boxes are nan or have no area")]
    (outside,) = found("note")
    assert outside.startswith("1 of 72 boxes read are outside their image")
    assert str(still / "b" / "00000011.jpg") in outside

    (still / "a" / "groundtruth.txt").write_text("1,2,3,4\nsomewhere\n")
    for path in (still / "b").glob("*.jpg"):
        path.write_bytes(path.read_bytes()[:100])
    write_lines(still / "c" / "absence.label", [0] * 4 + [1] * 20)
    write_lines(still / "list.txt", ["a", "b", "c", "d"])
    annotations, images, unused, left_out = found("note")
    assert left_out.startswith("3 sequences are used; left out: 1 ")
    assert annotations.startswith("1 of 3 annotations read are unusable: ")
    assert "a/groundtruth.txt, line 2" in annotations
    assert images.startswith(f"1 of 3 images read are unusable: cannot decode image {still / 'b'}")
    needed = "are never sampled: a sequence needs more than 4 visible frames, and 20 in all"
    assert unused.startswith(f"1 of 2 sequences read {needed}")
    short = make_got10k(tmp_path / "short", ["x", "y"], frames=19)
    write_lines(short / "x" / "groundtruth.txt", ["0.1,0.2,0.3,0.4"] * 19)
    write_lines(short / "y" / "groundtruth.txt", ["0.1,0.2,0.3,0.4"] * 19)
    assert found("problem", short)[0].startswith(f"2 of 2 sequences read {needed}")
    assert "are under 2 pixels; are they fractions?" in found("note", short)[0]


def test_storage(still, tmp_path, monkeypatch):
    name = f"FOLDER:{still}"
    run = training_on(tmp_path, name, use_lmdb=True)
    assert f"no LMDB {still}_lmdb" in find(run, f"train {name}")[0]
    pack(name, progress=False)
    assert find(run, f"train {name}", "ok")[0].startswith(f"3 sequences in {still}_lmdb")
    monkeypatch.setenv("STARK_DATA_DIR", str(tmp_path / "data"))
    run = training_on(tmp_path, "EMBEDDED_train")
    assert find(run, "train EMBEDDED_train", "ok") == ["is generated when training starts"]
    assert not (tmp_path / "data").exists()


def test_missing_validation_sets_are_left_out_unless_they_were_asked_for(still, tmp_path, monkeypatch):
    monkeypatch.setenv("STARK_DATA_DIR", str(tmp_path))
    make_outlined_coco(tmp_path / "coco")
    train_only, own = ("DATA.TRAIN.DATASETS_NAME=[COCO17]",), f"FOLDER:{still}"
    run = RunOptions("stark_s", "baseline", tmp_path / "save", device="cpu", overrides=train_only)
    report = check(run)
    report.require()
    assert "training goes on without it" in find(report, "val GOT10K_votval", "note")[0]
    # The sets that exist are used, with their ratios.
    path = tmp_path / "mine.yaml"
    path.write_text(f"DATA: {{VAL: {{DATASETS_NAME: [GOT10K_votval, '{own}', LASOT], DATASETS_RATIO: [1, 3, 2]}}}}\n")
    assert usable_validation(run, load_config("stark_s", path, train_only)) == [(own, 3)]
    asked = replace(run, overrides=(*train_only, f"DATA.VAL.DATASETS_NAME=[GOT10K_votval, '{own}']"))
    assert "or train without validation" in find(asked, "val GOT10K_votval")[0]
    assert len(usable_validation(asked, load_config("stark_s", "baseline", asked.overrides))) == 2
