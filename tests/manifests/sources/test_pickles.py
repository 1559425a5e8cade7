"""Pickles of arrays are read, whoever wrote them; pickles that do anything else are refused unrun."""

from __future__ import annotations

import collections
import io
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from uml_cache.errors import InputError
from uml_manifests import read_pickle


def save(path: Path, value: Any, protocol: int = pickle.DEFAULT_PROTOCOL) -> Path:
    path.write_bytes(pickle.dumps(value, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_and_containers_of_every_protocol(tmp_path: Path, protocol: int) -> None:
    content = {
        "a": np.arange(12, dtype=np.float32).reshape(3, 4),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "big endian": np.arange(3, dtype=">i4"),
        "words": np.array(["x", "longer", "\u00e9"]),
        "bytes": np.array([b"ab", b"c"]),
        "objects": np.array([["vid", 1], [None, 2.5]], dtype=object),
        "scalar": np.float64(2.5),
        "plain": [1, 2.5, None, True, "text", b"raw", (1, {2, 3})],
        "ordered": collections.OrderedDict(b=1, a=2),
        "empty": np.zeros((0, 5)),
    }
    path = save(tmp_path / "x.pkl", content, protocol)
    found, usual = read_pickle(path), pickle.loads(path.read_bytes())
    assert list(found) == list(content)
    for name, value in content.items():
        if isinstance(value, np.ndarray):
            assert found[name].dtype == usual[name].dtype  # numpy turns big endian round
            assert type(found[name]) is np.ndarray
            np.testing.assert_array_equal(found[name], value)
        else:
            assert found[name] == value


def test_a_pickle_of_python_2(tmp_path: Path) -> None:
    # {'x': array([1, 2, 3], dtype='<i8')} as Python 2 and numpy 1 wrote it, names and all.
    data = (
        b"(dp1\nS'x'\np2\ncnumpy.core.multiarray\n_reconstruct\np3\n(cnumpy\nndarray\np4\n(I0\ntS'b'\ntRp5\n"
        b"(I1\n(I3\ntcnumpy\ndtype\np6\n(S'i8'\nI0\nI1\ntRp7\n(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbI00\n"
        b"S'\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x02\\x00\\x00\\x00\\x00\\x00\\x00\\x00"
        b"\\x03\\x00\\x00\\x00\\x00\\x00\\x00\\x00'\ntbs."
    )
    (tmp_path / "old.pkl").write_bytes(data)
    np.testing.assert_array_equal(read_pickle(tmp_path / "old.pkl")["x"], [1, 2, 3])


class _Runs:
    """A pickle that would run a command when it is loaded."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.marker}",)


class _Makes:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("kind", [_Runs, _Makes])
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_malicious_pickle_does_nothing(tmp_path: Path, kind: Any, protocol: int) -> None:
    marker = tmp_path / "marker"
    content = {"train": {"text": np.zeros((2, 3, 4)), "labels": [kind(marker)]}}
    path = save(tmp_path / "evil.pkl", content, protocol)
    with pytest.raises(InputError, match=r"is not loaded, because pickles can run code .* \(it names"):
        read_pickle(path)
    assert not marker.exists()
    pickle.loads(path.read_bytes())  # it is live: the ordinary reader runs it
    assert marker.exists()


@pytest.mark.parametrize(
    "data",
    [
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"cnumpy\nfromfile\n(S'/etc/passwd'\ntR.",
        b"cnumpy.core.multiarray\n_reconstruct\n(cbuiltins\nobject\n(I0\ntS'b'\ntR.",
        b"cnumpy\ndtype\n(cos\nsystem\ntR.",
        b"c_codecs\nencode\n(S'x'\nS'idna'\ntR.",
        b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(S'O'\ntRS'x'\ntR.",
        b"Pname\n.",
        b"cnumpy\nndarray\n((I3\ntS'b'\ntR.",
        b"cnumpy\ndtype\n(N}S'__defaults__'\nNstb.",  # sets an attribute of the reader's own function
        b"cuml_manifests.pickles\nread_pickle\n(S'x'\ntR.",
    ],
)
def test_names_that_are_not_of_arrays(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.pkl").write_bytes(data)
    with pytest.raises(InputError, match="is not loaded"):
        read_pickle(tmp_path / "x.pkl")


@pytest.mark.parametrize("content", [b"", b"not a pickle", b"\x80\x04", b"PK\x03\x04rest", b"\x80\x04\x95"])
def test_what_is_no_pickle(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.pkl").write_bytes(content)
    with pytest.raises(InputError, match=r"is no pickle|is not loaded"):
        read_pickle(tmp_path / "x.pkl")


def test_a_truncated_pickle(tmp_path: Path) -> None:
    whole = pickle.dumps({"x": np.arange(1000.0)})
    for length in (10, len(whole) // 2, len(whole) - 1):
        (tmp_path / "x.pkl").write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"is no pickle|is not loaded"):
            read_pickle(tmp_path / "x.pkl")
    with pytest.raises(InputError, match="no such file"):
        read_pickle(tmp_path / "none.pkl")
    with pytest.raises(InputError, match="a folder"):
        read_pickle(tmp_path)


def test_a_subclass_of_array_is_refused(tmp_path: Path) -> None:
    stream = io.BytesIO()
    pickle.dump(np.ma.masked_array([1.0, 2.0], mask=[True, False]), stream)
    (tmp_path / "x.pkl").write_bytes(stream.getvalue())
    with pytest.raises(InputError, match="it names numpy"):
        read_pickle(tmp_path / "x.pkl")
