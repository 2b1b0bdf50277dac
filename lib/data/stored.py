"""A data set whose files can be listed, so that they can be packed."""

from abc import abstractmethod

import numpy as np

from lib.data.base import TrackingDataset
from lib.data.picture import Picture
from lib.data.storage import Storage


class StoredDataset(TrackingDataset):
    """A data set over a storage. Its files come in groups, since there may be millions of them.

    Attributes:
        storage: where the files lie.
    """

    storage: Storage

    def keep_annotations(self) -> None:  # noqa: B027 - nothing is left to do where all is read at once
        """Read all annotations now, into a file from which they come at once the next time.

        The storage says where such files are; where it does not, nothing is kept.
        """

    @abstractmethod
    def frame_path(self, sequence: int, frame: int) -> str:
        """Storage path of one frame."""

    def image(self, sequence: int, frame: int) -> np.ndarray:
        """See `TrackingDataset.image`."""
        return self.storage.image(self.frame_path(sequence, frame))

    def picture(self, sequence: int, frame: int) -> Picture:
        """See `TrackingDataset.picture`."""
        return self.storage.picture(self.frame_path(sequence, frame))

    def source(self, sequence: int, frame: int) -> str:
        """See `TrackingDataset.source`."""
        return self.storage.locate(self.frame_path(sequence, frame))

    @abstractmethod
    def file_groups(self) -> int:
        """Number of groups of files."""

    @abstractmethod
    def files(self, group: int) -> list[str]:
        """Storage paths of one group's files, always in the same order; no file is in two groups."""
