"""Feature files that promise, point or count too much: one line each, no memory, no other file read."""

from __future__ import annotations

import io
import resource
import struct
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from uml_cache import InputError
from uml_cache.exchange import trial
from uml_cache.exchange.formats.feature_file import read_file
from uml_cache.exchange.formats.numpy_files import read_array, read_member
from uml_cache.exchange.importing import import_features

GIGABYTE = 1 << 30


@contextmanager
def little_memory() -> Iterator[None]:
    """2 GB of addresses beside what is in use: who takes a promise at its word gets a MemoryError."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + 2 * GIGABYTE, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def refused(path: Path, words: str) -> None:
    with ExitStack() as stack, pytest.raises(InputError, match=words) as error:
        read_file(path, stack)
    assert "\n" not in str(error.value)


def header(shape: str, dtype: str = "<f4") -> bytes:
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}}}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


@pytest.mark.parametrize(
    "shape", ["(1000000000000, 4)", "(4, 1000000000000000000000)", "(-5, 4)", "(9,)", "('a',)"]
)
def test_npy_headers_that_promise_too_much(tmp_path: Path, shape: str) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(header(shape) + bytes(32))
    with pytest.raises(InputError, match=r"broken or truncated|is broken"):
        read_array(path)
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("features.npy", path.read_bytes())
    refused(tmp_path / "x.npz", "shorter than its header says|broken")
    with pytest.raises(InputError):
        read_member(tmp_path / "x.npz", "features")


def test_objects_and_strangers_in_an_archive(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([1, "a"], object))
    with pytest.raises(InputError, match="Python objects"):
        read_array(tmp_path / "x.npy")
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.write(tmp_path / "x.npy", "features.npy")
    refused(tmp_path / "x.npz", "array 'features' holds Python objects")
    with zipfile.ZipFile(tmp_path / "y.npz", "w") as archive:
        archive.writestr("readme.txt", "no array")
    refused(tmp_path / "y.npz", "member 'readme.txt' is no array")


def test_a_zip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    rows = 40 * GIGABYTE // 4
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("features.npy", header(f"({rows}, 1)") + bytes(1 << 20))
    data = bytearray((tmp_path / "x.npz").read_bytes())
    at = data.rindex(b"PK\x01\x02")  # the directory, which says how much there is
    data[at + 24 : at + 28] = struct.pack("<I", 4_000_000_000)
    (tmp_path / "x.npz").write_bytes(data)
    with little_memory():
        refused(tmp_path / "x.npz", "announces|shorter than its header|cannot be read|takes")


def test_hdf5_reads_no_other_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"-----BEGIN PRIVATE KEY-----")
    size = secret.stat().st_size
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["x"] = np.frombuffer(secret.read_bytes(), "u1").reshape(-1, 1)
        file["inside/x"] = file["x"][()]
    layout = h5py.VirtualLayout((size, 1), "u1")
    layout[:] = h5py.VirtualSource(other, "x", (size, 1))

    def raw(file: h5py.File) -> None:
        file.create_dataset("features", shape=(size, 1), dtype="u1", external=[(str(secret), 0, size)])

    def virtual(file: h5py.File) -> None:
        file.create_virtual_dataset("features", layout)

    def link(file: h5py.File) -> None:
        file["features"] = h5py.ExternalLink(str(other), "/x")

    def soft_through_a_link(file: h5py.File) -> None:
        file["elsewhere"] = h5py.ExternalLink(str(other), "/inside")
        file["features"] = h5py.SoftLink("/elsewhere/x")

    for make in (raw, virtual, link, soft_through_a_link):
        path = tmp_path / f"{make.__name__}.h5"
        with h5py.File(path, "w") as file:
            make(file)
        words = "lie in other files" if make in (raw, virtual) else "leads nowhere, or to another file"
        with pytest.raises(InputError, match=words):
            import_features([path], tmp_path / "feats", dataset="d", modality="image", encoder="e")


def test_links_inside_a_file_are_followed(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["deep/values"] = np.ones((3, 2), "f4")
        file["features"] = h5py.SoftLink("/deep/values")
        file["gone"] = h5py.SoftLink("/nope")
        file["round"] = h5py.SoftLink("/round")
        file["deep/up"] = file["/"]  # a hard link to the root
    refused(tmp_path / "x.h5", "lead in a circle|nested")
    with h5py.File(tmp_path / "x.h5", "a") as file:
        del file["deep/up"]
    with ExitStack() as stack:
        assert set(read_file(tmp_path / "x.h5", stack)) == {"deep", "features"}


def _huge(file: h5py.File) -> None:
    file.create_dataset("features", shape=(10**15, 4), dtype="f4", chunks=(1024, 4))


def _filtered(file: h5py.File) -> None:
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_chunk((4, 4))
    plan.set_filter(h5py.h5z.FILTER_DEFLATE, h5py.h5z.FLAG_OPTIONAL, (1,))
    plan.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, ())
    space = h5py.h5s.create_simple((4, 4))
    h5py.h5d.create(file.id, b"features", h5py.h5t.IEEE_F32LE, space, plan)


@pytest.mark.parametrize(("make", "words"), [(_huge, "header announces"), (_filtered, "not installed")])
def test_hdf5_that_promises_what_it_cannot_give(
    tmp_path: Path, make: Callable[[h5py.File], None], words: str
) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        make(file)
    with little_memory():
        refused(tmp_path / "x.h5", words)


def test_hdf5_types_that_numpy_lacks_are_left_out(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["features"] = np.ones((3, 2), "f4")
        space = h5py.h5s.create_simple((3,))
        h5py.h5d.create(file.id, b"time", h5py.h5t.UNIX_D32LE, space)
        file["empty"] = h5py.Empty("f4")
        file["references"] = np.array([file.ref] * 3, h5py.ref_dtype)
    with ExitStack() as stack:
        assert set(read_file(tmp_path / "x.h5", stack)) == {"features"}


def test_tensors_larger_than_their_values(tmp_path: Path) -> None:
    torch.save({"features": torch.ones(1).expand(10**9, 100)}, tmp_path / "x.pth")
    with little_memory():
        refused(tmp_path / "x.pth", "larger than the values")
    torch.save({"features": torch.ones(1, 4).expand(5, 4)}, tmp_path / "y.pth")
    with ExitStack() as stack:
        assert read_file(tmp_path / "y.pth", stack)["features"].shape == (5, 4)


def test_sparse_tensors_whose_indices_leave_them(tmp_path: Path) -> None:
    tensor = torch.sparse_coo_tensor(torch.tensor([[0, 10**6]]), torch.ones(2), (4,), check_invariants=False)
    torch.save({"features": tensor}, tmp_path / "x.pth")
    refused(tmp_path / "x.pth", "cannot be read|is broken")
    huge = torch.sparse_coo_tensor(torch.tensor([[0], [0]]), torch.ones(1), (10**9, 10**6))
    torch.save({"features": huge}, tmp_path / "y.pth")
    with little_memory():
        refused(tmp_path / "y.pth", "of memory")


def test_one_label_makes_no_thousand_million_classes(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, features=np.zeros((3, 2), "f4"), label=np.array([0, 1, 10**9]))
    with little_memory():
        store = import_features([path], tmp_path / "feats", dataset="d", modality="image", encoder="e")
    assert len(store.plan.classes) == 3
    names = np.array(["a", "b"])
    np.savez(path, features=np.zeros((3, 2), "f4"), label=np.array([0, 1, 10**9]), classes=names)
    with pytest.raises(InputError, match="1000000000 occurs, and there are 2 class names"):
        import_features([path], tmp_path / "more", dataset="d", modality="image", encoder="e")


def _whole(kind: str) -> bytes:
    features, labels = np.arange(24, dtype="f4").reshape(6, 4), np.arange(6) % 3
    stream = io.BytesIO()
    if kind == "npy":
        np.save(stream, features)
    elif kind == "npz":
        np.savez_compressed(stream, features=features, labels=labels, ids=np.array(list("abcdef")))
    elif kind == "h5":
        with h5py.File(stream, "w") as file:
            file.create_dataset("features", data=features, compression="gzip", chunks=(2, 4))
            file["labels"] = labels
            file["ids"] = list("abcdef")
    elif kind == "pth":
        torch.save({"features": torch.from_numpy(features), "labels": torch.from_numpy(labels)}, stream)
    elif kind == "safetensors":
        from safetensors.numpy import save

        stream.write(save({"features": features, "labels": labels}))
    else:
        pytest.importorskip("pyarrow")
        import pyarrow
        import pyarrow.parquet

        table = pyarrow.table({"features": list(features), "label": labels, "id": list("abcdef")})
        pyarrow.parquet.write_table(table, stream)
    return stream.getvalue()


def mutated(data: bytes, generator: np.random.Generator) -> bytes:
    """Cut off, zeroed in part, doubled in part, or with a few bytes that are others."""
    kind = generator.integers(4)
    at, end = sorted(generator.integers(0, len(data) + 1, 2).tolist())
    if kind == 0:
        return data[:at]
    if kind == 1:
        return data[:at] + bytes(end - at) + data[end:]
    if kind == 2:
        return data[:end] + data[at:]
    changed = bytearray(data)
    for place in generator.integers(0, len(data), 1 + generator.integers(4)):
        changed[place] = generator.integers(256)
    return bytes(changed)


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
@pytest.mark.parametrize("kind", ["npy", "npz", "h5", "pth", "safetensors", "parquet"])
def test_broken_files_of_every_format_are_refused_or_read(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.Generator(np.random.Philox(sum(kind.encode())))
    whole, path, good = _whole(kind), tmp_path / f"x.{kind}", 0
    said: list[str] = []
    monkeypatch.setattr(trial, "PATIENCE", 1.0)
    with little_memory():
        for at in range(60):
            path.write_bytes(mutated(whole, generator) if at else whole)
            out = tmp_path / f"feats{at}"
            try:
                import_features([path], out, dataset="d", modality="image", encoder="e")
                good += 1
            except InputError as error:
                said.append(str(error))
    assert all("\n" not in line and len(line) < 1000 for line in said)
    assert 1 <= good < 60
