"""Generated videos: exact boxes, honest visibility, the same bytes for the same seed, and a careful writer."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from lib.data import synthetic
from lib.data.images import read_image
from lib.data.synthetic import EmbeddedSpec, Materials, generate
from lib.data.synthetic.pictures import PHOTOGRAPHS, find_cutouts, load_photographs
from lib.data.synthetic.scene import Optics, Scene
from lib.data.synthetic.sprites import Sprite, SpriteSource
from lib.utils.errors import UserError

TINY = {"seed": 3, "sequences": 3, "frames": 4, "split": "train", "size": (96, 72), "progress": False, "workers": 1}
SMALL = (160, 120)


def tree(folder: Path) -> dict[str, bytes]:
    """Content of every file under a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def materials(tmp_path_factory) -> Materials:
    """Two COCO photographs with a disc of category 1 and a triangle of category 2 each; clip-art; a photograph."""
    root, rng = tmp_path_factory.mktemp("materials"), np.random.default_rng(0)
    coco, clipart, photographs = root / "coco", root / "clipart", root / "photographs"
    for folder in (coco / "annotations", coco / "images/train2017", clipart / "birds", clipart / "cars", photographs):
        folder.mkdir(parents=True)
    circle = [(60 + 30 * np.cos(a), 60 + 30 * np.sin(a)) for a in np.linspace(0, 2 * np.pi, 40, endpoint=False)]
    content = {"images": [], "annotations": []}
    for number in range(2):
        noise = cv2.resize(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8), (256, 192))
        cv2.imwrite(str(coco / "images" / "train2017" / f"{number}.jpg"), noise)
        content["images"].append({"id": number, "file_name": f"{number}.jpg"})
        for category, points in ((1, circle), (2, [(130, 40), (200, 40), (165, 120)])):
            low, high = np.min(points, axis=0), np.max(points, axis=0)
            entry = {"image_id": number, "category_id": category, "bbox": [*low.tolist(), *(high - low).tolist()]}
            entry |= {"iscrowd": 0, "segmentation": [np.ravel(points).tolist()]}
            content["annotations"] += [entry | {"exact_mask": True}, entry | {"exact_mask": False}]
    (coco / "annotations" / "instances_train2017.json").write_text(json.dumps(content))
    for kind in ("birds", "cars"):
        picture = np.zeros((80, 100, 4), np.uint8)
        cv2.ellipse(picture, (50, 40), (40, 30), 0, 0, 360, (200, 40, 90, 255), -1)
        cv2.imwrite(str(clipart / kind / "a.png"), picture)
    cv2.imwrite(str(photographs / "p.png"), cv2.resize(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8), (300, 200)))
    return Materials((str(coco),), (str(clipart),), (str(photographs),))


def scenes(count: int, frames: int, split: str = "train", materials: Materials | None = None) -> list[Scene]:
    spec = EmbeddedSpec(5, split, count, frames, SMALL, materials)
    return [spec.scene(index) for index in range(count)]


def clean(scene: Scene) -> Scene:
    """The scene as a flawless camera sees it."""
    frames, (width, height) = len(scene.target.path), scene.size
    noise, corner = np.zeros((height, width, 3), np.int16), np.zeros((frames, 2), int)
    return replace(scene, optics=Optics(0.0, np.zeros(frames), np.ones((frames, 3)), noise, corner))


def plain(scene: Scene, level: int) -> Scene:
    """The scene before an even background of one grey level."""
    return replace(scene, background=np.full_like(scene.background, level))


def opacity(scene: Scene, t: int) -> np.ndarray:
    """(H, W) opacity of the target alone, 0..255, measured from pictures of it before black and before white."""
    alone = replace(clean(scene), behind=(), before=())
    black, white = (plain(alone, level).render(t).image.astype(int) for level in (0, 255))
    return 255 - (white - black).max(axis=2)


def painted(sprite: Sprite, value: int) -> Sprite:
    """The sprite in plain white (255) or black (0)."""
    levels = tuple(np.dstack((*(level[..., 3] * (value == 255),) * 3, level[..., 3])) for level in sprite.levels)
    return replace(sprite, levels=levels)


