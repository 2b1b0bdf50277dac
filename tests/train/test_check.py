"""The check before a training: settings, weights, output folder, and the report of it all."""

import shutil
from collections import namedtuple

import pytest
import torch
import yaml

import lib.utils.checkpoint
from lib.config import ConfigError, load_config
from lib.models import build_model
from lib.train.check import Finding, Report, check_run, check_sampling
from lib.train.checks import output, settings
from lib.train.checks.output import checkpoint_size
from lib.train.checks.weights import outline
from lib.train.optimiser import Optimisation
from lib.train.options import RunOptions, Stage
from lib.utils.checkpoint import save_checkpoint
from lib.utils.errors import UserError
from tests.train.tiny_runs import folder_of, lightning, options

LIGHTNING = "STARKLightningXtrt"


def check(run):
    return check_run(run, load_config(run.script, run.config, run.overrides))


def find(report, subject, state):
    return [finding.text for finding in report.findings if (finding.subject, finding.state) == (subject, state)]


OPTIMIZER = {"state": {}, "param_groups": []}


def saved(run, epoch=1, path=None, **more):
    """A checkpoint of a run's network; its path."""
    net = build_model(run.script, load_config(run.script, run.config, run.overrides))
    path = path or folder_of(run) / f"{type(net).__name__}_latest.pth.tar"
    save_checkpoint(path, {"net": net.state_dict(), "epoch": epoch, "stats": {}, "optimizer": OPTIMIZER, **more})
    return path


def test_a_sound_run_passes_and_nothing_is_written(videos, tmp_path):
    report = check(lightning(videos, tmp_path))
    report.require()
    assert report.problems == []
    assert {finding.state for finding in report.findings} == {"ok"}, report.table()
    assert list(tmp_path.iterdir()) == []
    subjects = [finding.subject for finding in report.findings]
    assert subjects[:3] == ["configuration", "device", "network"]
    for subject in (f"train FOLDER:{videos}", f"val FOLDER:{videos}", "output folder"):
        assert subject in subjects
    assert find(report, "configuration", "ok") == [
        "stark_lightning_X_trt, baseline_rephead_4_lite_search5: 2 epochs of 2 steps, batches of 4: 16 samples in all"
    ]


def test_all_that_is_wrong_is_said_at_once(videos, tmp_path, monkeypatch):
    monkeypatch.setenv("STARK_DATA_DIR", str(tmp_path / "nothing"))
    broken = shutil.copytree(videos, tmp_path / "broken")
    for image in broken.glob("*/*.jpg"):
        image.write_bytes(b"")
    (tmp_path / "file").write_text("")
    run = options(
        "stark_st2",
        broken,
        tmp_path / "file" / "below",
        "DATA.TRAIN.DATASETS_NAME=[LASOT]",
        "DATA.TEMPLATE.NUMBER=3",
        "TRAIN.EPOCH=3",
    )
    run = RunOptions(**{**vars(run), "device": "cuda:99"})
    with pytest.raises(UserError) as error:
        check(run).require()
    head, *lines = str(error.value).splitlines()
    assert head == "6 problems to solve before training:"
    expected = [
        ("configuration", "'DATA.TEMPLATE.NUMBER' is 3", "one more than there are intervals"),
        ("device", "'cuda:99' is not available", "choose auto"),
        ("previous stage", "none is named", "--script_prv stark_st1"),
        ("train LASOT", f"no folder {tmp_path / 'nothing' / 'lasot'}", "STARK_DATA_DIR"),
        (f"val FOLDER:{broken}", "3 of 3 images read are unusable", "--opts DATA.VAL.DATASETS_NAME=[]"),
        ("output folder", f"cannot write to {tmp_path / 'file'}: it is not a folder", "another --save_dir"),
    ]
    for line, (subject, what, remedy) in zip(lines, expected, strict=True):
        assert line.startswith(f"- {subject}: ")
        assert line.index(what) < line.index(remedy)


def test_the_table():
    report = Report(
        [
            Finding("device", "ok", "cpu"),
            Finding("train FOLDER:/a/very/long/path/to/sequences/of/somebody/train", "problem", "gone", "find it"),
            Finding("output folder", "ok", "word " * 40),
            Finding("output folder", "note", "full", "make room"),
        ]
    )
    lines = report.table().splitlines()
    assert max(map(len, lines)) == 120
    assert lines[0].split() == ["what", "state", "detail"]
    column = lines[0].index("detail")
    assert lines[2][:column].split() == ["device", "ok"]
    assert lines[3].startswith("train FOLDER:…/")
    assert "/somebody/train " in lines[3]
    assert lines[3].endswith("gone")  # what to do about it is the error's to say
    assert lines[5][:column].strip() == ""
    assert lines[5][column:].startswith("word")
    assert lines[-3].split()[0] == "note"  # the subject is not repeated
    assert lines[-3].endswith("full: make room")
    assert lines[-1] == "1 problem, 1 note"
    assert len({line.index(word) for line, word in zip(lines[2:4], ("cpu", "gone"), strict=True)}) == 1


