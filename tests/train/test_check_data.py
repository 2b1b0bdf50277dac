"""The check's look at data sets: what is there, and what is in it."""

import os
from pathlib import Path

import numpy as np
import pytest

from lib.config import load_config
from lib.data import layouts, pack
from lib.data.dataset import SequenceInfo
from lib.data.videos import VideoSet
from lib.train.check import check_run, usable_validation
from lib.train.checks import data
from lib.train.checks.data import check_data, inspect, is_outside
from lib.train.options import RunOptions
from lib.utils.text import read_ranges
from tests.data.made_trees import make_coco, make_got10k, write_lines

REAL = Path(os.environ.get("STARK_REAL_DATA", Path(__file__).resolve().parents[3] / "shared" / "real"))


def split_indices(split):
    return read_ranges(layouts.SPECS / f"got10k_{split}.ranges.txt")


@pytest.fixture
def videos(tmp_path):
    """Three videos of 24 frames, of 24 x 16 pixels, whose boxes stay where they are."""
    root = make_got10k(tmp_path / "videos", ["a", "b", "c"], frames=24)
    for name in "abc":
        write_lines(root / name / "groundtruth.txt", ["2,3,8,6"] * 24)
    return root


def cfg_with(*overrides, script="stark_s"):
    return load_config(script, "baseline", overrides)


def look(root, *overrides, script="stark_s", **kwargs):
    return inspect(f"FOLDER:{root}", cfg_with(*overrides, script=script), **kwargs)


def texts(inspection, state):
    return [finding.text for finding in inspection.findings if finding.state == state]


def find(findings, subject, state="problem"):
    return [finding.text for finding in findings if (finding.subject, finding.state) == (subject, state)]


def check(tmp_path, *overrides, script="stark_s", use_lmdb=False):
    options = RunOptions(script, "baseline", tmp_path / "save", overrides=overrides, use_lmdb=use_lmdb)
    return list(check_data(options, cfg_with(*overrides, script=script)))


def test_a_sound_set(videos):
    seen = look(videos)
    assert texts(seen, "ok") == [
        f"3 sequences in folder {videos}; all read, with an image of each; visible in 72 of 72 frames"
    ]
    assert len(seen.findings) == 1
    assert (seen.usable, seen.whole, seen.hides, seen.serves) == (3, True, False, True)


def test_boxes_that_show_nothing_are_counted(videos):
    path = videos / "b" / "groundtruth.txt"
    lines = path.read_text().splitlines()
    lines[2:4] = ["nan,nan,nan,nan"] * 2
    lines[5:8] = ["2,3,0,6", "2,3,4,-1", "0,0,0,0"]
    # The first two touch the image of 24 x 16 pixels from without; the others reach into it.
    lines[10:14] = ["24,3,4,4", "2,-6,8,6", "23.5,3,8,6", "-7,-5,8,6"]
    write_lines(path, lines)
    # The seventh has no area because the object is away, and the twelfth lies outside for the same reason.
    write_lines(videos / "b" / "absence.label", [int(number in (6, 11)) for number in range(24)])
    nothing, outside = texts(look(videos), "note")
    assert nothing == "of 72 boxes read, 2 are nan and 2 have no area: taken as frames without the object"
    assert outside.startswith("of 72 boxes read, 1 lie wholly outside their image")
    assert str(videos / "b" / "00000011.jpg") in outside


def test_boxes_at_the_edges():
    inside = [(23.5, 3, 8, 6), (-7.5, 3, 8, 6), (2, 15.5, 8, 6), (2, -5.5, 8, 6), (-1, -1, 30, 20)]
    outside = [(24, 3, 8, 6), (-8, 3, 8, 6), (2, 16, 8, 6), (2, -6, 8, 6)]
    boxes = np.array([*inside, *outside])
    flags = np.ones(len(boxes), bool)
    found = is_outside(SequenceInfo(boxes, flags, flags), 24, 16)
    assert found.tolist() == [False] * len(inside) + [True] * len(outside)


