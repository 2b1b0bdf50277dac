"""Quantisation to 8-bit integers for the engine openvino: the ranges of activations are measured on frames.

Quantisation after training (Jacob et al., CVPR 2018) by NNCF, OpenVINO's own tool.
"""

import logging
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from easydict import EasyDict

from lib.test.tracker.clips import Clip, follow, sample_clips
from lib.test.tracker.engines import graph_engine
from lib.test.tracker.engines.base import Engine, package
from lib.test.tracker.engines.openvino import INT8_SUFFIX, first_layers, read_model, save_model
from lib.utils.files import locked
from lib.utils.graph_files import SEARCH

SEARCHES = 64  # that are measured on, of all clips together


def calibrate(
    folder: Path,
    cfg: EasyDict,
    clips: Iterable[Clip] | None = None,
    target: Path | None = None,
    overwrite: bool = False,
) -> Path:
    """Write the int8 graph of the search part, unless it exists and no clips are given; returns its path.

    The template part stays as it is: it runs once, and all boxes depend on it.

    Args:
        folder: the exported graphs.
        cfg: the configuration that the network was built from.
        clips: sequences like those that will be tracked; by default `sample_clips`.
        target: folder of the int8 graph; by default that of the others.
        overwrite: write it again.

    Raises:
        UserError: a package is missing, the clips show too little, or the file cannot be written.
    """
    path = (target or folder) / f"search{INT8_SUFFIX}"
    with locked(path.parent):  # of several processes that start together one calibrates
        if path.is_file() and clips is None and not overwrite:
            return path
        nncf = load_nncf()
        engine = graph_engine("openvino", folder)
        inputs = record(engine, cfg, sample_clips() if clips is None else clips)
        print(f"calibrating int8 on {len(inputs)} search regions (about a minute)", flush=True)
        model = read_model(folder / SEARCH)
        options: dict[str, Any] = {"preset": nncf.QuantizationPreset.MIXED, "subset_size": len(inputs)}
        if engine.regions:
            in_fp32 = [each.get_friendly_name() for each in first_layers(model)]
            options |= {"model_type": nncf.ModelType.TRANSFORMER, "ignored_scope": nncf.IgnoredScope(names=in_fp32)}
        else:
            # The one bias that would be corrected is a single number after two products of matrices, no layer's.
            options["advanced_parameters"] = nncf.AdvancedQuantizationParameters(disable_bias_correction=True)
        quantised = nncf.quantize(model, nncf.Dataset(inputs), **options)
        save_model(quantised, path)
    return path


def record(engine: Engine, cfg: EasyDict, clips: Iterable[Clip]) -> list[list[np.ndarray]]:
    """The inputs of the search part when its network follows clips; errors as of `follow`."""
    inputs: list[list[np.ndarray]] = []

    def search(*given: np.ndarray) -> list[np.ndarray]:
        inputs.append([array.copy() for array in given])
        return engine.search(*given)

    for _ in follow(replace(engine, search=search), cfg, clips, SEARCHES):
        pass
    return inputs


def load_nncf() -> ModuleType:
    """The package, told to print errors alone; raises UserError where it is not installed."""
    found = package("nncf", "the precision int8")
    logging.getLogger("nncf").setLevel(logging.ERROR)
    return found
