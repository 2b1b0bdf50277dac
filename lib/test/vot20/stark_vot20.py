"""The trackers as the VOT toolkit starts them: a process that speaks the TraX protocol.

The toolkit shows objects as masks, rectangles or polygons; each is followed as its bounding rectangle by a tracker of
its own. VOT2020 is answered with Alpha-Refine's masks or filled rectangles, VOT2020-LT with rectangles and the
confidence.
"""

import copy
import sys
import traceback
from collections.abc import Callable

import numpy as np
import trax

from lib.data.images import read_image
from lib.test.vot20.regions import box_of_region, region_of_box, region_of_mask
from lib.test.vot20.variants import VARIANTS
from lib.utils.errors import UserError, run_command

SHAPES = [trax.Region.RECTANGLE, trax.Region.POLYGON, trax.Region.MASK]
Objects = list[tuple[trax.Region, dict]]


class ObjectTrackers:
    """Follows any number of objects through one sequence.

    Args:
        tracker: as `lib.test.tracker.create_tracker` gives it; each object gets a copy that shares the network.
        kind: of the regions that are answered, `trax.Region.RECTANGLE` or `trax.Region.MASK`.
    """

    def __init__(self, tracker: object, kind: str) -> None:
        self.kind = kind
        self._pristine = tracker
        self._trackers: list = []

    def initialize(self, image: np.ndarray, objects: Objects) -> Objects:
        """Start anew on the first frame of a sequence, as `update` with no object before."""
        self._trackers = []
        return self.update(image, objects)

    def update(self, image: np.ndarray, new: Objects) -> Objects:
        """Find the objects in the next frame, and take up those that appear in it.

        Args:
            image: (H, W, 3) RGB uint8.
            new: objects that are shown for the first time, as regions with properties.

        Returns:
            Every object's region and properties, in the order in which they appeared; `confidence` in [0, 1] is among
            the properties where the tracker tells it.

        Raises:
            UserError: a new object is not to be seen in the image.
        """
        found = [self._answer(tracker.track(image), image) for tracker in self._trackers]
        for region, _ in new:
            tracker = copy.copy(self._pristine)
            tracker.initialize(image, {"init_bbox": box_of_region(region)})
            self._trackers.append(tracker)
            found.append((region, {}))
        return found

    def _answer(self, result: dict, image: np.ndarray) -> tuple[trax.Region, dict]:
        properties = {"confidence": result["conf_score"]} if "conf_score" in result else {}
        if "mask" in result:
            return region_of_mask(result["mask"]), properties
        return region_of_box(result["target_bbox"], self.kind, image.shape[:2]), properties


def serve(load: Callable[[], object], kind: str, name: str) -> int:
    """Track what the toolkit asks for until it ends the session.

    Args:
        load: makes the tracker.
        kind: of the regions that are answered, `trax.Region.RECTANGLE` or `trax.Region.MASK`.
        name: how the tracker introduces itself.

    Returns:
        The exit status: 2 where the tracker could not be made or could not go on; the toolkit was told why.
    """
    # The toolkit's clock starts with the greeting, so the network is loaded before. What goes wrong is told after it:
    # the toolkit hears reasons only from trackers that have greeted, and once it has asked for something.
    failure = None
    try:
        trackers = ObjectTrackers(load(), kind)
    except Exception as error:  # noqa: BLE001 - whatever it is, the toolkit's user shall hear of it
        failure = error
    server = trax.Server(SHAPES, [trax.Image.PATH], tracker_name=name, multiobject=True)
    if failure is not None:
        server.wait()
        return _give_up(server, failure)
    while True:
        request = server.wait()
        if request.type == trax.TraxStatus.QUIT:
            return 0
        begin = request.type == trax.TraxStatus.INITIALIZE
        try:
            image = read_image(request.image[trax.ImageChannel.COLOR].path())
            found = (trackers.initialize if begin else trackers.update)(image, request.objects or [])
        except Exception as error:  # noqa: BLE001 - whatever it is, the toolkit's user shall hear of it
            return _give_up(server, error)
        server.status(found)


def run_tracker(tracker: str, config: str, kind: str, dataset_name: str, name: str, refined: bool = False) -> None:
    """Serve a tracker of `lib.test.tracker.create_tracker` to the toolkit, and leave the process.

    Args:
        tracker, config, dataset_name: as `create_tracker` takes them.
        kind, name: as `serve` takes them.
        refined: answer with Alpha-Refine's masks.
    """

    def load() -> object:
        # Imported here since it takes seconds, and may fail for a reason that the toolkit shall hear.
        from lib.test.tracker import create_tracker

        made = create_tracker(tracker, config, dataset_name=dataset_name)
        if not refined:
            return made
        from lib.test.tracker.masks import with_masks

        return with_masks(made)

    run_command(lambda: serve(load, kind, name))


def run_variant(identifier: str) -> None:
    """Serve one of `lib.test.vot20.variants.VARIANTS` to the toolkit, and leave the process."""
    variant = VARIANTS[identifier]
    challenge = variant.challenge
    run_tracker(
        variant.tracker, variant.config, challenge.answer, challenge.dataset_name, variant.label, variant.refined
    )


def _give_up(server: trax.Server, error: Exception) -> int:
    """Tell the toolkit's user why in one line: in the log of the tracker and as the reason of its end."""
    line = " ".join(str(error).split())
    if not isinstance(error, UserError):
        traceback.print_exception(error)
        line = f"{type(error).__name__}: {line}"
    print(f"error: {line}", file=sys.stderr, flush=True)
    server.quit(line)
    return 2
