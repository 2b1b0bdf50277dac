"""The embedded default: exact boxes, honest visibility, the same bytes for the same seed, and a careful writer."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lib.data.images import read_image
from lib.data.synthetic import EmbeddedSpec, generate, render_sequence, writer
from lib.data.synthetic.objects import Sprite
from lib.data.synthetic.photographs import PHOTOGRAPHS, load_photographs
from lib.data.synthetic.render import Optics, Scene
from lib.utils.errors import UserError

REPOSITORY = Path(__file__).resolve().parents[2]
TINY = {"seed": 3, "sequences": 3, "frames": 4, "split": "train", "size": (96, 72), "progress": False}
SMALL = (160, 120)


def tree(folder: Path) -> dict[str, bytes]:
    """Content of every file under a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def scenes(count: int, frames: int, split: str = "train", seed: int = 5) -> list[Scene]:
    spec = EmbeddedSpec(seed, split, count, frames, SMALL)
    return [spec.scene(index) for index in range(count)]


def clean(scene: Scene) -> Scene:
    """The scene as a flawless camera sees it."""
    frames, (width, height) = len(scene), scene.size
    optics = Optics(
        shutter=0.0,
        defocus=np.zeros(frames),
        gain=np.ones((frames, 3)),
        gamma=np.ones(frames),
        noise=np.zeros((height, width, 3), np.int16),
        noise_corner=np.zeros((frames, 2), int),
    )
    return replace(scene, optics=optics)


def without_target(scene: Scene) -> Scene:
    return replace(scene, target=replace(scene.target, path=scene.target.path + 10_000))


def opacity(scene: Scene, t: int) -> np.ndarray:
    """(H, W) opacity of the target alone, 0..255, measured from pictures of it before black and before white."""
    alone = replace(clean(scene), behind=(), before=())
    black, white = (
        replace(alone, background=np.full_like(scene.background, level)).render(t).image.astype(int)
        for level in (0, 255)
    )
    return 255 - (white - black).max(axis=2)


def test_the_same_seed_gives_the_same_video_and_another_seed_index_or_split_another():
    def video(seed: int, index: int, split: str) -> tuple[np.ndarray, np.ndarray]:
        frames = list(render_sequence(seed, index, split=split, frames=3, size=SMALL))
        return np.stack([image for image, _, _ in frames]), np.stack([box for _, box, _ in frames])

    images, boxes = video(1, 0, "train")
    again = video(1, 0, "train")
    assert images.dtype == np.uint8
    assert images.shape == (3, SMALL[1], SMALL[0], 3)
    np.testing.assert_array_equal(images, again[0])
    np.testing.assert_array_equal(boxes, again[1])
    for other in (video(2, 0, "train"), video(1, 1, "train"), video(1, 0, "test")):
        assert (images != other[0]).mean() > 0.5
        assert (boxes != other[1]).any()


def test_box_is_the_extent_of_the_object_mask():
    cut = 0
    for scene in scenes(8, 24):
        for t in (0, 11, 23):
            frame = scene.render(t)
            solid = opacity(scene, t) >= 128
            columns, rows = np.flatnonzero(solid.any(axis=0)), np.flatnonzero(solid.any(axis=1))
            if not len(columns):
                assert not frame.box.any()
                continue
            x, y, w, h = frame.box
            assert (x, x + w) == (columns[0], columns[-1] + 1)
            assert (y, y + h) == (rows[0], rows[-1] + 1)
            cut += frame.cut
    assert cut, "no case in which the image cuts the object"


def test_motion_blur_light_and_noise_leave_the_box_alone():
    for scene in scenes(3, 12):
        np.testing.assert_array_equal(scene.render(7).box, clean(scene).render(7).box)