@pytest.mark.parametrize(
    ("script", "overrides", "part"),
    [
        ("stark_st1", ["DATA.SEARCH.NUMBER=2"], "'DATA.SEARCH.NUMBER' must be 1"),
        ("stark_st1", ["DATA.MAX_SAMPLE_INTERVAL=[100, 200]"], "'DATA.TEMPLATE.NUMBER' is 2"),
        ("stark_st1", ["DATA.SAMPLER_MODE=causal"], "'DATA.TEMPLATE.NUMBER' is 2"),
        ("stark_st1", ["DATA.SAMPLER_MODE=causal", "DATA.MAX_SAMPLE_INTERVAL=[1, 2]"], "takes one interval"),
        ("stark_st1", ["DATA.MAX_SAMPLE_INTERVAL=[100, 200]", "DATA.TEMPLATE.NUMBER=3"], ""),
        ("stark_st1", ["DATA.SAMPLER_MODE=stark"], ""),
        ("stark_s", [], ""),
    ],
)
def test_numbers_of_frames(script, overrides, part):
    cfg = load_config(script, "baseline", overrides)
    if not part:
        check_sampling(cfg)
        return
    with pytest.raises(ConfigError, match=part):
        check_sampling(cfg)


def test_ratios_that_do_not_fit(videos, tmp_path):
    run = lightning(videos, tmp_path, "DATA.TRAIN.DATASETS_RATIO=[1, 2]", "DATA.VAL.DATASETS_RATIO=[0]")
    few, zero = find(check(run), "configuration", "problem")
    assert "'DATA.TRAIN.DATASETS_RATIO' has 2 values for 1 data sets: --opts DATA.TRAIN.DATASETS_RATIO=[1]" in few
    assert "'DATA.VAL.DATASETS_RATIO' is 0 for every data set" in zero
    path = tmp_path / "mine.yaml"
    path.write_text("DATA: {TRAIN: {DATASETS_NAME: [COCO17, VID], DATASETS_RATIO: [1]}}\n")
    report = check(RunOptions("stark_s", str(path), tmp_path))
    assert "has 1 values for 2 data sets" in find(report, "configuration", "problem")[0]
    (none,) = find(check(lightning(videos, tmp_path, "DATA.TRAIN.DATASETS_NAME=[]")), "configuration", "problem")
    assert "names no data set" in none


def test_workers_and_accumulated_batches(videos, tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "_cores", lambda: 4)
    assert not find(check(lightning(videos, tmp_path, "TRAIN.NUM_WORKER=4")), "configuration", "note")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setattr(settings.distributed, "world_size", lambda: 6)
    report = check(lightning(videos, tmp_path, "TRAIN.NUM_WORKER=3", "TRAIN.ACCUM_STEPS=2"))
    (text,) = find(report, "configuration", "note")
    assert text.startswith("3 data workers for each of 2 processes share 4 cores: --opts TRAIN.NUM_WORKER=2")
    # Eight samples are one step of 4 * 2 * 6 of them.
    assert find(report, "configuration", "ok")[0].endswith(
        "2 epochs of 1 steps, batches of 4, 2 of them a step, 6 processes: 96 samples in all"
    )


@pytest.mark.parametrize(
    ("amp", "device", "fast", "state"),
    [
        ("fp16", "mps", True, "problem"),
        ("true", "mps", True, "problem"),
        ("fp16", "cpu", True, "note"),
        ("bf16", "cpu", False, "note"),
        ("bf16", "cpu", True, None),
        ("off", "mps", False, None),
    ],
)
def test_precision_and_device(amp, device, fast, state, videos, tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "select_device", lambda name: torch.device(device))
    monkeypatch.setattr(settings, "has_fast_bf16", lambda device: fast)
    report = check(lightning(videos, tmp_path, f"TRAIN.AMP={amp}"))
    said = [finding for finding in report.findings if finding.subject == "device" and finding.state != "ok"]
    assert [finding.state for finding in said] == ([state] if state else [])
    assert all("--opts TRAIN.AMP=off" in finding.remedy for finding in said)


def test_options_that_build_no_network(videos, tmp_path):
    report = check(lightning(videos, tmp_path, "MODEL.HIDDEN_DIM=100"))
    (text,) = find(report, "network", "problem")
    assert "MODEL.HIDDEN_DIM" in text
    assert len(report.problems) == 1


