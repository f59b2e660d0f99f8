"""Under which names does each Keras record bare functions that do what a layer does?

How they are read is in `operators.py`; its names of the arguments stand first, those of the Keras
second.
"""

from __future__ import annotations

from bnfix.adapters import operators
from bnfix.adapters.operators import Translation

#: How a function is read, and the names of its arguments.
Known = tuple[Translation, dict[str, str]]

#: By the symbol that the layer recorded has.
KERAS_2: dict[str, Known] = {
    **{
        name: (translation, {"x": "x", "y": "y"})
        for name, translation in {
            "__operators__.add": operators.add,
            "math.add": operators.add,
            "math.subtract": operators.subtract,
            "math.multiply": operators.multiply,
            "math.truediv": operators.divide,
            "math.divide": operators.divide,
            "math.negative": operators.negative,
            "math.maximum": operators.maximum,
            "math.minimum": operators.minimum,
            "cast": operators.same,
        }.items()
    },
    "math.add_n": (operators.add_all, {"values": "inputs"}),
    "nn.bias_add": (operators.add, {"x": "value", "y": "bias", "layout": "data_format"}),
    "nn.relu": (operators.relu, {"x": "features"}),
    "identity": (operators.same, {"x": "input"}),
    "stop_gradient": (operators.same, {"x": "input"}),
    "concat": (operators.concatenate, {"values": "values", "axis": "axis"}),
    "split": (operators.split, {"x": "value", "axis": "axis"}),
    "reshape": (operators.reshape, {"x": "tensor"}),
    "compat.v1.squeeze": (operators.reshape, {"x": "input"}),
    "expand_dims": (operators.reshape, {"x": "input"}),
    "compat.v1.transpose": (operators.transpose, {"x": "a", "order": "perm"}),
    "compat.v1.pad": (
        operators.pad,
        {"x": "tensor", "widths": "paddings", "mode": "mode", "value": "constant_values"},
    ),
    "math.reduce_mean": (operators.mean, {"x": "input_tensor", "axis": "axis"}),
    "math.reduce_max": (operators.largest, {"x": "input_tensor", "axis": "axis"}),
    "__operators__.getitem": (operators.item, {"x": "tensor", "index": "slice_spec"}),
    "compat.v1.shape": (operators.shape_only, {"x": "input"}),
    "shape": (operators.shape_only, {"x": "input"}),
    "zeros_like": (operators.shape_only, {"x": "input"}),
    "ones_like": (operators.shape_only, {"x": "input"}),
}

#: By the class of the operation; some arguments are attributes of it.
KERAS_3: dict[str, Known] = {
    **{
        name: (translation, {"x": "x1", "y": "x2"})
        for name, translation in {
            "Add": operators.add,
            "Subtract": operators.subtract,
            "Multiply": operators.multiply,
            "Divide": operators.divide,
            "TrueDivide": operators.divide,
            "Maximum": operators.maximum,
            "Minimum": operators.minimum,
        }.items()
    },
    **{
        name: (translation, {"x": "x"})
        for name, translation in {
            "Negative": operators.negative,
            "Relu": operators.relu,
            "Cast": operators.same,
            "StopGradient": operators.same,
            "Reshape": operators.reshape,
            "Squeeze": operators.reshape,
            "ExpandDims": operators.reshape,
            "ZerosLike": operators.shape_only,
            "OnesLike": operators.shape_only,
            "Shape": operators.shape_only,
        }.items()
    },
    "StopGradient": (operators.same, {"x": "variable"}),
    "Concatenate": (operators.concatenate, {"values": "xs", "axis": "axis"}),
    "Split": (operators.split, {"x": "x", "axis": "axis"}),
    "Transpose": (operators.transpose, {"x": "x", "order": "axes"}),
    "Pad": (
        operators.pad,
        {"x": "x", "widths": "pad_width", "mode": "mode", "value": "constant_values"},
    ),
    "Mean": (operators.mean, {"x": "x", "axis": "axis"}),
    "Max": (operators.largest, {"x": "x", "axis": "axis"}),
    "GetItem": (operators.item, {"x": "x", "index": "key"}),
}
