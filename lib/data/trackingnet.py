"""TrackingNet (Müller et al., ECCV 2018): the twelve parts of its training set.

TRAIN_0/anno/<video>.txt
TRAIN_0/frames/<video>/0.jpg, 1.jpg, …
"""

import logging

from lib.data.storage import Storage
from lib.data.video import VideoDataset
from lib.utils.errors import UserError

PARTS = tuple(f"TRAIN_{part}" for part in range(12))
log = logging.getLogger(__name__)


class TrackingNet(VideoDataset):
    """Videos of those parts of TrackingNet that are there; the object is visible in all frames with a box.

    Args:
        name: as in DATA.TRAIN.DATASETS_NAME.
        storage: where the files lie.

    Raises:
        UserError: there is no annotation of any part.
    """

    def __init__(self, name: str, storage: Storage) -> None:
        videos = {part: [n for n in storage.names(f"{part}/anno") if n.endswith(".txt")] for part in PARTS}
        missing = [part for part in PARTS if not videos[part]]
        if len(missing) == len(PARTS):
            raise UserError(
                f"{name}: no annotations in {storage.locate()}: expected {PARTS[0]}/anno/<video>.txt and "
                f"{PARTS[0]}/frames/<video>/0.jpg"
            )
        if missing:
            log.warning("%s: %s not in %s: training on the other parts", name, ", ".join(missing), storage.locate())
        super().__init__(name, storage, [f"{part}/{n.removesuffix('.txt')}" for part in PARTS for n in videos[part]])

    def frames_folder(self, sequence: int) -> str:
        """See `VideoDataset.frames_folder`."""
        part, video = self.sequences[sequence].split("/")
        return f"{part}/frames/{video}"

    def annotation_file(self, sequence: int) -> str:
        """See `VideoDataset.annotation_file`."""
        part, video = self.sequences[sequence].split("/")
        return f"{part}/anno/{video}.txt"
