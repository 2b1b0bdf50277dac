"""Which of its libraries OpenVINO multiplies matrices with."""

from typing import Any

import numpy as np

# Of a row of a product; with shorter ones both libraries are as fast.
_LONG = 1024


def use_fast_products(model: Any) -> int:
    """Have long products of an `openvino.Model` in fp32 computed by what is fastest, in place; how many.

    OpenVINO leaves a product with constant weights and a bias to one library, and what has any further operation to be
    computed in the same go to another, which is a quarter faster where rows are long. So each gets an operation that
    does nothing.
    """
    import openvino.opset13 as op

    limit = float(np.finfo(np.float32).max)
    count = 0
    for node in model.get_ordered_ops():
        if not _is_long_product(node):
            continue
        targets = node.output(0).get_target_inputs()
        bias = next(iter(targets)).get_node()
        if len(targets) != 1 or bias.get_type_name() != "Add":
            continue
        users = bias.output(0).get_target_inputs()
        same = op.clamp(bias, -limit, limit)
        for user in users:
            user.replace_source_output(same.output(0))
        count += 1
    return count


def _is_long_product(node: Any) -> bool:
    if node.get_type_name() != "MatMul" or node.input_value(1).get_node().get_type_name() != "Constant":
        return False
    weights = node.input(1).get_shape()
    return len(weights) == 2 and weights[1 if node.get_attributes()["transpose_b"] else 0] >= _LONG
