"""Tracking with a STARK network (section 3 of the paper): the predicted box is the result, without post-processing."""

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from easydict import EasyDict

from ...config import option
from ...data.images import Picture, cut_picture, to_rgb8
from ...utils.crop import Region, box_to_image, clip_box, region_of, shows_nothing
from ...utils.errors import UserError
from ...utils.graph_files import joined
from .engines import Engine

# A dynamic template is replaced only by a frame in which the object is more likely there than not.
UPDATE_THRESHOLD = 0.5
# A wider look must be surer by this much: it shows more objects that look like the one.
SURER = 0.1
# What is decoded before the last box is known is wider by this much than the region around an earlier one.
AHEAD = 1.5


@dataclass(frozen=True)
class Template:
    """A template's crop, features (1, Lt, C), and position and bias of its tokens (see `Regions.attention_inputs`)."""

    crop: np.ndarray
    feature: np.ndarray
    attention_inputs: tuple[np.ndarray, np.ndarray]


class BoxEngine:
    """Finds boxes in crops with the network of an engine."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.regions, self.name = engine, engine.regions, engine.name
        self.stride = engine.regions.stride  # pixels of a crop per cell of its features
        self.outputs = engine.regions.outputs  # names of what `search` gives

    def encode_template(self, crop: np.ndarray, mask: np.ndarray | None = None) -> Template:
        """A crop (Ht, Wt, 3) uint8 RGB for `search`; mask (Ht, Wt) bool is True on padding, None without."""
        (feature,) = self.engine.template(np.ascontiguousarray(crop)[None])
        return Template(crop, feature, self.regions.attention_inputs("template", mask))

    def search(
        self, templates: Sequence[Template], crop: np.ndarray, mask: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """Find the object in a crop (H, W, 3) uint8 RGB with its mask.

        Returns:
            `pred_boxes` (1, Nq, 4), cxcywh in fractions of the crop; and of the confidence `pred_logits` (1, Nq, 1),
            before the sigmoid, or `corner_peak` (1, Nq, 1), where the network has one of them; float32.
        """
        found = self.engine.search(*self._inputs(templates, crop, mask))
        return dict(zip(self.outputs, found, strict=True))

    def explain(
        self, templates: Sequence[Template], crop: np.ndarray, mask: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """Search, and give what the network looked at: `StarkTracker.explain`, without `region`."""
        (boxes, *_), found = self.engine.explain(*self._inputs(templates, crop, mask))
        cx, cy, w, h = box = boxes.reshape(-1, 4).mean(0)
        side = len(crop) // self.stride
        column, row = (int(value) for value in (box[:2] * side).clip(0, side - 1))
        explained = {"templates": np.stack([each.crop for each in templates]), "search": crop}
        explained["box"] = np.array([cx - w / 2, cy - h / 2, w, h]) * len(crop)
        rows = {"": np.stack(found["encoder"])[:, 0, row * side + column - side**2]}
        if "decoder" in found:
            rows["query_"] = np.stack(found["decoder"])[:, 0].mean(1)
        cells = math.isqrt(templates[0].feature.shape[1])
        for name, weights in rows.items():  # (layers, L)
            explained[f"{name}search_attention"] = weights[:, -(side**2) :].reshape(-1, side, side)
            explained[f"{name}template_attention"] = weights[:, : -(side**2)].reshape(len(weights), -1, cells, cells)
        if "corner_maps" in found:
            explained["corner_maps"] = found["corner_maps"][0].mean(1).reshape(2, side, side)
        if "centre_map" in found:
            explained["centre_map"] = found["centre_map"][0].reshape(side, side)
            explained["cell_boxes"] = found["cell_boxes"][0].reshape(side, side, 4) * len(crop)
        return explained

    def _inputs(self, templates: Sequence[Template], crop: np.ndarray, mask: np.ndarray | None) -> list[np.ndarray]:
        """What the engine's search takes."""
        inputs = [*(each.attention_inputs for each in templates), self.regions.attention_inputs("search", mask)]
        position, bias = joined(inputs)
        return [np.ascontiguousarray(crop)[None], bias, position, *(each.feature for each in templates)]


