"""The trackers as the VOT toolkit starts them: a process that speaks the TraX protocol.

The toolkit shows each object as a mask, rectangle or polygon. A tracker of its own follows its bounding rectangle.
VOT2020 is answered with Alpha-Refine's mask or the filled rectangle, VOT2020-LT with the rectangle and the confidence.
"""

import copy
import os
import sys
import traceback
from collections.abc import Callable

import cv2
import numpy as np
import trax

from ...data.images import read_image
from ...utils.errors import UserError, run_command
from ...utils.workspace import REPOSITORY
from ..tracker import create_tracker, learned_score
from ..tracker.refiner import with_masks

Objects = list[tuple[trax.Region, dict]]
# Network in an entry's name -> tracker and configuration. An entry has a folder in external/vot20 or external/vot20_lt:
# `stark_st50` answers with boxes as masks, `stark_st50_ar` with Alpha-Refine's masks, `stark_st50_lt` with rectangles.
TRACKER_OF = {"s50": ("stark_s", "baseline"), "st50": ("stark_st", "baseline"), "st101": ("stark_st", "baseline_R101")}


class ObjectTrackers:
    """Follows any number of objects through one sequence, each with a copy of the tracker that shares its network.

    The answered regions are of the `kind` `trax.Region.RECTANGLE` or `trax.Region.MASK`.
    """

    def __init__(self, tracker: object, kind: str) -> None:
        self.kind, self._pristine, self._trackers = kind, tracker, []

    def update(self, image: np.ndarray, new: Objects) -> Objects:
        """Find the objects in the next frame (H, W, 3) RGB uint8, and add the `new` objects that appear in it.

        Gives region and properties of every object, in the order of their appearance; the properties hold `confidence`
        in [0, 1] where the tracker has one. A UserError where a new object has no pixel.
        """
        found = [self._answer(tracker.track(image), image) for tracker in self._trackers]
        for region, _ in new:
            tracker = copy.copy(self._pristine)
            tracker.initialize(image, {"init_bbox": box_of_region(region)})
            self._trackers.append(tracker)
            found.append((region, {}))
        return found

    def _answer(self, result: dict, image: np.ndarray) -> tuple[trax.Region, dict]:
        score = learned_score(result)
        properties = {} if score is None else {"confidence": score}
        if "mask" in result:
            return region_of_mask(result["mask"]), properties
        return region_of_box(result["target_bbox"], self.kind, image.shape[:2]), properties


def box_of_region(region: trax.Region) -> list[float]:
    """The bounding box xywh, in pixels, of a rectangle, polygon or mask; a UserError for other kinds, or no pixel."""
    if region.type == trax.Region.RECTANGLE:
        return [float(value) for value in region.bounds()]
    if region.type == trax.Region.POLYGON:
        corners = np.array(list(region))
        return [float(value) for value in (*corners.min(0), *np.ptp(corners, axis=0))]
    if region.type == trax.Region.MASK:
        (left, top), (x, y, w, h) = region.offset(), cv2.boundingRect(region.array().astype(np.uint8))
        if not w:
            raise UserError("the mask of the object is empty, so there is nothing to follow")
        return [float(left + x), float(top + y), float(w), float(h)]
    raise UserError(f"the toolkit gave a region of the kind '{region.type}'; expected a rectangle, polygon or mask")


def region_of_box(box: list[float], kind: str, image_size: tuple[int, int]) -> trax.Region:
    """The region of a box xywh, of the kind `trax.Region.RECTANGLE` or `trax.Region.MASK`.

    A mask is filled, its corners are rounded to pixels and clipped to the image (height, width).
    """
    if kind == trax.Region.RECTANGLE:
        return trax.Rectangle.create(*box)
    x, y, w, h = box
    height, width = image_size
    left, right = np.clip([round(x), round(x + w)], 0, width)
    top, bottom = np.clip([round(y), round(y + h)], 0, height)
    mask = np.zeros(image_size, bool)
    mask[top:bottom, left:right] = True
    return region_of_mask(mask)


def region_of_mask(mask: np.ndarray) -> trax.Region:
    """The region of the image's mask (H, W) bool, which may be empty."""
    pixels = mask.astype(np.uint8)
    x, y, w, h = cv2.boundingRect(pixels)
    return trax.Mask.create(np.ascontiguousarray(pixels[y : y + max(h, 1), x : x + max(w, 1)]), x, y)


def serve(load: Callable[[], object], kind: str, name: str) -> int:
    """Track until the toolkit ends the session, with the tracker that `load` gives; `kind` as of `ObjectTrackers`.

    The exit status is 2 where the tracker failed; the reason is a line in the tracker's log, and goes to the toolkit.
    """
    # The toolkit's clock starts with the greeting, so the network is loaded before it. The toolkit hears the reason of
    # a failure only after the greeting, and after its first request.
    tracker = failure = None
    try:
        tracker = load()
    except Exception as error:  # noqa: BLE001 - the toolkit's user must see every reason
        failure = error
    shapes = [trax.Region.RECTANGLE, trax.Region.POLYGON, trax.Region.MASK]
    server = trax.Server(shapes, [trax.Image.PATH], tracker_name=name, multiobject=True)
    while True:
        request = server.wait()
        if request.type == trax.TraxStatus.QUIT:
            return 0
        try:
            if failure is not None:
                raise failure
            if request.type == trax.TraxStatus.INITIALIZE:
                objects = ObjectTrackers(tracker, kind)
            image = read_image(request.image[trax.ImageChannel.COLOR].path())
            found = objects.update(image, request.objects or [])
        except Exception as error:  # noqa: BLE001 - the toolkit's user must see every reason
            line = " ".join(str(error).split())
            if not isinstance(error, UserError):
                traceback.print_exception(error)
                line = f"{type(error).__name__}: {line}"
            print(f"error: {line}", file=sys.stderr, flush=True)
            server.quit(line)
            return 2
        server.status(found)


def run_entry(name: str) -> None:
    """Serve an entry, such as `stark_st50_ar`, to the toolkit, and leave the process."""
    os.chdir(REPOSITORY)  # the toolkit chose another folder; weights lie here
    _, network, *ending = name.split("_")
    kind, dataset = (trax.Region.RECTANGLE, "VOT20LT") if ending == ["lt"] else (trax.Region.MASK, "VOT20")

    def load() -> object:
        tracker = create_tracker(*TRACKER_OF[network], dataset_name=dataset)
        return with_masks(tracker) if ending == ["ar"] else tracker

    run_command(lambda: serve(load, kind, name.upper().replace("_", "-")))
