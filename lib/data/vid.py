"""ImageNet VID (Russakovsky et al., IJCV 2015): every object of a video is a sequence.

Annotations/VID/train/ILSVRC2015_VID_train_0000/ILSVRC2015_train_00000000/000000.xml, …
Data/VID/train/ILSVRC2015_VID_train_0000/ILSVRC2015_train_00000000/000000.JPEG, …
cache.json      all annotations in one; made on first use, since the XML files are more than a million
"""

import itertools
import json
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.data.base import SequenceInfo
from lib.data.cache import kept_arrays
from lib.data.images import image_names
from lib.data.storage import FolderStorage, Storage
from lib.data.stored import StoredDataset
from lib.data.vid_index import build_index
from lib.data.video import sequence_info
from lib.utils.errors import UserError
from lib.utils.files import write_text

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
        kept = kept_arrays(storage, name, self._index, lambda: _as_arrays(_load_tracks(storage, base)))
        self._tracks = _from_arrays(kept)
        if not self._tracks:
            raise UserError(f"{name}: {storage.locate(self._index)} holds no objects: remove it to have it made anew")
        self._videos = sorted({track.folder for track in self._tracks})

    def __len__(self) -> int:
        return len(self._tracks)

    def info(self, sequence: int) -> SequenceInfo:
        """See `TrackingDataset.info`."""
        return self._tracks[sequence].info

    def file_groups(self) -> int:
        """See `StoredDataset.file_groups`: the index, then each video."""
        return 1 + len(self._videos)

    def files(self, group: int) -> list[str]:
        """See `StoredDataset.files`."""
        if group == 0:
            return [self._index]
        folder = f"{self.base}Data/VID/train/{self._videos[group - 1]}"
        return [f"{folder}/{name}" for name in image_names(self.storage.names(folder))]

    @property
    def _index(self) -> str:
        return f"{self.base}cache.json"

    def frame_path(self, sequence: int, frame: int) -> str:
        """See `StoredDataset.frame_path`."""
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
    return _Track(folder, int(entry["start_frame"]), sequence_info(boxes, ~visible))


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