def test_images_that_cannot_be_read_are_named(tmp_path):
    root = make_got10k(tmp_path / "own", [f"v{number}" for number in range(6)], frames=20)
    for name in ("v0", "v1", "v2", "v4", "v5"):
        write_lines(root / name / "groundtruth.txt", ["2,3,8,6"] * 20)
        for path in (root / name).glob("*.jpg"):
            path.write_bytes(path.read_bytes()[: 0 if name == "v1" else 100])
    seen = look(root)
    (text,) = texts(seen, "problem")
    assert text.startswith("5 of 6 images read are unusable: cannot decode image ")
    assert text.count(".jpg") == 3
    assert all(str(root / name) in text for name in ("v0", "v1", "v2"))
    assert "and 2 more: copy or unpack these files anew" in text
    assert not seen.serves


def test_annotations_that_cannot_be_read_are_named(videos):
    (videos / "a" / "groundtruth.txt").write_text("1,2,3,4\nsomewhere\n")
    (videos / "c" / "00000005.jpg").unlink()
    (text,) = texts(look(videos), "problem")
    assert text.startswith("2 of 3 annotations read are unusable: ")
    assert "a/groundtruth.txt, line 2" in text
    assert "24 boxes, but there are 23 frames" in text
    assert "mend these files" in text


def test_videos_the_sampler_would_not_draw(tmp_path, videos):
    hidden = videos / "a" / "absence.label"
    # Causal sampling asks for more than 4 visible frames, two templates for more than 6.
    write_lines(hidden, [0] * 5 + [1] * 19)
    assert texts(look(videos), "note") == []
    assert look(videos).hides
    (text,) = texts(look(videos, script="stark_st1"), "note")
    assert text.startswith("1 of 3 sequences read are never drawn: they lack more than 6 visible frames, and 20 in all")
    write_lines(hidden, [0] * 4 + [1] * 20)
    assert look(videos).usable == 2
    assert not look(videos).hides  # what is hidden in a video that is not drawn does not count
    (text,) = texts(look(make_got10k(tmp_path / "short", ["x", "y"], frames=19)), "problem")
    assert text.startswith("none of the 2 sequences read has more than 4 visible frames, and 20 in all")


def test_a_sample_is_spread_over_the_set_and_always_the_same(tmp_path, monkeypatch):
    root = make_got10k(tmp_path / "own", [f"v{number}" for number in range(8)], frames=20)
    read = []
    image = VideoSet.image
    monkeypatch.setattr(VideoSet, "image", lambda self, *frame: read.append(frame) or image(self, *frame))
    monkeypatch.setattr(data, "SAMPLED", 4)
    for _ in range(2):
        seen = look(root)
        assert not seen.whole
        assert "8 sequences" in texts(seen, "ok")[0]
        assert "4 of them read" in texts(seen, "ok")[0]
    assert read[:4] == read[4:] == [(1, 2), (3, 7), (5, 12), (7, 17)]


def test_what_a_set_warns_of_is_in_the_table(videos, caplog):
    (videos / "list.txt").unlink()
    (text,) = texts(look(videos), "note")
    assert text == f"there is no list.txt in {videos}: taking its 3 folders"
    assert not caplog.records


def test_storage_is_named_and_a_missing_lmdb_too(videos, tmp_path):
    name = f"FOLDER:{videos}"
    missing = check(
        tmp_path, f"DATA.TRAIN.DATASETS_NAME=['{name}']", "DATA.VAL.DATASETS_NAME=[EMBEDDED_test]", use_lmdb=True
    )
    (text,) = find(missing, f"train {name}")
    assert f"no LMDB {videos}_lmdb" in text
    assert f"make_lmdb.py {name}`, or leave out --use_lmdb" in text
    assert not find(missing, "val EMBEDDED_test")
    pack.pack(name, progress=False)
    assert texts(look(videos, use_lmdb=True), "ok")[0].startswith(f"3 sequences in LMDB {videos}_lmdb; all read")


