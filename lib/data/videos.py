"""Annotated videos as a training set: sequences of a layout, with their annotations cached."""

from collections import OrderedDict
from collections.abc import Iterable, Iterator

from lib.data.cache import AnnotationCache, Entry, cache_file, gather, sequence_key
from lib.data.dataset import SequenceInfo, StoredDataset, sequence_info
from lib.data.images import image_names
from lib.data.sequence import Sequence, frame_names
from lib.data.storage import Storage
from lib.utils.errors import UserError

# Frames whose annotation a process holds in memory, for each data set: 18 bytes a frame.
_CACHED_FRAMES = 4_000_000


class VideoSet(StoredDataset):
    """Videos with a folder of frames and text files of annotation each.

    Args:
        name: as in DATA.TRAIN.DATASETS_NAME.
        storage: the folder or LMDB.
        sequences: at least one, with paths in `storage`.
        shared_files: storage paths of files that belong to no sequence, such as `list.txt`.
    """

    def __init__(
        self, name: str, storage: Storage, sequences: list[Sequence], shared_files: Iterable[str] = ()
    ) -> None:
        self.name, self.storage, self.sequences = name, storage, sequences
        self._shared_files = shared_files
        self._recent: OrderedDict[int, Entry] = OrderedDict()
        self._recent_frames = 0
        self._cache: AnnotationCache | None = None
        self._keys: list[bytes] = []

    def __len__(self) -> int:
        return len(self.sequences)

    def annotation_file(self, sequence: int) -> str:
        """Storage path of a sequence's boxes."""
        return self.sequences[sequence].annotation.as_posix()

    def keep_annotations(self) -> None:
        if self.storage.cache is not None:
            self._keys = [sequence_key(self.storage, _annotation_paths(each)) for each in self.sequences]
            self._cache = gather(cache_file(self.storage, self.name), self.name, self._keys, self._load)

    def info(self, sequence: int) -> SequenceInfo:
        return self._entry(sequence)[0]

    def frame_path(self, sequence: int, frame: int) -> str:
        return f"{self.sequences[sequence].frames_dir.as_posix()}/{self._entry(sequence)[1][frame]}"

    def files(self) -> Iterator[str]:
        yield from filter(self.storage.exists, self._shared_files)
        for sequence in self.sequences:
            folder = sequence.frames_dir.as_posix()
            yield sequence.annotation.as_posix()
            yield from (path.as_posix() for path in sequence.other_files if self.storage.exists(path.as_posix()))
            yield from (f"{folder}/{name}" for name in image_names(self.storage.names(folder)))

    def _entry(self, sequence: int) -> Entry:
        """Annotation and names of the frames; the least recently used leave memory when there are too many."""
        if sequence in self._recent:
            self._recent.move_to_end(sequence)
            return self._recent[sequence]
        if self._cache is not None and self._keys[sequence] in self._cache:
            entry = self._cache.entry(self._keys[sequence])
        else:
            entry = self._load(sequence)
        self._recent[sequence] = entry
        self._recent_frames += len(entry[0])
        while self._recent_frames > _CACHED_FRAMES and len(self._recent) > 1:
            self._recent_frames -= len(self._recent.popitem(last=False)[1][0])
        return entry

    def _load(self, number: int) -> Entry:
        """Read the annotation and compare it with the frames."""
        sequence = self.sequences[number]
        boxes = sequence.read_boxes()
        names = frame_names(self.storage.names(sequence.frames_dir.as_posix()))
        if len(names) != len(boxes):
            raise UserError(
                f"{self.storage.locate(self.annotation_file(number))} has {len(boxes)} boxes, "
                f"but there are {len(names)} frames in {self.storage.locate(sequence.frames_dir.as_posix())}"
            )
        return sequence_info(boxes, sequence.read_visible(len(boxes))), names


def _annotation_paths(sequence: Sequence) -> list[str]:
    """Storage paths of all that `VideoSet._load` reads."""
    return [path.as_posix() for path in (sequence.annotation, *sequence.other_files, sequence.frames_dir)]