class StarkTracker:
    """Follows one object; `cfg` is the effective configuration that the network was built from.

    `update_intervals` are those of STARK-ST: for each dynamic template the frames between two chances of replacement.
    """

    def __init__(self, engine: BoxEngine, cfg: EasyDict, update_intervals: Sequence[int] = ()) -> None:
        self.engine, self.cfg, self.update_intervals = engine, cfg, update_intervals
        self.scores = "pred_logits" in engine.outputs  # whether the network learned to say how sure it is
        self.lost_below = option(cfg, "TEST.LOST_BELOW") if self.scores else 0.0
        self.frame_index = 0
        self.state: list[float] | None = None
        self.sure: list[float] | None = None  # the last box that was not lost
        self.frame_size: tuple[int, int] | None = None
        self.templates: list[Any] = []  # what the engine made of each
        # Of the look that gave the last box: templates, crop and mask; box and factor of its region.
        self.looked: tuple[list[Any], np.ndarray, np.ndarray, Sequence[float], float] | None = None

    def initialize(self, image: np.ndarray | Picture, info: Mapping) -> None:
        """Start on a frame (H, W, 3) RGB uint8 with the box `info["init_bbox"]`, xywh in pixels.

        `lib.data.images.to_rgb8` says which images are taken; of a `Picture`, only what the network sees is decoded.
        The box may reach outside. Raises UserError where it has no area, or where its crop shows no image.
        """
        image = _as_picture(image)
        try:
            box = [float(v) for v in info["init_bbox"]]
        except (KeyError, TypeError, ValueError) as error:
            raise UserError("initialize needs {'init_bbox': [x, y, w, h]} with four numbers in pixels") from error
        if len(box) != 4 or not np.isfinite(box).all() or box[2] <= 0 or box[3] <= 0:
            raise UserError(
                f"the first box {box} is not [x, y, w, h] with finite numbers and a width and height above 0"
            )
        # Nothing of the tracker changes before the template is known to serve.
        self.templates = [self._encode_template(image, box)] * (1 + len(self.update_intervals))
        self.state = self.sure = box
        self.frame_size, self.looked, self.frame_index = (image.height, image.width), None, 0

    def spawn(self) -> "StarkTracker":
        """Another object's tracker on the same network, whose weights exist once. One thread may use them at a time."""
        other = copy.copy(self)
        other.state, other.templates, other.looked = None, [], None
        return other

    def track(self, image: np.ndarray | Picture) -> dict:
        """Find the object in the next frame; where its size differs from the one before, the box is scaled with it.

        Returns:
            `target_bbox` [x, y, w, h] in pixels; `conf_score` in [0, 1], unless the head is an MLP; `conf_kind`, what
            it is: `score`, which the network learned, or `peak`, how high the maps of the corners are (STARK-S and
            Lightning: it compares frames of one sequence, and is no probability); `lost`, whether the score is below
            TEST.LOST_BELOW, where this is set.

        Raises UserError where `initialize` was not called, the image is none, or the network's box is not finite.
        """
        if self.state is None:
            raise UserError("the tracker has no object yet: call initialize(image, {'init_bbox': [x, y, w, h]}) first")
        image = _as_picture(image)
        height, width = image.height, image.width
        if self.frame_size != (height, width):
            x, y = width / self.frame_size[1], height / self.frame_size[0]
            scaled = (np.multiply(box, (x, y, x, y)) for box in (self.state, self.sure))
            self.state, self.sure = (clip_box(box, height, width) for box in scaled)
            self.frame_size = height, width
        # A long thin box, mostly outside the image, stays, moved to the image's border.
        found = self._look(image, self.state) or (clip_box(self.state, height, width), 0.0)
        if found[1] < self.lost_below:
            found = self._look_wider(image, found)
        self.state, confidence = found
        if confidence >= self.lost_below:
            self.sure = self.state
        elif confidence < 0.5 * self.lost_below:  # the guess is of no use
            self.state = self.sure
        result: dict[str, Any] = {"target_bbox": list(self.state)}
        if self.scores or "corner_peak" in self.engine.outputs:
            result |= {"conf_score": confidence, "conf_kind": "score" if self.scores else "peak"}
        if self.lost_below:
            result["lost"] = confidence < self.lost_below
        self._replace_templates(image, confidence)
        return result

    @property
    def explains(self) -> bool:
        """Whether `explain` works on this engine."""
        return self.engine.engine.explain is not None

    def explain(self) -> dict[str, np.ndarray]:
        """Run the network once more on the last frame's search region, and give what it looked at (docs/api.md).

        A frame whose region shows nothing of the image is not looked at; then it is the frame before. Raises UserError
        where no frame was tracked yet, or the engine is not `torch`.
        """
        if not self.explains:
            raise UserError(f"explain() needs the engine torch; this is {self.engine.name}")
        if self.looked is None:
            raise UserError("there is nothing to explain yet: call track(image) first")
        templates, crop, mask, around, factor = self.looked
        return self.engine.explain(templates, crop, mask) | {"region": np.array(region_of(around, factor))}

    def _look(self, image: Picture, around: Sequence[float], wider: float = 1.0) -> tuple[list[float], float] | None:
        """Run the network on the region around a box, `wider` than usual.

        Returns:
            The object's box xywh and the confidence (0 without a score); None where the region shows no image.
        """
        size, factor = self.cfg.TEST.SEARCH_SIZE, self.cfg.TEST.SEARCH_FACTOR * wider
        crop, scale, mask = self._region(image, around, factor, size)
        if shows_nothing(mask, size // self.engine.stride):
            return None
        self.looked = list(self.templates), crop, mask, around, factor
        out = self.engine.search(self.templates, crop, mask)
        box = out["pred_boxes"].reshape(-1, 4).mean(0).tolist()
        if not np.isfinite(box).all():
            raise UserError("the network's box is not finite: its weights are damaged or the training diverged")
        confidence = float(out["corner_peak"].mean()) if "corner_peak" in out else 0.0
        if self.scores:
            # The sigmoid, without overflow however far from 0.
            confidence = 0.5 * (1 + math.tanh(0.5 * float(out["pred_logits"].mean())))
        return clip_box(box_to_image(box, around, scale, size), image.height, image.width), confidence

    def prepare(self, image: Picture, box: Sequence[float]) -> None:
        """Decode what a search near a box xywh will need; another thread may do so while this one tracks."""
        factor, size = AHEAD * self.cfg.TEST.SEARCH_FACTOR, self.cfg.TEST.SEARCH_SIZE
        region = Region.around(box, factor, size, image.height, image.width)
        if region.x[0] < region.x[1] and region.y[0] < region.y[1]:
            image.part(region.x, region.y)

    def _region(
        self, image: Picture, box: Sequence[float], factor: float, size: int
    ) -> tuple[np.ndarray, float, np.ndarray]:
        """The region around a box, its scale and its mask, as `lib.utils.crop.sample_target` gives them."""
        region = Region.around(box, factor, size, image.height, image.width)
        return cut_picture(image, region), region.scale, region.mask()

    def _look_wider(self, image: Picture, found: tuple[list[float], float]) -> tuple[list[float], float]:
        """Look for a lost object at twice the distance. What is surer than what was `found` is looked at closely."""
        before = self.looked
        wide = self._look(image, self.state, wider=2.0)
        if wide is None or wide[1] < found[1] + SURER:
            self.looked = before
            return found
        box, confidence = self._look(image, wide[0]) or wide
        return box, 0.5 * (found[1] + confidence)  # it is not where it was expected

    def _replace_templates(self, image: Picture, confidence: float) -> None:
        """Replace the dynamic templates that are due, when the score says that the object is there (section 3.2)."""
        self.frame_index += 1
        due = [i for i, each in enumerate(self.update_intervals, start=1) if self.frame_index % each == 0]
        if due and confidence > UPDATE_THRESHOLD:
            template = self._encode_template(image, self.state)
            for i in due:
                self.templates[i] = template

    def _encode_template(self, image: Picture, box: list[float]) -> Any:
        """The template part of the network's input around a box xywh."""
        size = self.cfg.TEST.TEMPLATE_SIZE
        crop, _, mask = self._region(image, box, self.cfg.TEST.TEMPLATE_FACTOR, size)
        if shows_nothing(mask, size // self.engine.stride):
            raise UserError(f"box {box} lies outside the {image.width}x{image.height} image, or shows too little of it")
        return self.engine.encode_template(crop, mask)


def _as_picture(image: np.ndarray | Picture) -> Picture:
    return image if isinstance(image, Picture) else Picture(to_rgb8(image))
