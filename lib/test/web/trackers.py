"""The trackers that the page offers, and those that need weights first."""

import threading
from functools import lru_cache

import numpy as np

from ...config import EXPERIMENTS, experiment_name
from ...utils.errors import UserError
from ..tracker import SCRIPT_OF, Tracker, create_tracker, find_weights, weights_place
from ..tracker.engines import choose_engine, installed


class Trackers:
    """Trackers with weights, by keys such as `stark_s baseline`: nothing that a page sends becomes a path.

    The arguments are those of `create_tracker`, of the tracker that comes first; a UserError where it cannot be used.
    Pages and objects share the network of a tracker: hold `lock` for each step. `offered` is what a page is told: keys,
    engines, the engine that comes first; and of trackers without weights the file that is `missing`.
    """

    def __init__(self, name: str, config: str, checkpoint: str | None, device: str, engine: str) -> None:
        self.lock = threading.Lock()
        self._first, self._checkpoint, self._device = (name, config), checkpoint, device
        self._cached = lru_cache(maxsize=3)(self._create)
        pairs, missing = [self._first], []
        for each, script in SCRIPT_OF.items():
            for its_config in sorted(path.stem for path in (EXPERIMENTS / script).glob("*.yaml")):
                if _has_weights(script, its_config):
                    pairs.append((each, its_config))
                elif (each, its_config) != self._first:
                    missing.append({"tracker": f"{each} {its_config}", "file": str(weights_place(script, its_config))})
        pairs += [(each, each) for each in ("csrt", "kcf")]
        self._pairs: dict[str, tuple[str, str]] = {}
        for each, its_config in pairs:
            stem = experiment_name(its_config)
            self._pairs.setdefault(each if each == stem else f"{each} {stem}", (each, its_config))
        self.offered = {"trackers": list(self._pairs), "engines": installed(), "engine": engine, "missing": missing}
        choose_engine(engine, device, "fp32")  # says which exist
        self.get(next(iter(self._pairs)), engine)

    def get(self, key: str, engine: str) -> Tracker:
        """A tracker, which takes seconds the first time; a UserError where the engine cannot run it."""
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
        return bool(find_weights(script, config, announce=False))
    except UserError:
        return False
