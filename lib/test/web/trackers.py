"""The trackers that the page offers, and the objects that they follow."""

import contextlib
import copy
import io
import threading
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from ...config.loader import EXPERIMENTS, experiment_name
from ...utils.errors import UserError
from ..tracker import SCRIPT_OF, Tracker, create_tracker, find_weights, learned_score
from ..tracker.engines import choose_engine, installed

Box = list[float]  # xywh in pixels


class Trackers:
    """Trackers with weights, by keys such as `stark_s baseline`: nothing that a page sends becomes a path.

    Args:
        name, config, checkpoint, device, engine: the tracker that comes first, as `create_tracker` takes it.

    Attributes:
        lock: pages and objects share the network of a tracker: hold it for each step.
        offered: `{"trackers", "engines", "engine"}`: keys, names, the name that comes first.

    Raises:
        UserError: the first tracker cannot be used.
    """

    def __init__(self, name: str, config: str, checkpoint: str | None, device: str, engine: str) -> None:
        self.lock = threading.Lock()
        self._first, self._checkpoint, self._device = (name, config), checkpoint, device
        self._cached = lru_cache(maxsize=3)(self._create)
        pairs = [self._first]
        for each, script in SCRIPT_OF.items():
            configs = [path.stem for path in sorted((EXPERIMENTS / script).glob("*.yaml"))]
            pairs += [(each, its_config) for its_config in configs if _has_weights(script, its_config)]
        pairs += [(each, each) for each in ("csrt", "kcf")]
        self._pairs: dict[str, tuple[str, str]] = {}
        for each, its_config in pairs:
            stem = experiment_name(its_config)
            self._pairs.setdefault(each if each == stem else f"{each} {stem}", (each, its_config))
        self.offered = {"trackers": list(self._pairs), "engines": installed(), "engine": engine}
        choose_engine(engine, device, "fp32")  # says which exist
        self.get(next(iter(self._pairs)), engine)

    def get(self, key: str, engine: str) -> Tracker:
        """A tracker; the first call for it takes seconds.

        Raises:
            UserError: it is not offered, or the engine cannot run it.
        """
        with self.lock:
            return self._cached(key, engine)

    def _create(self, key: str, engine: str) -> Tracker:
        if key not in self._pairs:
            raise UserError("this tracker is not offered here: reload the page")
        pair = self._pairs[key]
        checkpoint = self._checkpoint if pair == self._first else None
        tracker = create_tracker(*pair, checkpoint, device=self._device, engine=engine)
        # A first step: what an engine compiles, it compiles now.
        noise = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
        tracker.initialize(noise, {"init_bbox": [40.0, 30.0, 32.0, 24.0]})
        tracker.track(noise)
        return tracker


def _has_weights(script: str, config: str) -> bool:
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # which weights are found
            return bool(find_weights(script, config))
    except UserError:
        return False


@dataclass
class TrackedObject:
    """One object in a clip. Its tracker begins anew at every frame that has a drawn box.

    Attributes:
        number: of the object, from 1.
        drawn: boxes by frame, as a person drew them.
        boxes: boxes by frame, in order and without a gap from the first drawn one to `next - 1`.
        scores: confidence in [0, 1] by frame, where the tracker gives one.
        next: the frame to find it in; the tracker's state is that after frame `next - 1`.
    """

    number: int
    drawn: dict[int, Box] = field(default_factory=dict)
    boxes: dict[int, Box] = field(default_factory=dict)
    scores: dict[int, float] = field(default_factory=dict)
    next: int = 0
    _tracker: Tracker | None = None
    _choice: tuple[str, str] | None = None

    @property
    def first(self) -> int:
        """The first frame with a box; there must be one."""
        return next(iter(self.boxes))

    def covers(self, index: int) -> bool:
        """Whether it has a box in a frame."""
        return bool(self.boxes) and self.first <= index < self.next

    def draw(self, frame: int, box: Box) -> None:
        """Store a drawn box, and delete the boxes found from that frame on."""
        self._forget_from(min(frame, self.next) if self.drawn else frame)
        self.drawn[frame] = box

    def use(self, tracker: Tracker, choice: tuple[str, str]) -> bool:
        """Take a copy of a tracker, which has its own state and shares the network, if the choice has changed.

        Tracking then starts again at the first drawn box, and True is returned.
        """
        if changed := choice != self._choice:
            self._tracker, self._choice = copy.copy(tracker), choice
            self._forget_from(min(self.drawn))
        return changed

    def step(self, index: int, image: np.ndarray) -> None:
        """Find it in a frame, (H, W, 3) uint8 RGB, if that frame is its next one."""
        if index != self.next:
            return
        if index in self.drawn:
            self._tracker.initialize(image, {"init_bbox": self.drawn[index]})
            self.boxes[index] = self.drawn[index]
        else:
            result = self._tracker.track(image)
            self.boxes[index] = [float(value) for value in result["target_bbox"]]
            if (score := learned_score(result)) is not None:
                self.scores[index] = score
        self.next = index + 1

    def at(self, index: int) -> dict:
        """The message to the page about a frame in which it has a box."""
        box = [round(value, 2) for value in self.boxes[index]]
        return {"object": self.number, "box": box, "score": self.scores.get(index), "drawn": index in self.drawn}

    def _forget_from(self, frame: int) -> None:
        self.next = frame  # copies keep the dictionaries that are replaced here
        self.boxes = {index: box for index, box in self.boxes.items() if index < frame}
        self.scores = {index: score for index, score in self.scores.items() if index < frame}
