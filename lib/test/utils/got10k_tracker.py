"""The trackers for the `got10k` toolkit, whose experiments run any of its `Tracker`s."""

from pathlib import Path
from typing import Any

import numpy as np
from got10k.trackers import Tracker
from PIL import Image

from ...config import experiment_name
from ..tracker import create_tracker


class Got10kTracker(Tracker):
    """A tracker of `lib.test.tracker.create_tracker`, which describes the arguments and errors.

    `ExperimentGOT10k("data/got10k", subset="val").run(Got10kTracker("stark_s", "baseline"))`
    """

    def __init__(
        self,
        name: str,
        config: str,
        checkpoint: str | Path | None = None,
        dataset_name: str = "got10k_test",
        **how: Any,
    ) -> None:
        label = f"{name}_{experiment_name(config)}" if config else name
        # The toolkit repeats the runs of trackers that are not deterministic.
        super().__init__(name=label, is_deterministic=True)
        self._tracker = create_tracker(name, config, checkpoint, dataset_name, **how)

    def init(self, image: Image.Image, box: np.ndarray) -> None:
        """Start on an RGB frame with a box (4,) xywh in pixels."""
        self._tracker.initialize(np.asarray(image), {"init_bbox": np.asarray(box, dtype=float).tolist()})

    def update(self, image: Image.Image) -> np.ndarray:
        """Find the object in the next frame: (4,) xywh in pixels."""
        return np.array(self._tracker.track(np.asarray(image))["target_bbox"])
