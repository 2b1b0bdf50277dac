"""LaSOT (Fan et al., CVPR 2019): the 1,120 training videos of protocol II.

<class>/<class>-<n>/img/00000001.jpg, …        or, without the classes' folders, <class>-<n>/img/…
<class>/<class>-<n>/groundtruth.txt, full_occlusion.txt, out_of_view.txt
"""

import logging
import re

import numpy as np

from lib.data.got10k import SPECS
from lib.data.storage import Storage
from lib.data.video import VideoDataset
from lib.utils.errors import UserError

_SEQUENCE = re.compile(r".+-\d+")
log = logging.getLogger(__name__)


class Lasot(VideoDataset):
    """Videos of LaSOT. A frame is hidden where it is marked as fully occluded or out of view.

    Args:
        name: as in DATA.TRAIN.DATASETS_NAME.
        storage: where the files lie.
        split: take the training videos in the order of their list; False takes every video there is.

    Raises:
        UserError: none of the videos is there.
    """

    def __init__(self, name: str, storage: Storage, split: bool = True) -> None:
        found = _find(storage)
        wanted = (SPECS / "lasot_train.txt").read_text(encoding="utf-8").split() if split else list(found)
        sequences = [found[video] for video in wanted if video in found]
        if not sequences:
            raise UserError(
                f"{name}: none of its videos is in {storage.locate()}: "
                "expected folders such as airplane/airplane-2 with img/ and groundtruth.txt"
            )
        if len(sequences) < len(wanted):
            log.warning("%s: only %d of its %d videos are in %s", name, len(sequences), len(wanted), storage.locate())
        super().__init__(name, storage, sequences)

    def frames_folder(self, sequence: int) -> str:
        """See `VideoDataset.frames_folder`."""
        return f"{self.sequences[sequence]}/img"

    def annotation_file(self, sequence: int) -> str:
        """See `VideoDataset.annotation_file`."""
        return f"{self.sequences[sequence]}/groundtruth.txt"

    def other_files(self, sequence: int) -> list[str]:
        """See `VideoDataset.other_files`."""
        return [f"{self.sequences[sequence]}/{label}.txt" for label in ("full_occlusion", "out_of_view")]

    def hidden_frames(self, sequence: int, frames: int) -> np.ndarray:
        """See `VideoDataset.hidden_frames`."""
        hidden = np.zeros(frames, dtype=bool)
        for path in self.other_files(sequence):
            labels = self.labels(path, frames)
            if labels is not None:
                hidden |= labels != 0
        return hidden


def _find(storage: Storage) -> dict[str, str]:
    """The videos that are there, by name, with their folders."""
    found = {}
    for name in storage.names():
        if _SEQUENCE.fullmatch(name):
            found[name] = name
        else:
            found.update((video, f"{name}/{video}") for video in storage.names(name) if _SEQUENCE.fullmatch(video))
    return found
