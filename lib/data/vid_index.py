"""Gathering the annotation of ImageNet VID from its XML files, one a frame."""

import re
from dataclasses import dataclass, field
from xml.etree import ElementTree

from tqdm import tqdm

from lib.data.storage import Storage
from lib.utils.errors import UserError

_SET = re.compile(r"ILSVRC2015_VID_train_(\d{4})")
_VIDEO = re.compile(r"ILSVRC2015_train_(\d{8})")
_NO_BOX = [0, 0, 0, 0]


@dataclass
class _Object:
    """What is known of an object of a video: its class, and by frame its xywh box and whether it is visible."""

    class_name: str
    frames: dict[int, tuple[list[int], bool]] = field(default_factory=dict)


def build_index(storage: Storage, folder: str) -> list[dict]:
    """Read all annotations of the training videos.

    Args:
        storage: where the files lie.
        folder: of the annotations in the storage.

    Returns:
        One entry an object of a video: `set_id`, `vid_id`, `class_name`, `start_frame`, `image_size` (width,
        height) and, from the object's first frame to its last, `anno` (xywh boxes, zeros where a frame lacks it)
        and `target_visible`.

    Raises:
        UserError: there are no annotations, or one is malformed.
    """
    videos = [
        (int(set_match[1]), int(video_match[1]), f"{folder}/{set_match[0]}/{video_match[0]}")
        for set_match in filter(None, map(_SET.fullmatch, storage.names(folder)))
        for video_match in filter(None, map(_VIDEO.fullmatch, storage.names(f"{folder}/{set_match[0]}")))
    ]
    if not videos:
        raise UserError(
            f"no annotations in {storage.locate(folder)}: expected "
            "ILSVRC2015_VID_train_0000/ILSVRC2015_train_00000000/000000.xml and so on"
        )
    entries = []
    for set_id, video_id, path in tqdm(videos, desc="reading the annotations of VID, once", unit="video"):
        for entry in _video_entries(storage, path):
            entries.append({"set_id": set_id, "vid_id": video_id, **entry})
    return entries


def _video_entries(storage: Storage, folder: str) -> list[dict]:
    """The objects of one video, in the order in which they appear."""
    objects: dict[str, _Object] = {}
    size = [0, 0]
    for name in storage.names(folder):
        stem, _, suffix = name.rpartition(".")
        if suffix != "xml" or not stem.isdecimal():
            continue
        path = f"{folder}/{name}"
        try:
            root = ElementTree.fromstring(storage.read_bytes(path))
            size = [_number(root, "size/width"), _number(root, "size/height")]
            for node in root.iter("object"):
                known = objects.setdefault(_text(node, "trackid"), _Object(_text(node, "name")))
                known.frames[int(stem)] = _box(node), node.findtext("occluded", "0").strip() == "0"
        except (ElementTree.ParseError, ValueError) as error:
            raise UserError(f"{storage.locate(path)} is not an annotation of VID: {error}") from error
    return [_entry(known, size) for known in objects.values()]


def _entry(known: _Object, size: list[int]) -> dict:
    """An object's entry of the index."""
    span = range(min(known.frames), max(known.frames) + 1)
    frames = [known.frames.get(number, (_NO_BOX, False)) for number in span]
    return {
        "class_name": known.class_name,
        "start_frame": span.start,
        "image_size": size,
        "anno": [box for box, _ in frames],
        "target_visible": [visible for _, visible in frames],
    }


def _box(node: ElementTree.Element) -> list[int]:
    """The xywh box of an object in a frame."""
    x1, y1, x2, y2 = (_number(node, f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax"))
    return [x1, y1, x2 - x1, y2 - y1]


def _number(node: ElementTree.Element, path: str) -> int:
    return int(_text(node, path))


def _text(node: ElementTree.Element, path: str) -> str:
    text = node.findtext(path)
    if text is None:
        raise ValueError(f"it lacks {path}")
    return text.strip()
