"""GOT-10k (Huang et al., TPAMI 2021), and any folder in its layout.

list.txt
<sequence>/00000001.jpg, 00000002.jpg, …
<sequence>/groundtruth.txt, absence.label, cover.label
"""

import logging
from pathlib import Path

import numpy as np

from lib.data.storage import Storage
from lib.data.video import VideoDataset
from lib.utils.errors import UserError
from lib.utils.text import read_ranges

SPECS = Path(__file__).parent / "specs"

_LIST = "list.txt"
log = logging.getLogger(__name__)


class Got10k(VideoDataset):
    """Sequences of a folder in GOT-10k layout, in the order of `list.txt`.

    A frame is visible where its box has an area, `absence.label` is 0 and `cover.label` above 0;
    a label file that is missing hides nothing.

    Args:
        name: as in DATA.TRAIN.DATASETS_NAME.
        storage: where the files lie.
        base: folder of the sequences in the storage, "" or with a "/" at its end.
        split: a name in `specs`, such as "vottrain"; None takes every sequence.

    Raises:
        UserError: there are no sequences, or `list.txt` names some that are not there.
    """

    def __init__(self, name: str, storage: Storage, base: str = "", split: str | None = None) -> None:
        sequences = _sequences(name, storage, base)
        if split is not None:
            sequences = _of_split(split, sequences, name, storage.locate(base.rstrip("/")))
        super().__init__(name, storage, sequences)
        self.base = base

    def frames_folder(self, sequence: int) -> str:
        """See `VideoDataset.frames_folder`."""
        return f"{self.base}{self.sequences[sequence]}"

    def annotation_file(self, sequence: int) -> str:
        """See `VideoDataset.annotation_file`."""
        return f"{self.frames_folder(sequence)}/groundtruth.txt"

    def other_files(self, sequence: int) -> list[str]:
        """See `VideoDataset.other_files`."""
        names = ("absence.label", "cover.label", "cut_by_image.label", "meta_info.ini")
        return [f"{self.frames_folder(sequence)}/{name}" for name in names]

    def shared_files(self) -> list[str]:
        """See `VideoDataset.shared_files`."""
        return [self.base + _LIST]

    def hidden_frames(self, sequence: int, frames: int) -> np.ndarray | None:
        """See `VideoDataset.hidden_frames`."""
        hidden = np.zeros(frames, dtype=bool)
        absence = self.labels(f"{self.frames_folder(sequence)}/absence.label", frames)
        if absence is not None:
            hidden |= absence != 0
        cover = self.labels(f"{self.frames_folder(sequence)}/cover.label", frames)
        if cover is not None:
            hidden |= cover <= 0
        return hidden


def split_indices(split: str) -> list[int]:
    """Indices from 0 of a split's sequences in GOT-10k's sorted training list of 9,335."""
    return read_ranges(SPECS / f"got10k_{split}.ranges.txt")


def _sequences(name: str, storage: Storage, base: str) -> list[str]:
    """Sequences in the order of `list.txt`, or of their names where there is no such file."""
    place = storage.locate(base.rstrip("/"))
    folders = storage.names(base.rstrip("/"))
    if storage.exists(base + _LIST):
        sequences = storage.lines(base + _LIST)
        missing = sorted(set(sequences) - set(folders))
        if missing:
            raise UserError(
                f"{name}: {len(missing)} of the {len(sequences)} sequences in {storage.locate(base + _LIST)} are not "
                f"beside it, {missing[0]} for one; bring them there, or remove {_LIST} to take those that are"
            )
    else:
        sequences = [folder for folder in folders if storage.exists(f"{base}{folder}/groundtruth.txt")]
        if sequences:
            log.warning("%s: there is no %s in %s: taking its %d folders", name, _LIST, place, len(sequences))
    if not sequences:
        raise UserError(
            f"{name}: no sequences in {place}: expected {_LIST} and, for each sequence, "
            "a folder of frames with groundtruth.txt"
        )
    return sequences


def _of_split(split: str, sequences: list[str], name: str, place: str) -> list[str]:
    """The sequences of a split. They go by their names, so that a part of the set keeps to its splits."""
    wanted = [f"GOT-10k_Train_{index + 1:06d}" for index in split_indices(split)]
    present = set(sequences)
    found = [sequence for sequence in wanted if sequence in present]
    if not found:
        raise UserError(
            f"{name}: none of its sequences (GOT-10k_Train_{split_indices(split)[0] + 1:06d}, …) is in {place}: "
            f"put GOT-10k's training set there; sequences of your own are named FOLDER:{place}"
        )
    if len(found) < len(wanted):
        log.warning("%s: only %d of its %d sequences are in %s", name, len(found), len(wanted), place)
    return found
