"""Broken and crafted data sets of every kind: read, or refused in one line."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from uml_cache import InputError, WorkError
from uml_manifests import read_pickle, resolve_data


def _mutated(data: bytes, generator: np.random.Generator) -> bytes:
    kind = generator.integers(4)
    at, end = sorted(generator.integers(0, len(data) + 1, 2).tolist())
    if kind == 0:
        return data[:at]
    if kind == 1:
        return data[:at] + data[end:]
    if kind == 2:
        return data[:end] + data[at:]
    changed = bytearray(data)
    for place in generator.integers(0, len(data), 1 + generator.integers(4)):
        changed[place] = generator.integers(256)
    return bytes(changed)


def _tar() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for i in range(4):
            for name, data in (
                (f"{i}.txt", b"a text"),
                (f"{i}.cls", b"ab"[i % 2 : i % 2 + 1]),
                (f"{i}.json", b"{}"),
            ):
                member = tarfile.TarInfo(name + "é" * (i == 3))
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return stream.getvalue()


def _jsonl() -> bytes:
    rows = ({"id": f"i{i}", "text": f"text {i}", "label": "ab"[i % 2], "split": "train"} for i in range(6))
    return "\n".join(map(json.dumps, rows)).encode()


@pytest.mark.parametrize(
    ("name", "whole"), [("x.tar", _tar()), ("x.jsonl", _jsonl()), ("x.txt", b"one\ntwo\nthree\n")]
)
def test_broken_data_sets(tmp_path: Path, name: str, whole: bytes) -> None:
    generator = np.random.Generator(np.random.Philox(len(whole)))
    good = 0
    for at in range(150):
        (tmp_path / name).write_bytes(_mutated(whole, generator) if at else whole)
        good += _read(lambda: resolve_data(tmp_path / name, modality="text"))
    assert good >= 1


def _read(work: Callable[[], object]) -> bool:
    try:
        work()
    except (InputError, WorkError):
        return False
    return True


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("state.json", '{"_data_files": 5}'),
        ("state.json", '{"_data_files": [5]}'),
        ("state.json", '{"_data_files": [{"filename": "../data.arrow"}]}'),
        ("state.json", '{"_data_files": [{"filename": "/etc/hosts"}]}'),
        ("state.json", "[" * 100_000),
        ("dataset_info.json", '{"features": 5}'),
        ("dataset_info.json", '{"features": {"text": 5, "label": {"_type": "ClassLabel"}}}'),
        ("dataset_dict.json", '{"splits": 5}'),
        ("dataset_dict.json", "null"),
        ("data.arrow", "no arrow"),
    ],
)
def test_saved_data_sets_that_are_none(tmp_path: Path, file: str, content: str) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.table({"text": ["a b", "c d"], "label": [0, 1]})
    with (
        pyarrow.OSFile(str(tmp_path / "data.arrow"), "wb") as out,
        pyarrow.ipc.new_stream(out, table.schema) as to,
    ):
        to.write_table(table)
    names = {"names": ["x", "y"], "_type": "ClassLabel"}
    features = {"text": {"dtype": "string", "_type": "Value"}, "label": names}
    (tmp_path / "dataset_info.json").write_text(json.dumps({"features": features}))
    (tmp_path / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data.arrow"}]}))
    assert len(resolve_data(tmp_path)) == 2
    (tmp_path / file).write_text(content)
    with pytest.raises(InputError) as error:
        resolve_data(tmp_path)
    assert "\n" not in str(error.value)


def test_a_tar_that_leads_back_to_its_beginning(tmp_path: Path) -> None:
    whole = bytearray(_tar())
    second = 512 * next(at for at in range(1, 40) if whole[512 * at + 257 : 512 * at + 262] == b"ustar")
    whole[second + 124 : second + 136] = b"\xff" * 8 + (-1024 & 0xFFFFFFFF).to_bytes(4, "big")
    head = whole[second : second + 512]
    head[148:156] = b" " * 8
    whole[second + 148 : second + 156] = b"%06o\0 " % sum(head)
    (tmp_path / "x.tar").write_bytes(whole)
    with pytest.raises(InputError):
        resolve_data(tmp_path / "x.tar")


_F4 = b"cnumpy\ndtype\n(S'f4'\nI0\nI1\ntR"
_NEW = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"


@pytest.mark.parametrize(
    "data",
    [
        # an object array whose type says that it holds plain bytes
        _NEW
        + b"(I1\n(I2\ntcnumpy\ndtype\n(S'O'\nI0\nI1\ntR(I3\nS'|'\nNNNI-1\nI-1\nI0\ntbI00\nS'"
        + b"A" * 16
        + b"'\ntb.",
        # a list that is shorter than the array of objects
        _NEW + b"(I1\n(I200\ntcnumpy\ndtype\n(S'O8'\nI0\nI1\ntRI00\n(I1\nltb.",
        # fewer bytes than the shape needs
        _NEW + b"(I1\n(I200\nt" + _F4 + b"I00\nS'abcd'\ntb.",
        # a state a second time
        _NEW + b"(I1\n(I1\nt" + _F4 + b"I00\nS'abcd'\ntb(I1\n(I1\nt" + _F4 + b"I00\nS'abcd'\ntb.",
        # a type with fields, one with a date's unit, one of raw memory
        b"cnumpy\ndtype\n(S'V8'\nI0\nI1\ntR.",
        b"cnumpy\ndtype\n(S'M8[D]'\nI0\nI1\ntR.",
        b"cnumpy\ndtype\n(S'f4'\nI0\nI1\ntR(I3\nS'<'\nN(S'a'\ntNI-1\nI-1\nI0\ntb.",
        b"cnumpy\ndtype\n(S'f4,f4'\nI0\nI1\ntR.",
        # a shape that is none
        _NEW + b"(I1\n(I-4\nt" + _F4 + b"I00\nS'abcd'\ntb.",
        _NEW + b"(I1\n(I1\nI4611686018427387904\nI0\nt" + _F4 + b"I00\nS''\ntb.",
        # more bytes than the file has
        b"\x80\x05\x8e\xff\xff\xff\xff\xff\xff\xff\x7fabc.",
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x0f.",
    ],
)
def test_crafted_pickles(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.pkl").write_bytes(data)
    with pytest.raises(InputError, match=r"is not loaded|is no pickle"):
        read_pickle(tmp_path / "x.pkl")


def test_a_type_that_grows_after_its_array_was_made_changes_nothing(tmp_path: Path) -> None:
    data = (
        b"(cnumpy\ndtype\n(S'U1'\nI0\nI1\ntRp5\n0"
        + _NEW
        + b"(I1\n(I2\ntg5\nI00\nS'a\\x00\\x00\\x00b\\x00\\x00\\x00'\ntb"
        b"g5\n(I3\nS'<'\nNNNI200000\nI4\nI8\ntbl."
    )
    (tmp_path / "x.pkl").write_bytes(data)
    found = read_pickle(tmp_path / "x.pkl")
    assert found[0].dtype == np.dtype("<U1")
    assert found[0].tolist() == ["a", "b"]


def test_broken_pickles(tmp_path: Path) -> None:
    content = {
        "x": np.arange(6.0),
        "names": np.array(["a", "bc"]),
        "o": np.array([None, 1], object),
        "l": ["a", 1],
    }
    generator = np.random.Generator(np.random.Philox(5))
    good = 0
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        whole = pickle.dumps(content, protocol)
        for at in range(60):
            (tmp_path / "x.pkl").write_bytes(_mutated(whole, generator) if at else whole)
            good += _read(lambda: read_pickle(tmp_path / "x.pkl"))
    assert good > pickle.HIGHEST_PROTOCOL