def test_visible_ratio_is_what_can_be_seen_and_absent_frames_are_hidden():
    absent = covered = 0
    for scene in scenes(24, 24):
        for t in range(8, 24, 3):
            sharp = clean(scene)
            frame = sharp.render(t)
            if 0.3 < frame.visible_ratio < 0.9 and not frame.cut:
                # What the obstacles hide, measured on a white object before a black world with black obstacles.
                covered += 1
                whole = float(opacity(scene, t).sum())
                white = replace(sharp.target, sprite=painted(sharp.target.sprite, 255), gain=np.ones(24))
                obstacles = tuple(replace(layer, sprite=painted(layer.sprite, 0)) for layer in sharp.before)
                dark = replace(sharp, background=np.zeros_like(scene.background), behind=())
                seen = replace(dark, target=white, before=obstacles).render(t).image[..., 0]
                assert seen.sum(dtype=float) / whole == pytest.approx(frame.visible_ratio, abs=0.02)
            if frame.absent:
                absent += 1
                changed = (frame.image != without_target(sharp).render(t).image).any(axis=2).sum()
                assert changed <= 0.12 * scene.target.size[t] ** 2
    assert absent >= 3
    assert covered >= 3


def painted(sprite: Sprite, value: int) -> Sprite:
    """The sprite in plain white (255) or black (0)."""
    levels = tuple(np.dstack((*(level[..., 3] * (value == 255),) * 3, level[..., 3])) for level in sprite.levels)
    return replace(sprite, levels=levels)


@pytest.mark.parametrize("split", ["train", "test"])
def test_first_frame_shows_the_whole_object(split):
    for scene in scenes(14, 10, split):
        frame = scene.render(0)
        assert frame.visible_ratio > 0.95
        assert not frame.cut
        assert min(frame.box[2:]) >= 6


def test_objects_move_far_and_smoothly_enough_to_follow():
    """A box that never moves loses the object, while from frame to frame it stays within a search region."""
    still, jumps = [], []
    for scene in scenes(10, 40):
        boxes = np.stack([scene.render(t).box for t in range(0, 40, 3)])
        first, rest = boxes[0], boxes[1:][boxes[1:, 2] > 0]
        overlap = np.clip(np.minimum(first[:2] + first[2:], rest[:, :2] + rest[:, 2:]), 0, None)
        overlap = np.clip(overlap - np.maximum(first[:2], rest[:, :2]), 0, None).prod(axis=1)
        still.append((overlap / (first[2:].prod() + rest[:, 2:].prod(axis=1) - overlap)).mean())
        steps = np.linalg.norm(np.diff(scene.target.path, axis=0), axis=1)
        jumps.append((steps / scene.target.size[1:]).max())
    assert np.mean(still) < 0.35
    assert max(jumps) < 1.0


def test_splits_share_no_photograph():
    names = {split: {name for _, name in files} for split, files in PHOTOGRAPHS.items()}
    assert not names["train"] & names["test"]
    prints = {split: {image.tobytes() for image in load_photographs(split)} for split in PHOTOGRAPHS}
    assert not prints["train"] & prints["test"]
    for image in load_photographs("train") + load_photographs("test"):
        assert image.ndim == 3
        assert image.std() > 10


def test_missing_package_is_named(monkeypatch, tmp_path):
    load_photographs.cache_clear()
    monkeypatch.setattr("lib.data.synthetic.photographs.find_spec", lambda name: None)
    with pytest.raises(UserError, match="install scikit-image"):
        generate(tmp_path / "set", **TINY)
    assert not (tmp_path / "set").exists()


def test_number_of_workers_changes_nothing_and_the_layout_is_got10k(tmp_path):
    one = generate(tmp_path / "one", workers=1, **TINY)
    two = generate(tmp_path / "two", workers=2, **TINY)
    assert tree(one) == tree(two)
    names = (one / "list.txt").read_text().split()
    assert names == sorted(path.name for path in one.iterdir() if path.is_dir())
    assert len(names) == 3
    for index, name in enumerate(names):
        folder = one / name
        rendered = list(render_sequence(3, index, split="train", frames=4, size=(96, 72)))
        boxes = np.loadtxt(folder / "groundtruth.txt", delimiter=",")
        np.testing.assert_allclose(boxes, [box for _, box, _ in rendered], atol=0.005)
        absence, cover, cut = (
            np.loadtxt(folder / file, dtype=int) for file in ("absence.label", "cover.label", "cut_by_image.label")
        )
        assert absence.shape == cover.shape == cut.shape == (4,)
        assert set(absence) | set(cut) <= {0, 1}
        assert ((cover == 0) == (absence == 1)).all()
        assert cover[0] == 8
        assert sorted(path.name for path in folder.glob("*.jpg")) == [f"{t:08d}.jpg" for t in range(1, 5)]
        error = read_image(folder / "00000003.jpg").astype(float) - rendered[2][0]
        assert np.abs(error).mean() < 15
        meta = (folder / "meta_info.ini").read_text().splitlines()
        assert meta[0] == "[METAINFO]"
        assert "resolution: (96, 72)" in meta
        assert any(line.startswith("object_class: ") for line in meta)


