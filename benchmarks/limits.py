"""How near a tracked frame comes to what the processor can do: OpenVINO, by precision.

`search` is the milliseconds of the network's search. `floor` is those of its matrix products alone: of each size in its
graph (a convolution is the product of as many multiplications), measured one by one, in the type that the layer
computes in. Depthwise convolutions, norms, softmax and additions count nothing in it, so no network reaches it.
`outside` is what else `track` does. All are the least of a round, and of these the median. `difference (px)` to fp32 is
the mean over real frames of the largest of a box's four numbers.

python benchmarks/limits.py [--variants stark_s:baseline …] [--precisions fp32 bf16 int8] [--clips folder:PATH]
"""

import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from easydict import EasyDict

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measuring import benchmark_parser, clip_frames, known_variant, report
from benchmarks.tracking import BOX, VARIANTS, make_engine, make_network
from lib.test.tracker.engines import Engine
from lib.test.tracker.engines.openvino import INT8_SUFFIX, compiled, hint_of, openvino, read_model
from lib.test.tracker.export import PIXELS, clips_of, compare_engines
from lib.test.tracker.stark import BoxEngine, StarkTracker
from lib.utils.errors import UserError, run_command
from lib.utils.graph_files import SEARCH

_BURST = 9  # frames a round


class Product(NamedTuple):
    """`batch` products of (m, k) by (k, n)."""

    batch: int
    m: int
    k: int
    n: int
    constant: bool  # whether the second one is weights
    int8: bool


def products(path: Path) -> Counter[Product]:
    """The matrix products in a graph, and how many there are of each size."""
    model = read_model(path)
    model.reshape({each: [1, *each.partial_shape[1:]] for each in model.inputs})
    found: Counter[Product] = Counter()
    for each in model.get_ordered_ops():
        kind = each.get_type_name()
        if kind not in ("MatMul", "Convolution"):
            continue
        (left, right), out = (list(each.input(i).get_shape()) for i in (0, 1)), list(each.output(0).get_shape())
        sources = [each.input_value(i).get_node().get_type_name() for i in (0, 1)]
        int8 = "FakeQuantize" in sources[0]
        if kind == "Convolution":
            found[Product(1, int(np.prod(out[2:])), int(np.prod(right[1:])), right[0], True, int8)] += 1
        else:
            inner = left[-2] if each.get_attributes()["transpose_a"] else left[-1]
            weights = len(right) == 2
            rows, batch = (int(np.prod(out[:-1])), 1) if weights else (out[-2], int(np.prod(out[:-2])))
            found[Product(batch, rows, inner, out[-1], weights, int8)] += 1
    return found


def product_request(product: Product, hint: str, threads: int) -> Any:
    """What infers one product and nothing else; its operands and its result have the type that the layer computes in.

    So it is not slowed down by a conversion that a network does once for many layers, or within the layer before.
    """
    operations, ov = openvino().opset13, openvino()
    batch, m, k, n, constant, int8 = product
    types = (ov.Type.u8, ov.Type.i8) if int8 else (getattr(ov.Type, hint),) * 2
    shapes = [batch, m, k], [k, n] if constant else [batch, k, n]
    factors = [operations.parameter(shape, each) for shape, each in zip(shapes, types, strict=True)]
    if constant:
        weights = np.random.default_rng(0).integers(-127, 127, shapes[1])
        factors[1] = operations.constant(weights.astype(np.int8 if int8 else np.float32))
    inputs = factors[: 1 if constant else 2]
    scaled = [operations.multiply(operations.convert(x, "f32"), np.float32(1 / 64)) for x in factors]
    result = operations.matmul(*(scaled if int8 else [operations.convert(x, "f32") for x in factors]), False, False)
    if int8:
        result = operations.fake_quantize(result, *map(np.float32, (0, 255, 0, 255)), 256)
    request = compiled(ov.Model([operations.convert(result, types[0])], inputs), hint, threads)
    for place in range(len(inputs)):
        request.get_input_tensor(place).data[:] = 1  # the memory as it comes may hold denormal numbers, which are slow
    return request