@pytest.mark.parametrize(("split", "crowded"), [("train", False), ("test", False), ("train", True)])
def test_box_is_the_extent_of_the_object_mask_whatever_the_camera_adds(split, crowded, materials):
    cut = 0
    for scene in scenes(8, 24, split, materials if crowded else None):
        for t in (0, 11, 23):
            frame = scene.render(t)
            np.testing.assert_array_equal(frame.box, clean(scene).render(t).box)
            solid = opacity(scene, t) >= 128
            columns, rows = np.flatnonzero(solid.any(axis=0)), np.flatnonzero(solid.any(axis=1))
            if not len(columns):
                assert not frame.box.any()
                continue
            x, y, w, h = frame.box
            assert (x, x + w, y, y + h) == (columns[0], columns[-1] + 1, rows[0], rows[-1] + 1)
            cut += frame.cut
            if t == 0 and not crowded:  # the first frame shows the whole object
                assert frame.visible_ratio > 0.95
                assert not frame.cut
                assert min(w, h) >= 6
    assert cut, "no case in which the image cuts the object"


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
                white = replace(sharp.target, sprite=painted(sharp.target.sprite, 255))
                obstacles = tuple(replace(layer, sprite=painted(layer.sprite, 0)) for layer in sharp.before)
                dark = plain(replace(sharp, behind=(), target=white, before=obstacles), 0)
                seen = dark.render(t).image[..., 0]
                assert seen.sum(dtype=float) / whole == pytest.approx(frame.visible_ratio, abs=0.02)
            if frame.absent:
                absent += 1
                without = replace(sharp, target=replace(scene.target, path=scene.target.path + 10_000))
                changed = (frame.image != without.render(t).image).any(axis=2).sum()
                assert changed <= 0.12 * scene.target.size[t] ** 2
    assert absent >= 3
    assert covered >= 3


@pytest.mark.parametrize(("crowded", "expected"), [(False, "ff75c3e784a32c9b"), (True, "c6b16d1a8f4fdf35")])
def test_a_seed_gives_the_plans_that_it_always_gave(crowded, expected, materials):
    """Where the objects and the camera move, how fast, and what is before and behind them."""
    plans = []
    for scene in scenes(6, 24, materials=materials if crowded else None):
        for layer in (scene.target, *scene.behind, *scene.before):
            numbers = np.column_stack((layer.path, layer.size)).ravel()
            plans.append([layer.sprite.kind, layer.sprite.group, scene.step, *map("{:.1f}".format, numbers)])
    assert hashlib.sha256(json.dumps(plans).encode()).hexdigest()[:16] == expected


def test_splits_share_no_photograph_and_their_missing_package_is_named(monkeypatch, tmp_path):
    prints = {split: {image.tobytes() for image in load_photographs(split)} for split in PHOTOGRAPHS}
    assert prints["train"].isdisjoint(prints["test"])
    monkeypatch.setattr("lib.data.synthetic.pictures.find_spec", lambda name: None)
    with pytest.raises(UserError, match="install --force-reinstall scikit-image"):
        generate(tmp_path / "set", **TINY)
    assert not (tmp_path / "set").exists()


def test_only_exactly_outlined_objects_are_cut_out(materials):
    found = find_cutouts(materials)["object"]
    assert {category: len(members) for category, members in found.items()} == {1: 2, 2: 2}
    sprite = SpriteSource("train", materials)._cut_out(np.random.default_rng(0), "object", 1)
    opaque = sprite.levels[0][..., 3] >= 128
    assert sprite.extent[0] == pytest.approx(60, abs=4)
    assert opaque.sum() == pytest.approx(np.pi * 30**2, rel=0.15)  # the disc, not its square


