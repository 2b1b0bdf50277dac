"""The trackers and engines that the page offers, and the cache of created trackers."""

import contextlib
import os
import threading
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from lib.config import load_config
from lib.config.loader import EXPERIMENTS, experiment_name
from lib.test.tracker import SCRIPTS, Tracker, create_tracker, weights_path
from lib.test.tracker.classic import CLASSIC
from lib.test.tracker.engines import ENGINES, choose_engine, engine_device
from lib.utils.checkpoint import CheckpointError
from lib.utils.errors import UserError

_CACHED = 3  # trackers in memory


@dataclass(frozen=True)
class Settings:
    """The tracker that a server was started with; as `lib.test.tracker.create_tracker` takes them."""

    tracker: str
    config: str
    checkpoint: str | None = None
    device: str = "auto"
    engine: str = "auto"


@dataclass(frozen=True)
class Choice:
    """What a person chose: a key of `Catalogue.trackers`, and an engine."""

    key: str
    engine: str


class Catalogue:
    """The trackers that may be chosen, by their names alone: nothing a page sends becomes a path.

    Args:
        settings: the tracker that comes first.

    Raises:
        UserError: there is no such tracker, configuration, engine or device.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        first = (settings.tracker, settings.config)
        if settings.tracker not in (*SCRIPTS, *CLASSIC, "still"):
            create_tracker(*first)  # says which there are
        if settings.tracker in SCRIPTS:
            load_config(SCRIPTS[settings.tracker], settings.config)
        engine_device(choose_engine(settings.engine, settings.device, "fp32"), settings.device)
        pairs = [first]
        for name, script in SCRIPTS.items():
            pairs += [(name, path.stem) for path in sorted((EXPERIMENTS / script).glob("*.yaml"))]
        pairs += [(name, name) for name in CLASSIC]
        self.trackers = {_key(*pair): pair for pair in reversed(pairs)}  # of two of one name the first

    def describe(self) -> dict:
        """Trackers, those with weights first, and engines; `missing` is the reason why one cannot be used."""
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            trackers = [self._describe(key, *pair) for key, pair in self.trackers.items()]
        first = _key(self.settings.tracker, self.settings.config)
        trackers.sort(key=lambda each: (each["key"] != first, each["missing"] != "", each["key"]))
        engines = [{"name": name, "missing": self._missing_engine(name)} for name in ENGINES]
        return {"trackers": trackers, "engines": engines, "engine": self.settings.engine}

    def make(self, choice: Choice) -> Tracker:
        """The chosen tracker, after a first step: what an engine compiles, it compiles now.

        Raises:
            UserError: it is not in the catalogue, its weights are missing, or its engine is.
        """
        if choice.key not in self.trackers or choice.engine not in ENGINES:
            raise UserError("this tracker is not offered here; reload the page")
        name, config = self.trackers[choice.key]
        checkpoint = self._checkpoint(name, config)
        try:
            weights_path(name, config, checkpoint)
        except CheckpointError as error:
            raise UserError(f"the weights of {choice.key} are missing: choose another tracker ({error})") from error
        tracker = create_tracker(name, config, checkpoint, device=self.settings.device, engine=choice.engine)
        noise = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
        tracker.initialize(noise, {"init_bbox": [40.0, 30.0, 32.0, 24.0]})
        tracker.track(noise)
        return tracker

    def _describe(self, key: str, name: str, config: str) -> dict:
        missing = ""
        try:
            weights_path(name, config, self._checkpoint(name, config))
        except UserError as error:
            missing = str(error)
        return {"key": key, "missing": missing, "engine": name in SCRIPTS}

    def _checkpoint(self, name: str, config: str) -> str | None:
        ours = (name, config) == (self.settings.tracker, self.settings.config)
        return self.settings.checkpoint if ours else None

    def _missing_engine(self, engine: str) -> str:
        try:
            engine_device(choose_engine(engine, self.settings.device, "fp32"), self.settings.device)
        except UserError as error:
            return str(error)
        return ""


class Trackers:
    """Trackers by choice. Pages and objects share the network of each, so only one may step: hold `lock` for it."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self.lock = threading.Lock()
        self._making = threading.Lock()
        self._made: OrderedDict[Choice, Tracker] = OrderedDict()

    def has(self, choice: Choice) -> bool:
        """True where `get` returns at once."""
        return choice in self._made

    def get(self, choice: Choice) -> Tracker:
        """The chosen tracker; the first call for it takes seconds. Errors as of `Catalogue.make`."""
        with self._making:
            if choice not in self._made:
                with self.lock:
                    self._made[choice] = self._catalogue.make(choice)
            self._made.move_to_end(choice)
            while len(self._made) > _CACHED:
                self._made.popitem(last=False)
            return self._made[choice]


def _key(name: str, config: str) -> str:
    config = experiment_name(config)
    return name if name == config else f"{name} {config}"
