"""Crowded scenes: exact boxes of real things, look-alikes about them, the same pictures for the same seed."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from lib.data.synthetic import EmbeddedSpec, Materials, generate
from lib.data.synthetic.cutouts import Origin, RealSprites
from lib.data.synthetic.materials import outlined_objects
from lib.utils.errors import UserError

SIZE = (160, 120)


@pytest.fixture(scope="module")
def materials(tmp_path_factory) -> Materials:
    """Two COCO photographs with a disc of category 1 and a triangle of category 2 each; clip-art; a photograph."""
    root, rng = tmp_path_factory.mktemp("materials"), np.random.default_rng(0)
    coco, clipart, photographs = root / "coco", root / "clipart", root / "photographs"
    for folder in (
        coco / "annotations",
        coco / "images" / "train2017",
        clipart / "birds",
        clipart / "cars",
        photographs,
    ):
        folder.mkdir(parents=True)
    circle = [(60 + 30 * np.cos(a), 60 + 30 * np.sin(a)) for a in np.linspace(0, 2 * np.pi, 40, endpoint=False)]
    content = {"images": [], "annotations": []}
    for number in range(2):
        noise = cv2.resize(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8), (256, 192))
        cv2.imwrite(str(coco / "images" / "train2017" / f"{number}.jpg"), noise)
        content["images"].append({"id": number, "file_name": f"{number}.jpg"})
        for category, points in ((1, circle), (2, [(130, 40), (200, 40), (165, 120)])):
            low, high = np.min(points, axis=0), np.max(points, axis=0)
            entry = {
                "image_id": number,
                "category_id": category,
                "bbox": [*low.tolist(), *(high - low).tolist()],
                "iscrowd": 0,
            }
            outline = [np.ravel(points).tolist()]
            content["annotations"] += [
                entry | {"segmentation": outline, "exact_mask": True},
                entry | {"segmentation": outline, "exact_mask": False},
            ]
    (coco / "annotations" / "instances_train2017.json").write_text(json.dumps(content))
    for kind in ("birds", "cars"):
        picture = np.zeros((80, 100, 4), np.uint8)
        cv2.ellipse(picture, (50, 40), (40, 30), 0, 0, 360, (200, 40, 90, 255), -1)
        cv2.imwrite(str(clipart / kind / "a.png"), picture)
    cv2.imwrite(str(photographs / "p.png"), cv2.resize(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8), (300, 200)))
    return Materials((str(coco),), (str(clipart),), (str(photographs),))


def scenes(materials: Materials, count: int, frames: int = 3):
    spec = EmbeddedSpec(4, "train", count, frames, SIZE, materials)
    return [spec.scene(index) for index in range(count)]


def flat(scene, level: int):
    """The scene before an even background, without the camera's flaws and all things but the target."""
    frames = len(scene.camera)
    optics = replace(
        scene.optics,
        shutter=0.0,
        defocus=np.zeros(frames),
        gain=np.ones((frames, 3)),
        gamma=np.ones(frames),
        noise=np.zeros_like(scene.optics.noise),
    )
    return replace(scene, background=np.full_like(scene.background, level), behind=(), before=(), optics=optics)


def test_boxes_are_the_extent_of_what_is_drawn(materials):
    pasted = [scene for scene in scenes(materials, 12) if not scene.in_place]
    assert len(pasted) > 2
    for scene in pasted:
        for t in range(len(scene)):
            black, white = (flat(scene, level).render(t).image.astype(int) for level in (0, 255))
            solid = 255 - (white - black).max(axis=2) >= 128
            rows, columns = np.flatnonzero(solid.any(axis=1)), np.flatnonzero(solid.any(axis=0))
            left, top, width, height = scene.render(t).box
            assert abs(left - columns[0]) <= 1
            assert abs(top - rows[0]) <= 1
            assert abs(left + width - columns[-1] - 1) <= 1
            assert abs(top + height - rows[-1] - 1) <= 1


def test_things_in_place_are_where_the_photograph_shows_them(materials):
    """Drawn over what the background shows, the target's layer changes next to nothing; elsewhere it does."""
    found = [scene for scene in scenes(materials, 40) if scene.in_place]
    assert len(found) > 10
    for scene in found:
        assert not scene.behind
        t = len(scene) - 1
        bare = replace(scene, before=(), optics=flat(scene, 0).optics)
        layer = scene.target
        shifted = replace(layer, path=layer.path + 0.2 * layer.size[:, None])
        x, y, width, height = bare.render(t).box.astype(int)
        views = [
            replace(bare, in_place=in_place, target=target).render(t).image[y : y + height, x : x + width].astype(int)
            for in_place, target in ((True, layer), (False, layer), (False, shifted))
        ]
        if min(width, height) > 12:
            assert np.abs(views[1] - views[0]).mean() < 0.35 * np.abs(views[2] - views[0]).mean()


def test_frames_are_thinned_out(materials):
    """A sequence has the frames asked for, and they are apart in time."""
    scene = scenes(materials, 1, frames=5)[0]
    assert len(scene) == 5
    assert len(scene.camera) == 5 * scene.step > 5


def test_targets_are_met_by_others_of_their_kind(materials):
    alike = total = 0
    for scene in scenes(materials, 40):
        for layer in (*scene.behind, *scene.before):
            total += 1
            alike += layer.sprite.recipe == scene.target.sprite.recipe and isinstance(layer.sprite.recipe, Origin)
    assert total > 60
    assert alike > 0.25 * total


def test_only_exactly_outlined_objects_are_cut_out(materials):
    assert len(outlined_objects(materials)) == 4
    sprites = RealSprites(materials)
    disc = next(entry for entry in outlined_objects(materials) if entry.category == 1)
    sprite = sprites._object(np.random.default_rng(0), disc)
    opaque = sprite.levels[0][..., 3] >= 128
    assert sprite.extent[0] == pytest.approx(60, abs=4)
    assert opaque.sum() == pytest.approx(np.pi * 30**2, rel=0.15)  # the disc, not its square


def test_the_same_seed_gives_the_same_files_whatever_the_workers(materials, tmp_path):
    arguments = {"seed": 1, "sequences": 3, "frames": 2, "split": "train", "size": (96, 72), "materials": materials}

    def tree(workers: int) -> dict[str, bytes]:
        folder = generate(tmp_path / str(workers), workers=workers, progress=False, **arguments)
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    assert tree(1) == tree(2)
    with pytest.raises(UserError, match="materials"):
        generate(tmp_path / "1", progress=False, **(arguments | {"materials": None}))


def test_a_missing_folder_is_named():
    missing = str(Path("/nowhere/at/all"))
    with pytest.raises(UserError, match="no folder /nowhere/at/all"):
        Materials(photographs=(missing,))
