"""Alpha-Refine in 8-bit integers for the engine openvino; see `lib.test.tracker.int8`."""

from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np
from easydict import EasyDict

from lib.models.export import GraphFiles
from lib.test.tracker.engines.openvino import INT8_SUFFIX, read_model, save_model
from lib.test.tracker.int8 import Clip, load_nncf, sample_clips, spread
from lib.test.tracker.masks import openvino_mask_engine
from lib.test.tracker.refiner import Refiner
from lib.utils.errors import UserError
from lib.utils.files import locked

CROPS = 48  # that ranges are measured on, of all sequences together
_SHIFT, _SCALE = 0.15, 0.15  # of boxes, as those of a tracker are off


def calibrate_masks(
    graphs: GraphFiles,
    cfg: EasyDict,
    clips: Iterable[Clip] | None = None,
    target: GraphFiles | None = None,
    overwrite: bool = False,
) -> None:
    """Write the int8 graph of a network's search part; without clips nothing happens where it is there.

    Args: as of `lib.test.tracker.int8.calibrate`.

    Raises:
        UserError: a package is missing, the clips show too little, or the file cannot be written.
    """
    target = target or graphs
    path = target.made_of("search", INT8_SUFFIX)
    with locked(target.folder):  # of several processes that start together one calibrates
        if path.is_file() and clips is None and not overwrite:
            return
        tool = load_nncf()
        recorder = _Recorder(graphs)
        for _ in walk(Refiner(recorder, cfg), sample_clips() if clips is None else clips, CROPS):
            pass
        inputs = recorder.inputs
        print(f"calibrating masks in int8 on {len(inputs)} crops (about a minute)", flush=True)
        model = read_model(graphs.search)
        dataset, preset = tool.Dataset(inputs), tool.QuantizationPreset.MIXED
        # The one bias that it would correct is no layer's: the mask's, a single number after two products of matrices.
        plain = tool.AdvancedQuantizationParameters(disable_bias_correction=True)
        quantised = tool.quantize(model, dataset, preset=preset, subset_size=len(inputs), advanced_parameters=plain)
        save_model(quantised, path)


def walk(refiner: Refiner, clips: Iterable[Clip], crops: int) -> Iterator[np.ndarray]:
    """Masks in the first frames of clips, about boxes that are near the first one, where the object still is.

    Args:
        refiner: makes them.
        clips: sequences; of each the first box is taken.
        crops: how many masks, of all sequences together; of more sequences some are left out.

    Raises:
        UserError: there is no frame, or it cannot be read.
    """
    clips, rng, found = spread(clips, crops), np.random.default_rng(0), 0
    for frames, boxes in clips:
        box = np.asarray(boxes[0], np.float64)
        for index, frame in enumerate(islice(frames, max(1, crops // len(clips)))):
            if index == 0:
                refiner.initialize(frame, box)
            size = box[2:] * np.exp(rng.normal(0, _SCALE, 2))
            centre = box[:2] + box[2:] / 2 + rng.uniform(-_SHIFT, _SHIFT, 2) * box[2:]
            found += 1
            yield refiner.probabilities(frame, [*(centre - size / 2), *size])
    if not found:
        raise UserError("masks are made in sequences, and there is none with a frame")


class _Recorder:
    """A mask engine that keeps what the search part was given, by call, and answers with nothing."""

    name = "recorder"

    def __init__(self, graphs: GraphFiles) -> None:
        self._engine = openvino_mask_engine(graphs.template, graphs.search, "fp32")
        self.inputs: list[list[np.ndarray]] = []

    def encode_reference(self, crop: np.ndarray, box: np.ndarray) -> np.ndarray:
        return self._engine.encode_reference(crop, box)

    def segment(self, kernels: np.ndarray, crop: np.ndarray) -> np.ndarray:
        self.inputs.append([crop[None].copy(), kernels])
        return np.zeros(crop.shape[:2], np.float32)