def test_imagenet_weights(videos, tmp_path, monkeypatch):
    monkeypatch.setenv("STARK_PRETRAINED_DIR", str(tmp_path))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    wanted = "MODEL.BACKBONE.PRETRAINED=true"
    run = options("stark_s", videos, tmp_path, wanted)
    (text,) = find(check(run), "ImageNet weights", "note")
    assert f"downloads them to {tmp_path / 'hub' / 'checkpoints'}" in text
    assert f"put resnet18-f37072fd.pth into {tmp_path}" in text
    assert not (tmp_path / "hub").exists()
    file = tmp_path / "resnet18-f37072fd.pth"
    torch.save({"conv1.weight": torch.zeros(1)}, file)
    assert find(check(run), "ImageNet weights", "ok") == [f"of resnet18: {file}"]
    file.write_bytes(file.read_bytes()[:50])
    assert str(file) in find(check(run), "ImageNet weights", "problem")[0]
    (text,) = find(check(lightning(videos, tmp_path, wanted)), "ImageNet weights", "problem")
    assert "RepVGG-A0-train.pth" in text
    # Not where they would be written over.
    saved(lightning(videos, tmp_path))
    assert not [f for f in check(lightning(videos, tmp_path, wanted)).findings if f.subject == "ImageNet weights"]


def test_the_previous_stage(videos, tmp_path):
    subject, first = "previous stage", options("stark_st1", videos, tmp_path)
    run = options("stark_st2", videos, tmp_path, previous=Stage("stark_st1"))
    (text,) = find(check(run), subject, "problem")
    assert f"no checkpoint folder {folder_of(first)}" in text
    assert "`python tracking/train.py --script stark_st1 --config baseline` trains it" in text
    path = saved(first, epoch=20)
    (text,) = find(check(run), subject, "note")
    assert f"{path}: epoch 20 of 500, that run is not at its end" in text
    saved(first, epoch=500)
    assert find(check(run), subject, "ok") == [f"{path}: epoch 500 of 500, the weights fit"]
    path.write_bytes(path.read_bytes()[:-100])
    assert "truncated" in find(check(run), subject, "problem")[0]
    # A file without a score head fits, another network's does not.
    file = saved(options("stark_s", videos, tmp_path), 7, tmp_path / "s.pth.tar")
    run = options("stark_st2", videos, tmp_path, previous=Stage("stark_s", checkpoint=file))
    assert find(check(run), subject, "ok") == [f"{file}: epoch 7, the weights fit"]
    saved(lightning(videos, tmp_path), 7, file)
    (text,) = find(check(run), subject, "problem")
    assert "does not fit the model" in text
    # Once the run has begun it is not needed any more.
    file.unlink()
    saved(run)
    assert "has begun" in find(check(run), subject, "ok")[0]


def test_the_teacher(videos, tmp_path):
    def teaching(stage, run=lightning):
        report = check(RunOptions(**{**vars(run(videos, tmp_path)), "teacher": stage}))
        return [(finding.state, finding.text) for finding in report.findings if finding.subject == "teacher"]

    spatial = options("stark_s", videos, tmp_path)

    def configured(name, search, **backbone):
        tree = {
            "DATA": {"SEARCH": {"SIZE": search}, "TEMPLATE": {"SIZE": 64}},
            "TEST": {"SEARCH_SIZE": search, "TEMPLATE_SIZE": 64},
            "TRAIN": {"EPOCH": 2},
            "MODEL": {"BACKBONE": {"TYPE": "resnet18", **backbone}, "TRANSFORMER": {"ENC_LAYERS": 1, "DEC_LAYERS": 1}},
        }
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(tree))
        return Stage("stark_s", str(path))

    fits, larger = configured("fits", 128), configured("larger", 160)
    (missing,) = teaching(fits)
    assert missing[0] == "problem"
    assert "checkpoints/train/stark_s/fits" in missing[1]
    for name in ("fits", "larger"):
        saved(spatial, 2, tmp_path / "checkpoints" / "train" / "stark_s" / name / "STARKS_latest.pth.tar")
    assert [state for state, _ in teaching(fits)] == ["ok"]
    cells, _ = teaching(larger)
    assert cells[0] == "problem"
    assert "10x10 cells (search region of 160 pixels), the student's 8x8" in cells[1]
    # As many cells, but over a search region of half the side.
    ((state, text), _) = teaching(configured("dilated", 64, TYPE="resnet50", DILATION=True))
    assert state == "problem"
    assert "DATA.SEARCH.SIZE 64, and the student's is 128" in text
    for stage, run, part in (
        (fits, lambda *args: options("stark_s", *args), "trains stark_lightning_X_trt, not stark_s: leave out"),
        (Stage("stark_lightning_X_trt"), lightning, "cannot guide itself: name a spatial one"),
        (Stage("stark_s", "nowhere"), lightning, "no configuration 'nowhere'"),
    ):
        ((state, text),) = teaching(stage, run)
        assert state == "problem"
        assert part in text


