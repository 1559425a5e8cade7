"""`onnx:FILE`: the same numbers as the network has, and nothing guessed about how pictures are prepared."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import uml
from small_world import pictures
from uml_cache import InputError
from uml_extract import load_encoder, load_recorded

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

TRANSFORM = {"size": [8, 8], "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4], "interpolation": "nearest"}


def put_network(path: Path, *, metadata: bool = False, seed: int = 0) -> np.ndarray:
    """Write pictures (B, 3, 8, 8) → features (B, 5), a linear map; returns its matrix (192, 5)."""
    from onnx import TensorProto, helper, numpy_helper

    matrix = np.random.default_rng(seed).normal(size=(192, 5)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["image"], ["flat"], axis=1),
            helper.make_node("MatMul", ["flat", "matrix"], ["features"]),
        ],
        "linear",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["B", 3, 8, 8])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["B", 5])],
        [numpy_helper.from_array(matrix, "matrix")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    if metadata:
        helper.set_model_props(model, {"uml.transform": json.dumps(TRANSFORM)})
    onnx.save(model, str(path))
    return matrix


@pytest.mark.parametrize("metadata", [False, True])
def test_numbers_of_the_network(tmp_path: Path, metadata: bool) -> None:
    file = tmp_path / "net.onnx"
    matrix = put_network(file, metadata=metadata)
    if not metadata:
        (tmp_path / "net.onnx.json").write_text(json.dumps(TRANSFORM))
    image = pictures(1)[0][0].resize((8, 8))
    found = uml.embed([image], f"onnx:{file}", cache=False, dtype="float32", progress=False)
    values = (np.asarray(image, np.float32) / 255 - np.array(TRANSFORM["mean"])) / np.array(TRANSFORM["std"])
    wanted = values.transpose(2, 0, 1).reshape(1, -1).astype(np.float32) @ matrix
    np.testing.assert_allclose(found.features, wanted, rtol=1e-4, atol=1e-4)
    assert found.encoder["name"] == "onnx:net.onnx"
    again = load_recorded(found.encoder, found.variant, name=f"onnx:{file}")
    assert again.spec.weights_digest == found.encoder["weights_digest"]
    put_network(file, metadata=metadata, seed=1)
    with pytest.raises(InputError, match="its weights"):
        load_recorded(found.encoder, found.variant, name=f"onnx:{file}")


def test_what_is_wrong_is_said_in_a_line(tmp_path: Path) -> None:
    file = tmp_path / "net.onnx"
    with pytest.raises(InputError, match="no such file"):
        load_encoder(f"onnx:{file}")
    file.write_bytes(b"nothing")
    with pytest.raises(InputError, match="cannot read it"):
        load_encoder(f"onnx:{file}")
    put_network(file)
    with pytest.raises(InputError, match="does not say how pictures are prepared"):
        load_encoder(f"onnx:{file}")
    (tmp_path / "net.onnx.json").write_text(json.dumps({**TRANSFORM, "std": [0, 1, 1]}))
    with pytest.raises(InputError, match="is no transform"):
        load_encoder(f"onnx:{file}")
    (tmp_path / "net.onnx.json").write_text(json.dumps(TRANSFORM))
    with pytest.raises(InputError, match="leave --pooling out"):
        load_encoder(f"onnx:{file}", pooling="cls")
