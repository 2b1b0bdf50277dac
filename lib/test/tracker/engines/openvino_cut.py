"""Graphs as OpenVINO computes them best: first layers in a model of their own, in fp32, since bf16 would spoil them.

A backbone for small processors begins with a convolution and a depthwise one. Kernels of the latter look for edges:
weights of up to 18 that add up to almost nothing. bf16 rounds them, and the features they are laid on, by more than
what is left of their sum; everything behind adds no more to the difference to fp32 than these two layers do. They cost
little, so they stay in fp32. OpenVINO knows one precision a model. `pad_less` pays for the second model.
"""

from typing import Any

from lib.test.tracker.engines.onnx import package


def first_layers(model: Any) -> list[Any]:
    """The operations of a graph that need fp32: up to the convolution behind a depthwise one that follows the first.

    Args:
        model: of `openvino`, its first input being the image.

    Returns:
        The last operation, then the others; nothing where the network begins otherwise.
    """
    depthwise = next((each for each in model.get_ordered_ops() if each.get_type_name() == "GroupConvolution"), None)
    if depthwise is None or depthwise.input_value(1).get_partial_shape()[1:3] != [1, 1]:  # outputs, inputs of a group
        return []
    kinds = [each.get_type_name() for each in _needed_by(depthwise)]
    if kinds.count("Convolution") != 1 or kinds.count("Parameter") != 1:
        return []
    last = _next(_next(depthwise, "Convolution"), "Add")  # its bias
    return [] if last is None else _needed_by(last)


def cut(model: Any) -> tuple[Any, Any] | None:
    """A graph in two: from the image to what `first_layers` give, and from there, with all other inputs, on.

    What is passed on is bf16, (1, H, W, C): the order in which convolutions have it, so that nothing is copied.

    Args:
        model: of `openvino`, its sizes fixed; it is used up.

    Returns:
        Both models; None where there are no such layers, or where they are quantised.
    """
    found = first_layers(model)
    if not found or any(each.get_type_name() == "FakeQuantize" for each in found):
        return None
    openvino = package("openvino", "the engine openvino")
    operations, border = openvino.opset13, found[0].output(0)
    users = list(border.get_target_inputs())
    result = operations.convert(operations.transpose(border, [0, 2, 3, 1]), "bf16")
    passed = operations.parameter(result.get_output_partial_shape(0), openvino.Type.bf16)
    feature = operations.transpose(operations.convert(passed, "f32"), [0, 3, 1, 2])
    for user in users:
        user.replace_source_output(feature.output(0))
    image, *others = model.get_parameters()
    return openvino.Model([result], [image]), openvino.Model(model.get_results(), [passed, *others])


def pad_less(model: Any) -> None:
    """Let convolutions pad less before, in place of dropping the first row and column of what they give.

    EfficientNet-Lite pads less before than after, which PyTorch's convolutions cannot. Here it saves a copy, and what
    follows the convolution becomes a part of it. The function stays the same.

    Args:
        model: of `openvino`, changed in place.
    """
    for columns in [each for each in model.get_ordered_ops() if _drops(each, 3)]:
        rows = columns.input_value(0).get_node()
        bias = rows.input_value(0).get_node()
        convolution = bias.input_value(0).get_node()
        if not _drops(rows, 2) or bias.get_type_name() != "Add" or "Convolution" not in convolution.get_type_name():
            continue
        about = convolution.get_attributes()
        before = [pad - stride for pad, stride in zip(about["pads_begin"], about["strides"], strict=True)]
        alone = all(len(each.output(0).get_target_inputs()) == 1 for each in (rows, bias))
        if not alone or min(before) < 0:
            continue
        convolution.set_attribute("pads_begin", before)
        for user in columns.output(0).get_target_inputs():
            user.replace_source_output(bias.output(0))
    model.validate_nodes_and_infer_types()


def _drops(node: Any, axis: int) -> bool:
    """Whether an operation drops the first of an axis and nothing else."""
    if node.get_type_name() != "Slice" or len(node.inputs()) != 5:
        return False
    given = [value.get_node() for value in node.input_values()[1:]]
    if any(each.get_type_name() != "Constant" for each in given):
        return False
    start, stop, step, axes = (each.get_data().tolist() for each in given)
    return (start, step, axes) == ([1], [1], [axis]) and stop[0] >= 2**31 - 1


def _needed_by(node: Any) -> list[Any]:
    """An operation, then all that it is computed from."""
    found, open_ = {}, [node]
    while open_:
        each = open_.pop()
        if each.get_friendly_name() not in found:
            found[each.get_friendly_name()] = each
            open_ += [value.get_node() for value in each.input_values()]
    return list(found.values())


def _next(node: Any, kind: str) -> Any:
    """The next operation of a kind, as long as each has one user; None where there is none."""
    while node is not None:
        users = [each.get_node() for each in node.output(0).get_target_inputs()]
        users = [each for each in users if each.get_type_name() != "ShapeOf"]
        node = users[0] if len(users) == 1 else None
        if node is not None and node.get_type_name() == kind:
            return node
    return None
