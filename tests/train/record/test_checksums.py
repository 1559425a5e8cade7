"""Records, weights and checkpoints say for themselves whether they are whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from uml_cache import InputError
from uml_train.record.checkpoint import Checkpoint
from uml_train.record.checksums import DamagedFile, read_record, record_bytes
from uml_train.record.tensors import read_tensor_file, tensor_file

_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
_HERE = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _changed(data: bytes, at: int, mask: int) -> bytes:
    at %= len(data)
    return data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :]


@_HERE
@given(st.dictionaries(st.text(min_size=1), _VALUES, min_size=1, max_size=4), st.sampled_from([None, 1]))
def test_records_come_back(tmp_path: Path, values: dict[str, Any], indent: int | None) -> None:
    values.pop("sha256", None)
    path = tmp_path / "record.json"
    path.write_bytes(record_bytes({"format": 2, **values}, indent=indent))
    assert read_record(path, "") == {"format": 2, **values}


@_HERE
@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_changed_byte_of_a_record_is_noticed(tmp_path: Path, at: int, mask: int) -> None:
    path = tmp_path / "record.json"
    values = {"format": 2, "name": "häuser", "acc": 61.25, "history": [[{"step": 1}]], "none": None}
    path.write_bytes(_changed(record_bytes(values), at, mask))
    with pytest.raises(DamagedFile, match=r"record.json is damaged .*; do this"):
        read_record(path, "do this")


def test_records_without_a_checksum_are_those_of_version_0_1(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_text('{"a": 1}')
    assert read_record(path, "", required=False) == {"a": 1}
    with pytest.raises(DamagedFile, match="its checksum is gone"):
        read_record(path, "")
    for text in ("", "[]", "{", "[" * 100_000):
        path.write_text(text)
        with pytest.raises(DamagedFile):
            read_record(path, "", required=False)


@_HERE
@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_changed_byte_of_weights_is_noticed_or_without_effect(tmp_path: Path, at: int, mask: int) -> None:
    path = tmp_path / "head.safetensors"
    about = {"classes": ["a", "b"], "unit": True, "val_acc": 50.0}
    tensors = {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.ones(2)}
    path.write_bytes(_changed(tensor_file(tensors, "uml", about), at, mask))
    try:
        arrays, found = read_tensor_file(path, "uml", "head")
    except InputError:  # which names the file
        return
    assert found == about
    assert arrays.keys() == tensors.keys()
    assert all(np.array_equal(array, tensors[name].numpy()) for name, array in arrays.items())


def test_equal_weights_are_equal_files(tmp_path: Path) -> None:
    tensors = {"b": torch.ones(2, dtype=torch.float16), "a": torch.zeros(1, 3)}
    data = tensor_file(tensors, "uml", {"of": "toy"})
    assert data == tensor_file(dict(reversed(tensors.items())), "uml", {"of": "toy"})
    (tmp_path / "x").write_bytes(data)
    arrays, about = read_tensor_file(tmp_path / "x", "uml", "head")
    assert about == {"of": "toy"}
    assert arrays["b"].dtype == np.float16
    with pytest.raises(InputError, match="x is no network"):
        read_tensor_file(tmp_path / "x", "other", "network")


@_HERE
@given(st.integers(0, 100_000), st.integers(1, 255))
def test_a_damaged_checkpoint_is_left_aside_and_said(tmp_path: Path, at: int, mask: int) -> None:
    said: list[str] = []
    checkpoint = Checkpoint(tmp_path / "network.pt", said.append)
    checkpoint.write({"step": 3, "weights": torch.ones(4)})
    found = checkpoint.read()
    assert found is not None
    assert found["step"] == 3
    checkpoint.path.write_bytes(_changed(checkpoint.path.read_bytes(), at, mask))
    assert checkpoint.read() is None
    (line,) = said
    assert line.startswith(f"{checkpoint.path} is damaged (it does not match its checksum)")
    checkpoint.remove()
    assert checkpoint.read() is None