def test_what_lies_in_the_output_folder(videos, tmp_path, caplog):
    run, subject = lightning(videos, tmp_path), "output folder"
    folder = folder_of(run)
    path = saved(run, 1)
    assert f"{path}: goes on after epoch 1 of 2" in find(check(run), subject, "ok")
    (folder / f"{LIGHTNING}_previous.pth.tar").write_bytes(path.read_bytes())
    path.write_bytes(b"")
    report = check(run)
    assert f"{path} is damaged; the checkpoint before it serves" in find(report, subject, "note")
    assert report.problems == []
    saved(run, 2)
    report = check(run)
    assert find(report, subject, "note") == [f"{path}: epoch 2 was the last, there is nothing to train"]
    assert not find(report, subject, "ok")
    (text,) = find(check(lightning(videos, tmp_path, "MODEL.HIDDEN_DIM=64")), subject, "problem")
    assert "does not fit the model" in text
    assert "the options that the run began with" in text
    path.rename(folder / f"{LIGHTNING}_ep0002.pth.tar")
    (folder / f"{LIGHTNING}_previous.pth.tar").unlink()
    (text,) = find(check(run), subject, "problem")
    assert "choose another --save_dir, or move the files away" in text
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    assert find(check(run), subject, "note") == [f"{folder}: a new run; other files are there and stay (notes.txt)"]


def test_room_on_the_disk(videos, tmp_path, monkeypatch):
    run = lightning(videos, tmp_path, "TRAIN.EPOCH=250", "TRAIN.KEEP_LAST=5")
    cfg = load_config(run.script, run.config, run.overrides)
    size = checkpoint_size(outline(run.script, cfg), cfg)

    def said(checkpoints, run=run):
        disk = namedtuple("Usage", "free")(int(size * checkpoints) + 1)  # noqa: PYI024
        monkeypatch.setattr(output.shutil, "disk_usage", lambda path: disk)
        found = [finding for finding in check(run).findings if "free" in finding.detail]
        return found[0].state, found[0].text

    # Two rolling ones and one while it is written; epochs 100 and 200, and the last five.
    assert said(10)[0] == "ok"
    assert "10 checkpoints of" in said(10)[1]
    assert said(9.9)[0] == "note"
    assert said(3)[0] == "note"
    assert said(2.9)[0] == "problem"
    fewer = lightning(videos, tmp_path, "TRAIN.EPOCH=250", "TRAIN.KEEP_LAST=5", "TRAIN.KEEP_CHECKPOINTS=1")
    assert said(5, fewer)[0] == "ok"  # the newest of those that stay is there before the one before it goes
    assert said(4.9, fewer)[0] == "note"
    saved(run, 120)
    assert said(8, run)[0] == "ok"  # a rolling one and epoch 100 are past
    assert said(7.9, run)[0] == "note"
    assert said(1.9, run)[0] == "problem"


@pytest.mark.parametrize("script", ["stark_lightning_X_trt", "stark_st2"])
def test_the_estimate_of_a_checkpoint_is_near_the_truth(script, videos, tmp_path):
    run = lightning(videos, tmp_path) if "lightning" in script else options(script, videos, tmp_path)
    cfg = load_config(run.script, run.config, run.overrides)
    net = build_model(run.script, cfg)
    optimisation = Optimisation(net, cfg, torch.device("cpu"), 1)
    optimisation.backward(sum(p.sum() for p in optimisation.parameters))
    optimisation.step(1, 0)
    path = saved(run, path=tmp_path / "whole.pth.tar", **optimisation.state_dict())
    assert checkpoint_size(outline(run.script, cfg), cfg) == pytest.approx(path.stat().st_size, rel=0.15)


def test_a_check_reads_each_checkpoint_once(videos, tmp_path, monkeypatch):
    previous = saved(options("stark_st1", videos, tmp_path), 500)
    run = options("stark_st2", videos, tmp_path, previous=Stage("stark_st1"))
    reads = []
    read = lib.utils.checkpoint.read_untrusted
    monkeypatch.setattr(lib.utils.checkpoint, "read_untrusted", lambda path: reads.append(path) or read(path))
    check(run).require()
    assert reads == [previous]
    own = saved(run)
    check(run).require()
    assert reads == [previous, own]