def test_a_complete_set_is_left_as_it_is(tmp_path, monkeypatch):
    generate(tmp_path / "set", workers=1, **TINY)
    before = tree(tmp_path)
    monkeypatch.setattr(writer, "_write_sequence", lambda *_: pytest.fail("wrote a sequence again"))
    assert generate(tmp_path / "set", workers=1, **TINY) == tmp_path / "set"
    assert tree(tmp_path) == before


def test_an_interrupted_run_is_continued(tmp_path, monkeypatch):
    whole = tree(generate(tmp_path / "whole", workers=1, **TINY))
    output = tmp_path / "set"
    written = 0
    real = writer._write_frame

    def interrupted(*args):
        nonlocal written
        written += 1
        if written == 7:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(writer, "_write_frame", interrupted)
    with pytest.raises(KeyboardInterrupt):
        generate(output, workers=1, **TINY)
    assert not (output / "list.txt").exists()
    assert [path.name for path in output.iterdir() if path.is_dir()] == ["embedded_train_000001"]
    # What a run that was killed outright leaves behind.
    (output / ".partial-killed").mkdir()
    (output / ".partial-killed" / "00000001.jpg").write_bytes(b"half")

    monkeypatch.setattr(writer, "_write_frame", real)
    generate(output, workers=1, **TINY)
    assert tree(output) == whole


def test_a_foreign_folder_is_refused_and_untouched(tmp_path):
    foreign = tmp_path / "photos"
    (foreign / "embedded_train_000001").mkdir(parents=True)
    (foreign / "holiday.jpg").write_bytes(b"mine")
    before = tree(tmp_path)
    with pytest.raises(UserError, match="something else"):
        generate(foreign, workers=1, **TINY)
    with pytest.raises(UserError, match="not a folder"):
        generate(foreign / "holiday.jpg", workers=1, **TINY)
    with pytest.raises(UserError, match="cannot write"):
        generate(foreign / "holiday.jpg" / "set", workers=1, **TINY)
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 4}, "seed 3, not 4"),
        ({"frames": 5}, "frames 4, not 5"),
        ({"split": "test"}, "split train, not test"),
        ({"size": None}, r"size \[96, 72\], not None"),
    ],
)
def test_a_set_of_other_arguments_is_refused_and_untouched(tmp_path, change, message):
    generate(tmp_path / "set", workers=1, **(TINY | {"sequences": 1}))
    before = tree(tmp_path)
    with pytest.raises(UserError, match=message):
        generate(tmp_path / "set", workers=1, **(TINY | {"sequences": 1} | change))
    assert tree(tmp_path) == before


@pytest.mark.parametrize("text", ["{", "[1]", json.dumps({"generator": "other"})])
def test_a_damaged_or_foreign_record_is_refused(tmp_path, text):
    (tmp_path / writer.RECORD_NAME).write_text(text)
    with pytest.raises(UserError, match="choose another folder"):
        generate(tmp_path, workers=1, **TINY)
    assert (tmp_path / writer.RECORD_NAME).read_text() == text


@pytest.mark.parametrize(
    "change", [{"frames": 1}, {"sequences": 0}, {"seed": -1}, {"size": (320, 20)}, {"split": "val"}, {"workers": 0}]
)
def test_arguments_out_of_range(tmp_path, change):
    with pytest.raises(UserError, match="embedded data"):
        generate(tmp_path / "set", **(TINY | change))
    assert not (tmp_path / "set").exists()


def test_command_line(tmp_path):
    command = [sys.executable, REPOSITORY / "tracking" / "make_embedded.py", "--output", tmp_path / "set"]
    sizes = ["--sequences", "2", "--frames", "3", "--size", "96", "72"]
    done = subprocess.run([*command, *sizes, "--split", "test"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "set").glob("embedded_test_*/*.jpg"))) == 6
    refused = subprocess.run([*command, *sizes, "--seed", "9"], cwd=tmp_path, capture_output=True, text=True)
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: ")
    assert refused.stderr.count("\n") == 1