def test_sets_that_serve_are_offered_in_place_of_the_others(tmp_path, videos, monkeypatch):
    monkeypatch.setenv("STARK_DATA_DIR", str(tmp_path / "data"))
    make_coco(tmp_path / "data" / "coco")
    found = check(tmp_path, f"DATA.TRAIN.DATASETS_NAME=[COCO17, VDI, LASOT, 'FOLDER:{videos}']")
    offer = f"or train on what is there: --opts \"DATA.TRAIN.DATASETS_NAME=[COCO17,'FOLDER:{videos}']\""
    (unknown,) = find(found, "train VDI")
    assert unknown.startswith("unknown data set 'VDI', did you mean VID?")
    assert unknown.endswith(offer.removeprefix("or "))
    (missing,) = find(found, "train LASOT")
    assert missing.startswith(f"there is no folder {tmp_path / 'data' / 'lasot'}: put it there, or set STARK_DATA_DIR")
    assert missing.endswith(offer)
    # The offer works as it stands.
    override = offer.split('"')[1]
    assert [finding.state for finding in check(tmp_path, override) if finding.subject.startswith("train")] == ["ok"] * 2


@pytest.mark.parametrize("only", ["COCO17", "GOT10K_vottrain"])
def test_one_override_is_enough_for_a_user_with_one_set(only, tmp_path, monkeypatch):
    monkeypatch.setenv("STARK_DATA_DIR", str(tmp_path))
    if only == "COCO17":
        make_coco(tmp_path / "coco")
    else:
        numbers = sorted(split_indices("vottrain")[:2] + split_indices("votval")[:1])
        make_got10k(tmp_path / "got10k" / "train", [f"GOT-10k_Train_{n + 1:06d}" for n in numbers], frames=20)
    override = f"DATA.TRAIN.DATASETS_NAME=[{only}]"
    options = RunOptions("stark_s", "baseline", tmp_path / "save", device="cpu", overrides=(override,))
    cfg = cfg_with(override)
    report = check_run(options, cfg)
    report.require()
    if only == "COCO17":
        (text,) = find(report.findings, "val GOT10K_votval", "note")
        assert "training goes on without it: --opts DATA.VAL.DATASETS_NAME=[]" in text
        assert usable_validation(options, cfg) == ([], [])
    else:
        assert find(report.findings, "val GOT10K_votval", "ok")
        assert usable_validation(options, cfg) == (["GOT10K_votval"], [1])


def test_a_validation_set_that_is_missing(tmp_path, videos, monkeypatch):
    monkeypatch.setenv("STARK_DATA_DIR", str(tmp_path / "data"))
    own = f"FOLDER:{videos}"
    asked_for = (f"DATA.TRAIN.DATASETS_NAME=['{own}']", f"DATA.VAL.DATASETS_NAME=[GOT10K_votval, '{own}']")
    (text,) = find(check(tmp_path, *asked_for), "val GOT10K_votval")
    assert f"or validate on what is there: --opts \"DATA.VAL.DATASETS_NAME=['{own}']\"" in text
    (text,) = find(check(tmp_path, asked_for[0], "DATA.VAL.DATASETS_NAME=[LASOT]"), "val LASOT")
    assert "or train without validation: --opts DATA.VAL.DATASETS_NAME=[]" in text
    # Not asked for: what is there is used, with its ratio.
    path = tmp_path / "mine.yaml"
    path.write_text(f"DATA: {{VAL: {{DATASETS_NAME: [GOT10K_votval, '{own}', LASOT], DATASETS_RATIO: [1, 3, 2]}}}}\n")
    options = RunOptions("stark_s", str(path), tmp_path, overrides=asked_for[:1])
    assert usable_validation(options, load_config("stark_s", path, asked_for[:1])) == ([own], [3])
    # What is there but broken is no set that happens to be missing.
    for image in videos.glob("*/*.jpg"):
        image.write_bytes(b"")
    options = RunOptions("stark_s", str(path), tmp_path, overrides=("DATA.TRAIN.DATASETS_NAME=[COCO17]",))
    found = list(check_data(options, load_config("stark_s", path, options.overrides)))
    assert find(found, "val LASOT", "note")
    assert "images read are unusable" in find(found, f"val {own}")[0]
    # Whoever names the sets gets them all, and the error.
    options = RunOptions("stark_s", "baseline", tmp_path, overrides=asked_for)
    assert usable_validation(options, cfg_with(*asked_for)) == (["GOT10K_votval", own], [1, 1])


