"""ImageNet VID (Russakovsky et al., IJCV 2015): every object of a video is a sequence.

Annotations/VID/train/ILSVRC2015_VID_train_0000/ILSVRC2015_train_00000000/000000.xml, …
Data/VID/train/ILSVRC2015_VID_train_0000/ILSVRC2015_train_00000000/000000.JPEG, …
cache.json      all annotations in one; made on first use, since the XML files are more than a million

As in the published index, a sequence ends before the first frame that lacks the object, and an object whose first box
fills the image is left out.
"""

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np

from ..utils.errors import UserError
from ..utils.files import write_text
from ..utils.progress import progress_bar
from .dataset import SequenceInfo, TrackingDataset, sequence_info
from .images import image_names
from .storage import LmdbStorage, Storage

_SET, _VIDEO = re.compile(r"ILSVRC2015_VID_train_(\d{4})"), re.compile(r"ILSVRC2015_train_(\d{8})")
_SIDES = ("xmin", "ymin", "xmax", "ymax")
log = logging.getLogger(__name__)


class _Track(NamedTuple):
    """One object of a video, from the first frame that shows it."""

    folder: str  # of the frames, below `Data/VID/train`
    start: int  # number of the first frame
    info: SequenceInfo
    fills_image: bool  # the first box is as large as the image, or larger


class Vid(TrackingDataset):
    """Objects of the training videos, visible where they are not occluded; in the folder `ILSVRC2015` or without it."""

    def __init__(self, name: str, storage: Storage) -> None:
        super().__init__(name, storage)
        base = "ILSVRC2015/" if storage.exists("ILSVRC2015") else ""
        self._index, self._frames = f"{base}cache.json", f"{base}Data/VID/train"
        tracks = _load_tracks(storage, self._index, f"{base}Annotations/VID/train")
        self._tracks = [track for track in tracks if not track.fills_image]
        if not self._tracks:
            raise UserError(f"{name}: {storage.locate(self._index)} holds no objects: remove it to have it made anew")
        if left_out := len(tracks) - len(self._tracks):
            self.report = f"{len(self)} of {len(tracks)} objects are used; {left_out} fill the image in the first frame"

    def __len__(self) -> int:
        return len(self._tracks)

    def info(self, sequence: int) -> SequenceInfo:
        return self._tracks[sequence].info

    def files(self) -> Iterator[str]:
        yield self._index
        for folder in sorted({f"{self._frames}/{track.folder}" for track in self._tracks}):
            yield from (f"{folder}/{name}" for name in image_names(self.storage.names(folder)))

    def frame_path(self, sequence: int, frame: int) -> str:
        track = self._tracks[sequence]
        return f"{self._frames}/{track.folder}/{track.start + frame:06d}.JPEG"


def _load_tracks(storage: Storage, index: str, annotations: str) -> list[_Track]:
    """Read the index, which is made from the annotations first where it is missing."""
    if storage.exists(index):
        text = storage.read_bytes(index).decode(errors="replace")
    else:
        text = json.dumps(build_index(storage, annotations))
        if not isinstance(storage, LmdbStorage):
            path = Path(storage.root, index)
            try:
                write_text(path, text)
            except OSError as error:
                log.warning("cannot write %s (%s): the annotations will be read again next time", path, error.strerror)
    try:
        return [_track(entry) for entry in json.loads(text)]
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{storage.locate(index)} is malformed ({error}): remove it to have it made anew") from error


def _track(entry: dict) -> _Track:
    """One entry of the index."""
    boxes = np.array(entry["anno"], dtype=np.float64).reshape(-1, 4)
    visible = np.array(entry["target_visible"], dtype=bool)
    if len(boxes) != len(visible) or not len(boxes):
        raise ValueError(f"{len(boxes)} boxes and {len(visible)} visibilities")
    folder = f"ILSVRC2015_VID_train_{int(entry['set_id']):04d}/ILSVRC2015_train_{int(entry['vid_id']):08d}"
    fills_image = boxes[0, 2:].prod() >= np.prod(entry["image_size"])
    gaps = np.flatnonzero(~boxes[1:].any(axis=1)) + 1  # zeros, in an index whose sequences go on after a gap
    end = gaps[0] if len(gaps) else len(boxes)
    return _Track(folder, int(entry["start_frame"]), sequence_info(boxes[:end], visible[:end]), bool(fills_image))


def build_index(storage: Storage, folder: str) -> list[dict]:
    """Read all annotations of the training videos in a folder of the storage: one entry an object of a video.

    An entry has `set_id`, `vid_id`, `class_name`, `start_frame`, `image_size` (width, height) and, from the object's
    first frame to the one before its first gap, `anno` (xywh boxes) and `target_visible`.
    """
    videos = [
        (int(set_match[1]), int(video_match[1]), f"{folder}/{set_match[0]}/{video_match[0]}")
        for set_match in filter(None, map(_SET.fullmatch, storage.names(folder)))
        for video_match in filter(None, map(_VIDEO.fullmatch, storage.names(f"{folder}/{set_match[0]}")))
    ]
    if not videos:
        expected = "ILSVRC2015_VID_train_0000/ILSVRC2015_train_00000000/000000.xml"
        raise UserError(f"no annotations in {storage.locate(folder)}: expected {expected} and so on")
    return [
        {"set_id": set_id, "vid_id": video_id, **entry}
        for set_id, video_id, path in progress_bar("reading the annotations of VID, once", "videos", videos)
        for entry in _video_entries(storage, path)
    ]


def _video_entries(storage: Storage, folder: str) -> list[dict]:
    """The objects of one video, in the order in which they appear."""
    entries: dict[str, dict] = {}
    for name in storage.names(folder):
        stem, _, suffix = name.rpartition(".")
        if suffix != "xml" or not stem.isdecimal():
            continue
        frame, path = int(stem), f"{folder}/{name}"
        try:
            root = ElementTree.fromstring(storage.read_bytes(path))
            size = [int(_text(root, f"size/{side}")) for side in ("width", "height")]
            for node in root.iter("object"):
                new = {"class_name": _text(node, "name"), "start_frame": frame, "image_size": size}
                entry = entries.setdefault(_text(node, "trackid"), new | {"anno": [], "target_visible": []})
                left, top, right, bottom = (int(_text(node, f"bndbox/{side}")) for side in _SIDES)
                if frame == entry["start_frame"] + len(entry["anno"]):  # there was no gap
                    entry["anno"].append([left, top, right - left, bottom - top])
                    entry["target_visible"].append(node.findtext("occluded", "0").strip() == "0")
        except (ElementTree.ParseError, ValueError) as error:
            raise UserError(f"{storage.locate(path)} is not an annotation of VID: {error}") from error
    return list(entries.values())


def _text(node: ElementTree.Element, path: str) -> str:
    if (text := node.findtext(path)) is None:
        raise ValueError(f"it lacks {path}")
    return text.strip()
