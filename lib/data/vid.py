"""ImageNet VID (Russakovsky et al., IJCV 2015): every object of a video is a sequence.

Annotations/VID/train/ILSVRC2015_VID_train_0000/ILSVRC2015_train_00000000/000000.xml, …
Data/VID/train/ILSVRC2015_VID_train_0000/ILSVRC2015_train_00000000/000000.JPEG, …
cache.json      all annotations in one; made on first use, since the XML files are more than a million
"""

import itertools
import json
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from tqdm import tqdm

from lib.data.cache import cached_arrays
from lib.data.dataset import SequenceInfo, StoredDataset, sequence_info
from lib.data.images import image_names
from lib.data.storage import FolderStorage, Storage
from lib.utils.errors import UserError
from lib.utils.files import write_text

_SET = re.compile(r"ILSVRC2015_VID_train_(\d{4})")
_VIDEO = re.compile(r"ILSVRC2015_train_(\d{8})")
_NO_BOX = [0, 0, 0, 0]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Track:
    """One object of a video, from the first to the last frame that shows it.

    Attributes:
        folder: of the video, below `Data/VID/train`.
        start: number of the first frame.
        info: the annotation from there on; frames in between that lack the object have no valid box.
    """

    folder: str
    start: int
    info: SequenceInfo


class Vid(StoredDataset):
    """Objects of the training videos; an object is visible where it is not marked as occluded.

    Args:
        name: as in DATA.TRAIN.DATASETS_NAME.
        storage: where the files lie.
        base: folder of `Data` in the storage, "" or with a "/" at its end.

    Raises:
        UserError: there are no annotations, or one is malformed.
    """

    def __init__(self, name: str, storage: Storage, base: str = "") -> None:
        self.name = name
        self.storage = storage
        self.base = base
        kept = cached_arrays(storage, name, self._index, lambda: _as_arrays(_load_tracks(storage, base)))
        self._tracks = _from_arrays(kept)
        if not self._tracks:
            raise UserError(f"{name}: {storage.locate(self._index)} holds no objects: remove it to have it made anew")
        self._videos = sorted({track.folder for track in self._tracks})

    def __len__(self) -> int:
        return len(self._tracks)

    def info(self, sequence: int) -> SequenceInfo:
        return self._tracks[sequence].info

    def files(self) -> Iterator[str]:
        yield self._index
        for video in self._videos:
            folder = f"{self.base}Data/VID/train/{video}"
            yield from (f"{folder}/{name}" for name in image_names(self.storage.names(folder)))

    @property
    def _index(self) -> str:
        return f"{self.base}cache.json"

    def frame_path(self, sequence: int, frame: int) -> str:
        track = self._tracks[sequence]
        if not 0 <= frame < len(track.info):
            raise IndexError(f"frame {frame} of {len(track.info)}")
        return f"{self.base}Data/VID/train/{track.folder}/{track.start + frame:06d}.JPEG"


def _load_tracks(storage: Storage, base: str) -> list[_Track]:
    """Read `cache.json`, which is made first where it is missing."""
    path = f"{base}cache.json"
    if storage.exists(path):
        text = storage.read_bytes(path).decode(errors="replace")
    else:
        text = json.dumps(build_index(storage, f"{base}Annotations/VID/train"))
        if isinstance(storage, FolderStorage):
            _save(Path(storage.locate(path)), text)
    try:
        tracks = json.loads(text, object_hook=_track)
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{storage.locate(path)} is malformed ({error}): remove it to have it made anew") from error
    if not isinstance(tracks, list) or not all(isinstance(track, _Track) for track in tracks):
        raise UserError(f"{storage.locate(path)} is not a list of objects: remove it to have it made anew")
    return tracks


def _track(entry: dict) -> _Track:
    """One entry of the index; called by the JSON reader as it goes, so that the whole is never in memory as lists."""
    boxes = np.array(entry["anno"], dtype=np.float64).reshape(-1, 4)
    visible = np.array(entry["target_visible"], dtype=bool)
    if len(boxes) != len(visible) or not len(boxes):
        raise ValueError(f"{len(boxes)} boxes and {len(visible)} visibilities")
    set_id, video_id = int(entry["set_id"]), int(entry["vid_id"])
    folder = f"ILSVRC2015_VID_train_{set_id:04d}/ILSVRC2015_train_{video_id:08d}"
    return _Track(folder, int(entry["start_frame"]), sequence_info(boxes, visible))


def _as_arrays(tracks: list[_Track]) -> dict[str, np.ndarray]:
    """All tracks in a few arrays; `ends` says where in those of the frames a track begins and ends."""
    return {
        "folders": np.array([track.folder for track in tracks], str),
        "starts": np.array([track.start for track in tracks], np.int64),
        "ends": np.cumsum([0, *(len(track.info) for track in tracks)], dtype=np.int64),
        "boxes": np.concatenate([np.zeros((0, 4), np.float32), *(track.info.boxes for track in tracks)]),
        "valid": np.concatenate([np.zeros(0, bool), *(track.info.valid for track in tracks)]),
        "visible": np.concatenate([np.zeros(0, bool), *(track.info.visible for track in tracks)]),
    }


def _from_arrays(kept: dict[str, np.ndarray]) -> list[_Track]:
    """The tracks again."""
    spans = [slice(*span) for span in itertools.pairwise(kept["ends"].tolist())]
    infos = [SequenceInfo(kept["boxes"][span], kept["valid"][span], kept["visible"][span]) for span in spans]
    return [_Track(*track) for track in zip(kept["folders"].tolist(), kept["starts"].tolist(), infos, strict=True)]


def _save(path: Path, text: str) -> None:
    """Keep the index for the next time; where nothing can be written, training goes on without."""
    try:
        write_text(path, text)
    except OSError as error:
        log.warning("cannot write %s (%s): the annotations will be read again next time", path, error.strerror)


@dataclass
class _IndexedObject:
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
    objects: dict[str, _IndexedObject] = {}
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
                known = objects.setdefault(_text(node, "trackid"), _IndexedObject(_text(node, "name")))
                known.frames[int(stem)] = _box(node), node.findtext("occluded", "0").strip() == "0"
        except (ElementTree.ParseError, ValueError) as error:
            raise UserError(f"{storage.locate(path)} is not an annotation of VID: {error}") from error
    return [_entry(known, size) for known in objects.values()]


def _entry(known: _IndexedObject, size: list[int]) -> dict:
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
