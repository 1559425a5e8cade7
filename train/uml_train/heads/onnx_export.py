"""A head as an ONNX model, built node by node: the target's path alone, whatever it was trained beside.

Shapes: n rows (any number), D features, C classes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from uml_cache import InputError, write_atomic

if TYPE_CHECKING:
    from uml_train.heads.export import Head

_OPSET = 17
_IR = 8  # what runtimes of 2022 and later read


def write_onnx(head: Head, path: Path) -> Path:
    """Write `head` as a model with the input `features` (n, D) float32 and the output `logits` (n, C).

    Class names and the head's description are in the model's metadata.

    Raises:
        InputError: the package onnx is not installed, or the head takes tokens.
    """
    if head.blocks:
        raise InputError(
            "this head has the transformer trunk and takes sequences of tokens; ONNX export is for heads of "
            "pooled features (--trunk linear or mlp)"
        )
    try:
        from onnx import TensorProto, checker, helper, numpy_helper
    except ImportError:
        raise InputError("ONNX export needs the package onnx: pip install 'uml-cache[onnx]'") from None
    nodes: list[Any] = []
    constants: list[Any] = []

    def constant(name: str, values: Any) -> str:
        constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    x = "features"
    if head.mean is not None:
        nodes.append(helper.make_node("Sub", [x, constant("mean", head.mean)], ["centred"]))
        x = "centred"
    if head.scale is not None:
        nodes.append(helper.make_node("Div", [x, constant("scale", head.scale)], ["scaled"]))
        x = "scaled"
    if head.unit:
        # Like torch's normalize: a row of zeros stays one.
        nodes.append(helper.make_node("ReduceL2", [x], ["length"], axes=[1], keepdims=1))
        floor = constant("shortest", np.array([1e-12], dtype=np.float32))
        nodes.append(helper.make_node("Max", ["length", floor], ["divisor"]))
        nodes.append(helper.make_node("Div", [x, "divisor"], ["unit"]))
        x = "unit"
    first = "logits" if head.trunk is None else "shared"
    weight, bias = constant("weight", head.weight), constant("bias", head.bias.astype(np.float32))
    nodes.append(helper.make_node("Gemm", [x, weight, bias], [first], transB=1))
    if head.trunk is not None:
        names = ("up", "down", "output")
        up, down, output = (constant(n, part.T) for n, part in zip(names, head.trunk, strict=True))
        nodes += [
            helper.make_node("MatMul", [first, up], ["raised"]),
            helper.make_node("Relu", ["raised"], ["active"]),
            helper.make_node("MatMul", ["active", down], ["lowered"]),
            helper.make_node("Add", [first, "lowered"], ["hidden"]),
            helper.make_node("MatMul", ["hidden", output], ["logits"]),
        ]
    graph = helper.make_graph(
        nodes,
        "uml-head",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", head.features])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", len(head.classes)])],
        constants,
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR, producer_name="uml"
    )
    helper.set_model_props(model, {"classes": json.dumps(head.classes), "uml": json.dumps(head.about)})
    checker.check_model(model, full_check=True)
    write_atomic(path, model.SerializeToString())
    return path
