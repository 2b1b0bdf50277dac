"""Training sets: what is on disk, as sequences of frames with boxes."""

from lib.train.dataset.base import SequenceInfo, TrackingDataset
from lib.train.dataset.registry import build_dataset

__all__ = ["SequenceInfo", "TrackingDataset", "build_dataset"]
