"""`tflite:FILE`: the same numbers as the network has, quantised or not, and nothing guessed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import uml
from small_world import pictures
from uml_cache import InputError
from uml_extract import load_encoder, load_recorded

pytest.importorskip("ai_edge_litert")

TRANSFORM = {"size": [8, 8], "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4], "interpolation": "nearest"}
SCALE, ZERO = 0.05, 3  # of the quantised input and output


def put_network(
    path: Path, *, metadata: bool = False, quantised: bool = False, first: bool = False, seed: int = 0
) -> np.ndarray:
    """Write pictures (1, 8, 8, 3), or with `first` (1, 3, 8, 8), → (1, 3); returns its matrix (3, 192).

    It has one operation, a matrix product of the flattened picture.
    """
    import flatbuffers
    from ai_edge_litert import schema_py_generated as s

    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(3, 192)).astype(np.float32)

    def tensor(name: str, shape: list[int], kind: int, buffer: int, scale: float | None = None) -> Any:
        made = s.TensorT()
        made.name, made.shape, made.type, made.buffer = name.encode(), shape, kind, buffer
        if scale is not None:
            made.quantization = s.QuantizationParametersT()
            made.quantization.scale, made.quantization.zeroPoint = [scale], [ZERO]
        return made

    def buffer(data: bytes = b"") -> Any:
        made = s.BufferT()
        made.data = np.frombuffer(data, np.uint8) if data else None
        return made

    def operator(code: int, inputs: list[int], outputs: list[int]) -> Any:
        made = s.OperatorT()
        made.opcodeIndex, made.inputs, made.outputs = code, inputs, outputs
        return made

    real, whole = s.TensorType.FLOAT32, s.TensorType.INT8
    shape = [1, 3, 8, 8] if first else [1, 8, 8, 3]
    buffers = [buffer(), buffer(matrix.tobytes()), buffer(json.dumps(TRANSFORM).encode())]
    tensors = [
        tensor("image", shape, real, 0),
        tensor("matrix", [3, 192], real, 1),
        tensor("features", [1, 3], real, 0),
    ]  # fmt: skip
    product = operator(0, [0, 1, -1], [2])
    product.builtinOptionsType, product.builtinOptions = (
        s.BuiltinOptions.FullyConnectedOptions,
        s.FullyConnectedOptionsT(),
    )
    operators, ends = [product], ([0], [2])
    codes = [s.BuiltinOperator.FULLY_CONNECTED]
    if quantised:
        tensors += [tensor("levels", shape, whole, 0, SCALE), tensor("found", [1, 3], whole, 0, 4.0)]
        codes += [s.BuiltinOperator.DEQUANTIZE, s.BuiltinOperator.QUANTIZE]
        operators = [operator(1, [3], [0]), product, operator(2, [2], [4])]
        ends = ([3], [4])
    graph = s.SubGraphT()
    graph.tensors, graph.inputs, graph.outputs, graph.operators = tensors, *ends, operators
    model = s.ModelT()
    model.version, model.subgraphs, model.buffers, model.operatorCodes = 3, [graph], buffers, []
    for code in codes:
        made = s.OperatorCodeT()
        made.builtinCode = made.deprecatedBuiltinCode = code
        made.version = 2 if code == s.BuiltinOperator.DEQUANTIZE else 1
        model.operatorCodes.append(made)
    if metadata:
        entry = s.MetadataT()
        entry.name, entry.buffer = b"uml.transform", 2
        model.metadata = [entry]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return matrix


def prepared(image: Any) -> np.ndarray:
    """(8, 8, 3) as the transform makes it."""
    values = np.asarray(image, np.float32) / 255
    return ((values - np.array(TRANSFORM["mean"])) / np.array(TRANSFORM["std"])).astype(np.float32)


@pytest.mark.parametrize("metadata", [False, True])
@pytest.mark.parametrize("first", [False, True])
def test_numbers_of_the_network(tmp_path: Path, metadata: bool, first: bool) -> None:
    file = tmp_path / "net.tflite"
    matrix = put_network(file, metadata=metadata, first=first)
    if not metadata:
        (tmp_path / "net.tflite.json").write_text(json.dumps(TRANSFORM))
    images = [one.resize((8, 8)) for one in pictures(2)[0]]
    found = uml.embed(images, f"tflite:{file}", cache=False, dtype="float32", progress=False)
    values = np.stack([prepared(one) for one in images])
    values = values.transpose(0, 3, 1, 2) if first else values
    np.testing.assert_allclose(
        found.features, values.reshape(len(images), -1) @ matrix.T, rtol=1e-4, atol=1e-4
    )
    assert found.encoder["name"] == "tflite:net.tflite"
    again = load_recorded(found.encoder, found.variant, name=f"tflite:{file}")
    assert again.spec.weights_digest == found.encoder["weights_digest"]
    put_network(file, metadata=metadata, first=first, seed=1)
    with pytest.raises(InputError, match="its weights"):
        load_recorded(found.encoder, found.variant, name=f"tflite:{file}")


def test_quantised_files_take_and_give_real_numbers(tmp_path: Path) -> None:
    file = tmp_path / "net.tflite"
    matrix = put_network(file, metadata=True, quantised=True)
    image = pictures(1)[0][0].resize((8, 8))
    found = uml.embed([image], f"tflite:{file}", cache=False, dtype="float32", progress=False)
    levels = (np.rint(prepared(image) / np.float32(SCALE)) + ZERO).clip(-128, 127)
    exact = ((levels - ZERO) * SCALE).reshape(-1) @ matrix.T
    np.testing.assert_allclose(found.features[0], exact, atol=2.0 + 1e-3)  # half a level of 4.0
    assert np.abs(exact).max() > 8.0


def test_what_is_wrong_is_said_in_a_line(tmp_path: Path) -> None:
    file = tmp_path / "net.tflite"
    with pytest.raises(InputError, match="no such file"):
        load_encoder(f"tflite:{file}")
    file.write_bytes(b"nothing")
    with pytest.raises(InputError, match="cannot read it"):
        load_encoder(f"tflite:{file}")
    put_network(file)
    with pytest.raises(InputError, match="does not say how pictures are prepared"):
        load_encoder(f"tflite:{file}")
    beside = tmp_path / "net.tflite.json"
    beside.write_text(json.dumps({**TRANSFORM, "size": [9, 8]}))
    with pytest.raises(InputError, match=r"takes \(1, 8, 8, 3\), and its transform makes pictures of 9 × 8"):
        load_encoder(f"tflite:{file}")
    beside.write_text(json.dumps(TRANSFORM))
    with pytest.raises(InputError, match="leave --pooling out"):
        load_encoder(f"tflite:{file}", pooling="cls")
    with pytest.raises(InputError, match="has no --layer"):
        load_encoder(f"tflite:{file}", layer=3)