@pytest.mark.parametrize(
    ("names", "script", "hidden", "expected"),
    [
        ("one", "stark_st2", 0, 1),
        ("one", "stark_st1", 0, 0),
        ("one", "stark_st2", 5, 0),  # negatives come from the video itself
        ("one,coco", "stark_st2", 0, 0),
        ("three", "stark_st2", 0, 0),
    ],
)
def test_the_score_head_needs_a_second_sequence(names, script, hidden, expected, tmp_path, videos):
    one = make_got10k(tmp_path / "one", ["only"], frames=24)
    write_lines(one / "only" / "groundtruth.txt", ["2,3,8,6"] * 24)
    write_lines(one / "only" / "absence.label", [1] * hidden + [0] * (24 - hidden))
    places = {"one": f"'FOLDER:{one}'", "coco": f"'COCO:{make_coco(tmp_path / 'coco')}'", "three": f"'FOLDER:{videos}'"}
    sets = ",".join(places[name] for name in names.split(","))
    found = check(tmp_path, f"DATA.TRAIN.DATASETS_NAME=[{sets}]", "DATA.VAL.DATASETS_NAME=[]", script=script)
    assert len(find(found, "train sets")) == expected


def test_a_sample_does_not_tell_that_there_is_one_sequence_only(tmp_path, videos, monkeypatch):
    monkeypatch.setattr(data, "SAMPLED", 1)
    found = check(
        tmp_path,
        f"DATA.TRAIN.DATASETS_NAME=['FOLDER:{videos}']",
        "DATA.VAL.DATASETS_NAME=[]",
        script="stark_st2",
    )
    assert not find(found, "train sets")


def test_generated_sets_are_not_generated_by_a_check(tmp_path, monkeypatch):
    monkeypatch.setenv("STARK_DATA_DIR", str(tmp_path))
    found = check(tmp_path, "DATA.TRAIN.DATASETS_NAME=[EMBEDDED_train]")
    assert find(found, "train EMBEDDED_train", "ok") == ["will be generated when training starts"]
    assert list(tmp_path.iterdir()) == []


def test_a_set_for_training_and_validation_is_read_once(videos, tmp_path, monkeypatch):
    built = []
    build = data.build_dataset
    monkeypatch.setattr(data, "build_dataset", lambda *args, **kwargs: built.append(args) or build(*args, **kwargs))
    name = f"FOLDER:{videos}"
    found = check(tmp_path, f"DATA.TRAIN.DATASETS_NAME=['{name}']", f"DATA.VAL.DATASETS_NAME=['{name}']")
    assert len(built) == 1
    assert find(found, f"train {name}", "ok") == find(found, f"val {name}", "ok")


@pytest.mark.skipif(not REAL.is_dir(), reason=f"no real data at {REAL}; set STARK_REAL_DATA")
def test_real_sets_pass():
    for name, sequences in ((f"FOLDER:{REAL / 'got10k' / 'train'}", 20), (f"COCO:{REAL / 'coco'}", 20)):
        seen = inspect(name, cfg_with())
        assert seen.serves
        assert seen.usable == sequences
        assert np.all([finding.state == "ok" for finding in seen.findings])