def floor(requests: list[tuple[Any, int]]) -> float:
    """Seconds of all products, one after the other; the least of five runs of each."""
    total = 0.0
    for request, count in requests:
        runs = []
        for _ in range(6):
            start = time.perf_counter()
            request.infer()
            runs.append(time.perf_counter() - start)
        total += min(runs[1:]) * count
    return total


def timed(engine: Engine, seconds: list[float]) -> Engine:
    """The engine, which notes the seconds of each search."""

    def search(*given: np.ndarray) -> list[np.ndarray]:
        start = time.perf_counter()
        found = engine.search(*given)
        seconds.append(time.perf_counter() - start)
        return found

    return replace(engine, search=search)


def burst(tracker: StarkTracker, frames: list[np.ndarray], seconds: list[float]) -> Iterator[tuple[float, float]]:
    """Seconds of the search, and of what else a frame needs."""
    for frame in frames:
        seconds.clear()
        tracker.state = list(BOX)
        start = time.perf_counter()
        tracker.track(frame)
        yield seconds[0], time.perf_counter() - start - sum(seconds)


def measure(variant: str, precisions: list[str], threads: int, rounds: int, clips: str | None, folder: Path) -> list:
    """One row a precision of one variant."""
    (model, cfg), frames, rows = make_network(variant), clip_frames(_BURST, 1280, 720), []
    reference = make_engine("openvino", model, cfg, folder, "fp32")
    for precision in precisions:
        engine, seconds = make_engine("openvino", model, cfg, folder, precision), []
        graph = folder / (f"search{INT8_SUFFIX}" if precision == "int8" else SEARCH)
        sizes, hint = products(graph), hint_of(precision)
        requests = [(product_request(each, hint, threads), count) for each, count in sizes.items()]
        tracker = StarkTracker(BoxEngine(timed(engine, seconds)), cfg)
        tracker.lost_below = 0.0
        tracker.initialize(frames[0], {"init_bbox": BOX})
        tracker.templates *= engine.regions.templates
        found = []
        for _ in range(rounds):
            found.append((*np.min(list(burst(tracker, frames, seconds))[2:], axis=0), floor(requests)))
        search, outside, least = (1e3 * np.median(found, axis=0)).tolist()
        row = {"variant": variant, "precision": precision, "GMAC": multiplications(sizes) / 1e9, "search (ms)": search}
        row |= {"floor (ms)": least, "ratio": search / least, "outside (ms)": outside}
        rows.append(row | {"difference (px)": difference(reference, engine, cfg, clips)})
    return rows


def multiplications(sizes: Counter[Product]) -> int:
    """Of all products."""
    return sum(each.batch * each.m * each.k * each.n * count for each, count in sizes.items())


def difference(reference: Engine, engine: Engine, cfg: EasyDict, clips: str | None) -> float:
    """Mean difference of boxes in pixels."""
    return float(np.mean(compare_engines(reference, engine, cfg, clips_of(clips))[PIXELS]))


def main() -> None:
    """Measure each variant; print the table and save it."""
    parser = benchmark_parser(__doc__, rounds=5)
    parser.add_argument("--variants", nargs="+", type=known_variant, default=VARIANTS, metavar="TRACKER:CONFIG")
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16", "int8"])
    parser.add_argument("--clips", help="test set to compare boxes on, as folder:PATH; default: the clips of a package")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    rows, precisions = [], []
    for precision in given.precisions:
        try:
            hint_of(precision)
            precisions.append(precision)
        except UserError as error:
            print(f"left out: {error}")
    for variant in given.variants:
        with tempfile.TemporaryDirectory() as folder:
            rows += measure(variant, precisions, given.threads, given.rounds, given.clips, Path(folder))
        report(f"Limits of tracking on {given.threads} threads, OpenVINO, frames of 1280x720", rows, given.output)


if __name__ == "__main__":
    run_command(main)
