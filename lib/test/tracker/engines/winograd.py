"""3x3 convolutions with fewer multiplications, as operations of OpenVINO (Winograd, 1980; Lavin and Gray, CVPR 2016).

Four outputs side by side of a convolution with three weights are a product of polynomials, which is known from its
values at six points: six multiplications in place of twelve, and in two dimensions 36 in place of 144. Taking values,
and giving outputs back, is linear and the same for all channels; between, each of a tile's 36 values is one product of
matrices over the channels. Rounding errors are those of an fp32 convolution times three, and too many in fewer digits.
"""

from typing import Any

import numpy as np

# Outputs of a tile in a row, and inputs: the values at five points, and at infinity.
_OUT, _IN = 4, 6
# Rounding errors depend on them: of those tried, these make the fewest.
_POINTS = (0.0, 0.75, -0.75, 1.5, -1.5)
# Where more than this part of the multiplications is left, it is slower for what is moved about.
_WORTHWHILE = 0.45
# With fewer tiles, as of a template, reading four times the weights is what takes the time.
_LEAST_TILES = 16


def use_winograd(model: Any) -> int:
    """Replace convolutions of an `openvino.Model` with constant shapes, in place, where it saves enough; how many.

    Those have constant kernels of 3x3, stride 1, one cell of padding on each side, and a map (1, C, H, W) whose height
    and width are multiples of 4, not too few.
    """
    count = 0
    for node in model.get_ordered_ops():
        kernel = _kernel(node)
        if kernel is None or not _saves(kernel, *_shape(node)[2:]):
            continue
        made = _convolution(node.input_value(0), kernel, *_shape(node))
        made.set_friendly_name(node.get_friendly_name())
        for target in node.output(0).get_target_inputs():
            target.replace_source_output(made.output(0))
        count += 1
    return count


def matrices() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The values of 6 inputs (6, 6) and of 3 weights (6, 3), and 4 outputs from their products (4, 6), float64."""
    points = np.array(_POINTS)
    others = [points[points != point] for point in points]
    inputs = np.zeros((_IN, _IN))
    for row, roots in zip(inputs, others, strict=False):
        row[: len(roots) + 1] = np.poly(roots)[::-1]
    inputs[-1] = np.poly(points)[::-1]
    powers = points[:, None] ** np.arange(_OUT)
    weights = np.zeros((_IN, 3))
    weights[:-1] = powers[:, :3] / [[np.prod(point - roots)] for point, roots in zip(points, others, strict=True)]
    outputs = np.zeros((_OUT, _IN))
    outputs[:, :-1] = powers.T
    weights[-1, -1] = outputs[-1, -1] = 1  # at infinity
    return inputs, weights, outputs


def _kernel(node: Any) -> np.ndarray | None:
    """(groups, O, I, 3, 3) of a convolution that can be replaced."""
    if node.get_type_name() not in ("Convolution", "GroupConvolution") or node.input(0).get_partial_shape().is_dynamic:
        return None
    told = node.get_attributes()
    fixed = {"strides": [1, 1], "dilations": [1, 1], "pads_begin": [1, 1], "pads_end": [1, 1]}
    if told["auto_pad"] != "explicit" or any(list(told[key]) != value for key, value in fixed.items()):
        return None
    constant = node.input_value(1).get_node()
    batch, _, height, width = _shape(node)
    if constant.get_type_name() != "Constant" or batch != 1 or height % _OUT or width % _OUT:
        return None
    kernel = constant.get_data()
    kernel = kernel if kernel.ndim == 5 else kernel[None]
    return kernel if kernel.shape[3:] == (3, 3) and kernel.dtype == np.float32 else None


def _shape(node: Any) -> tuple[int, ...]:
    return tuple(node.input(0).get_shape())


def _saves(kernel: np.ndarray, height: int, width: int) -> bool:
    """Whether few enough multiplications are left; the matrices that take values are multiplied as full ones."""
    if height * width < _LEAST_TILES * _OUT**2:
        return False
    groups, outputs, inputs = kernel.shape[:3]
    rows, columns = (_IN * extent // _OUT for extent in (height, width))
    values = groups * (inputs + outputs) * rows * width * (height + columns)
    return rows * columns * kernel.size / 9 + values < _WORTHWHILE * height * width * kernel.size


def _convolution(x: Any, kernel: np.ndarray, batch: int, channels: int, height: int, width: int) -> Any:
    """The operations that take an output (1, C, H, W) to that of its convolution."""
    import openvino.opset13 as op

    def shaped(node: Any, *shape: int) -> Any:
        return op.reshape(node, op.constant(np.array(shape)), special_zero=False)

    def ordered(node: Any, *order: int) -> Any:
        return op.transpose(node, op.constant(np.array(order)))

    def times(matrix: np.ndarray, node: Any) -> Any:
        return op.matmul(op.constant(matrix), node, False, False)

    groups, out_channels, in_channels = kernel.shape[:3]
    rows, columns = height // _OUT, width // _OUT
    values, outputs = zip(*(_of_side(tiles) for tiles in (rows, columns)), strict=True)
    x = times(values[0], shaped(ordered(x, 0, 2, 3, 1), height, width * channels))
    x = times(values[1][None], shaped(x, _IN * rows, width, channels))
    x = shaped(x, _IN, rows, _IN, columns, groups, in_channels)
    x = shaped(ordered(x, 0, 2, 4, 1, 3, 5), _IN * _IN * groups, rows * columns, in_channels)
    x = op.matmul(x, op.constant(_values_of(kernel)), False, False)
    x = ordered(shaped(x, _IN, _IN, groups, rows, columns, out_channels), 0, 3, 1, 4, 2, 5)
    x = times(outputs[1][None], shaped(x, _IN * rows, _IN * columns, groups * out_channels))
    x = times(outputs[0], shaped(x, _IN * rows, width * groups * out_channels))
    return ordered(shaped(x, batch, height, width, groups * out_channels), 0, 3, 1, 2)


def _of_side(tiles: int) -> tuple[np.ndarray, np.ndarray]:
    """For a side of so many tiles: values (6 * tiles, 4 * tiles) of what it is padded to, and outputs from products."""
    inputs, _, outputs = matrices()
    padded = np.zeros((_IN, tiles, _OUT * tiles + 2))
    joined = np.zeros((tiles, _OUT, _IN, tiles))
    for tile in range(tiles):
        padded[:, tile, _OUT * tile : _OUT * tile + _IN] = inputs
        joined[tile, :, :, tile] = outputs
    side = _OUT * tiles
    values = padded[:, :, 1:-1].reshape(_IN * tiles, side)
    return values.astype(np.float32), joined.reshape(side, _IN * tiles).astype(np.float32)


def _values_of(kernel: np.ndarray) -> np.ndarray:
    """(36 * groups, I, O) of a kernel (groups, O, I, 3, 3)."""
    _, weights, _ = matrices()
    rows = np.tensordot(kernel.astype(np.float64), weights, (4, 1))  # groups, O, I, 3, 6
    found = np.tensordot(rows, weights, (3, 1)).transpose(4, 3, 0, 2, 1)  # 6 of rows, 6 of columns, groups, I, O
    return np.ascontiguousarray(found.reshape(-1, *found.shape[3:]), dtype=np.float32)