def test_the_layout_is_got10k(tmp_path):
    root = generate(tmp_path / "set", **TINY)
    names = (root / "list.txt").read_text().split()
    assert names == sorted(path.name for path in root.iterdir() if path.is_dir())
    assert len(names) == 3
    for index, name in enumerate(names):
        folder, scene = root / name, EmbeddedSpec(3, "train", 3, 4, (96, 72)).scene(index)
        rendered = [scene.render(t) for t in range(4)]
        boxes = np.loadtxt(folder / "groundtruth.txt", delimiter=",")
        np.testing.assert_allclose(boxes, [frame.box for frame in rendered], atol=0.005)
        absence, cover, cut = (np.loadtxt(folder / f"{kind}.label") for kind in ("absence", "cover", "cut_by_image"))
        assert (absence == [frame.absent for frame in rendered]).all()
        assert (cut == [frame.cut for frame in rendered]).all()
        assert ((cover == 0) == (absence == 1)).all()
        assert [path.name for path in sorted(folder.glob("*.jpg"))] == [f"{t:08d}.jpg" for t in range(1, 5)]
        assert np.abs(read_image(folder / "00000003.jpg").astype(float) - rendered[2].image).mean() < 15
        meta = f"[METAINFO]\nobject_class: {scene.target.sprite.kind}\nresolution: (96, 72)\n"
        assert (folder / "meta_info.ini").read_text() == meta


def test_an_interrupted_run_is_continued_and_the_number_of_workers_changes_nothing(tmp_path, materials, monkeypatch):
    chosen = TINY | {"materials": materials}
    whole = tree(generate(tmp_path / "whole", **chosen | {"workers": 2}))
    output, render, rendered = tmp_path / "set", Scene.render, []

    def interrupted(scene, t):
        rendered.append(t)
        if len(rendered) == 7:
            raise KeyboardInterrupt
        return render(scene, t)

    with monkeypatch.context() as patch:
        patch.setattr(Scene, "render", interrupted)
        with pytest.raises(KeyboardInterrupt):
            generate(output, **chosen)
    assert not (output / "list.txt").exists()
    assert [path.name for path in output.iterdir() if path.is_dir()] == ["embedded_train_000001"]
    (output / ".partial-1").mkdir()  # of a run that was killed outright
    (output / ".partial-1/00000009.jpg").write_bytes(b"half")
    generate(output, **chosen)
    assert tree(output) == whole
    monkeypatch.setattr(synthetic, "_write_sequence", lambda *_: pytest.fail("wrote a sequence again"))
    assert generate(output, **chosen) == output


def test_folders_of_other_sets_or_files_are_refused_and_untouched(tmp_path, materials, run_script, capsys):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.jpg").write_bytes(b"mine")
    for name, text in (("broken", "{"), ("list", "[1]"), ("other", '{"generator": "other"}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "embedded.json").write_text(text)
    output = tmp_path / "set"
    output.mkdir()
    (output / ".embedded.x1y2.json").write_text("{")  # of a run that was killed while it wrote the record
    generate(output, **TINY | {"sequences": 1})
    before = tree(tmp_path)
    for name in ("photos", "broken", "list", "other"):
        with pytest.raises(UserError, match="choose another folder"):
            generate(tmp_path / name, **TINY)
    for change, said in (
        ({"size": None}, r"size \[96, 72\], not N"),
        ({"materials": materials}, "materials None, not"),
    ):
        with pytest.raises(UserError, match=said):
            generate(output, **TINY | {"sequences": 1} | change)
    options = ["--output", output, "--sequences", 1, "--frames", 4, "--size", 96, 72, "--seed", 9]
    assert run_script("make_embedded.py", *options) == 2
    assert capsys.readouterr().err.startswith(f"error: {output} holds embedded data of seed 3, not 9")
    assert tree(tmp_path) == before


def test_arguments_out_of_range(tmp_path):
    for change in ({"frames": 1}, {"sequences": 0}, {"seed": -1}, {"size": (320, 20)}, {"split": "val"}):
        with pytest.raises(UserError, match="embedded data: .* must be "):
            generate(tmp_path / "set", **(TINY | change))
        assert not (tmp_path / "set").exists()
    with pytest.raises(UserError, match="folder /nowhere/at/all is missing"):
        Materials(photographs=("/nowhere/at/all",))
