"""`uml cache import` and `export`: every format there and back, the formats of others, and bad files."""

from __future__ import annotations

import builtins
import json
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from uml_cache import InputError, export_features, import_features, open_features, verify
from uml_cache.cli import main
from uml_cache.exchange.table import Columns

SUFFIXES = (".h5", ".npz", ".safetensors", ".parquet")
NAMED: dict[str, Any] = {"dataset": "pets", "modality": "image", "encoder": "net"}


def _same(first: Any, second: Any) -> None:
    """Two feature sets hold the same, row by row."""
    assert (first.dataset, first.modality, first.set, first.encoder, first.variant) == (
        second.dataset, second.modality, second.set, second.encoder, second.variant
    )  # fmt: skip
    assert first.classes == second.classes
    assert first.id == second.id
    assert first.groups == second.groups
    for name in ("label", "split", "status"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    if first.info.dim is not None:
        assert first.pooled.dtype == second.pooled.dtype
        assert torch.equal(first.pooled, second.pooled)
    if first.info.token_dim is not None:
        every = np.arange(len(first))
        np.testing.assert_array_equal(first.tokens.lengths, second.tokens.lengths)
        assert torch.equal(first.tokens.packed(every)[0], second.tokens.packed(every)[0])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_whole_store_there_and_back(sealed: Any, tmp_path: Path, suffix: str) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    target = tmp_path / f"out{suffix}"
    export_features(sealed.path, target)
    store = import_features([target], tmp_path / "feats")
    assert verify(store.path).ok
    assert store.path == tmp_path / "feats" / "pets" / "image" / "hf_org_net.zarr"
    _same(open_features(sealed.path), open_features(store.path))
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == [target.name]


_TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1, max_size=8)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_store_there_and_back(make_at: Any, tmp_path_factory: Any, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("any")
    rows = data.draw(st.integers(1, 150))
    classes = data.draw(st.lists(_TEXTS, max_size=4))
    label = st.integers(-1, len(classes) - 1)
    dim = data.draw(st.sampled_from([None, 1, 5]))
    made = make_at(
        folder / "store.zarr",
        rows=rows,
        dim=dim,
        token_dim=3 if dim is None else data.draw(st.sampled_from([None, 3])),
        ids=data.draw(st.lists(_TEXTS, min_size=rows, max_size=rows, unique=True)),
        classes=classes,
        labels=np.array(data.draw(st.lists(label, min_size=rows, max_size=rows)), np.int32),
        groups=data.draw(st.one_of(st.none(), st.lists(_TEXTS, min_size=rows, max_size=rows))),
        set=data.draw(st.sampled_from([None, "vanilla"])),
        dtype=data.draw(st.sampled_from(["float16", "float32"])),
        failed=data.draw(st.sets(st.integers(0, rows - 1), max_size=3)),
    ).fill()  # fmt: skip
    suffix = data.draw(st.sampled_from(SUFFIXES))
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    export_features(made.path, folder / f"out{suffix}")
    store = import_features([folder / f"out{suffix}"], folder / "feats")
    _same(open_features(made.path), open_features(store.path))


def _arrays(rows: int = 70, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, 6)).astype(np.float32), rng.integers(0, 3, rows)


def _few_shot_files(folder: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """`shot_1-seed_1.pth` (train and val) and `test.pth`, as the reference code saves them."""
    features, labels = {}, {}
    parts: dict[str, Any] = {}
    for seed, (name, rows) in enumerate((("train", 9), ("val", 5), ("test", 80))):
        features[name], labels[name] = _arrays(rows, seed)
        parts[name] = {
            "features": torch.from_numpy(features[name]),
            "labels": torch.from_numpy(labels[name]),
            "paths": [f"./data/pets/{name}/{row % 40}.jpg" for row in range(rows)],
        }
    classes = {0: "cat", 1: "dog", 2: "owl"}
    torch.save(
        {"train": parts["train"], "val": parts["val"], "lab2cname": classes}, folder / "shot_1-seed_1.pth"
    )
    torch.save({**parts["test"], "lab2cname": classes}, folder / "test.pth")
    return features, labels


def test_pth_files_of_the_reference_code(tmp_path: Path) -> None:
    features, labels = _few_shot_files(tmp_path)
    store = import_features([tmp_path / "shot_1-seed_1.pth", tmp_path / "test.pth"], tmp_path / "f", **NAMED)
    assert verify(store.path).ok
    found = open_features(store.path)
    assert found.classes == ("cat", "dog", "owl")
    assert found.pooled.dtype == torch.float32
    for name in ("train", "val", "test"):
        rows = found.rows(name)
        np.testing.assert_array_equal(found.pooled[rows].numpy(), features[name])
        np.testing.assert_array_equal(found.label[rows], labels[name])
    assert found.id[0] == "./data/pets/train/0.jpg"
    assert found.id[14 + 40] == "./data/pets/test/0.jpg#2"  # a second view of the same path
    assert len(set(found.id)) == 94


def test_pth_file_of_texts(tmp_path: Path) -> None:
    features, _ = _arrays(6)
    content = {
        "features": torch.from_numpy(features).half(),
        "labels": torch.tensor([0, 0, 1, 1, 2, 2]),
        "eot_indices": torch.arange(6),
        "prompts": {0: ["a", "b"], 1: ["c", "d"], 2: ["e", "f"]},
        "lab2cname": {0: "cat", 1: "dog", 2: "owl"},
        "cname2lab": {"cat": 0, "dog": 1, "owl": 2},
    }
    torch.save(content, tmp_path / "vanilla.pth")
    store = import_features(
        [tmp_path / "vanilla.pth"], tmp_path / "f", **{**NAMED, "modality": "text"}, set="vanilla"
    )
    found = open_features(store.path)
    assert store.path.parent.name == "text.vanilla"
    np.testing.assert_array_equal(found.pooled.numpy(), features.astype(np.float16))
    assert found.label.tolist() == [0, 0, 1, 1, 2, 2]


def test_token_features_of_the_reference_code(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(5, 7, 4)).astype(np.float32)
    lengths = np.array([7, 1, 3, 0, 5])
    torch.save(
        {"features": torch.from_numpy(values), "eot_indices": torch.from_numpy(lengths)}, tmp_path / "t.pth"
    )
    store = import_features(
        [tmp_path / "t.pth"], tmp_path / "f", **NAMED, columns=Columns(lengths="eot_indices")
    )
    found, _ = open_features(store.path).tokens.packed(np.arange(5))
    np.testing.assert_array_equal(
        found.numpy(), np.concatenate([v[:n] for v, n in zip(values, lengths, strict=True)])
    )


def test_npy_with_columns_from_files(tmp_path: Path) -> None:
    features, labels = _arrays(70)
    np.save(tmp_path / "x.npy", features)
    np.save(tmp_path / "y.npy", labels)
    (tmp_path / "ids.txt").write_text("".join(f"bird {row}\n" for row in range(70)))
    (tmp_path / "splits.txt").write_text("train\n" * 60 + "test\n" * 10)
    (tmp_path / "names.json").write_text('["robin", "canary", "owl"]')
    columns = Columns(
        labels=str(tmp_path / "y.npy"), ids=str(tmp_path / "ids.txt"), splits=str(tmp_path / "splits.txt")
    )
    store = import_features(
        [tmp_path / "x.npy"],
        tmp_path / "f",
        **NAMED,
        columns=columns,
        classes=tmp_path / "names.json",
        dtype="float16",
    )
    found = open_features(store.path)
    np.testing.assert_array_equal(found.pooled.numpy(), features.astype(np.float16))
    assert (found.classes, found.id[69]) == (("robin", "canary", "owl"), "bird 69")
    assert (found.label.tolist(), len(found.rows("test"))) == (labels.tolist(), 10)


def test_files_of_splits_and_other_names(tmp_path: Path) -> None:
    features, labels = _arrays(20)
    names = np.array(["cat", "dog", "owl"])[labels]
    np.savez_compressed(tmp_path / "a.npz", emb=features[:12], name=names[:12])
    with h5py.File(tmp_path / "b.h5", "w") as file:
        group = file.create_group("test")
        group["emb"] = features[12:].astype(np.float64)
        group["name"] = [name.encode() for name in names[12:]]
    columns = Columns(features="emb", labels="name")
    store = import_features(
        [f"val={tmp_path / 'a.npz'}", tmp_path / "b.h5"], tmp_path / "f", **NAMED, columns=columns
    )
    found = open_features(store.path)
    np.testing.assert_array_equal(found.pooled.numpy(), features)
    assert [found.classes[label] for label in found.label] == names.tolist()
    assert found.split.tolist() == [1] * 12 + [2] * 8


def test_safetensors_with_bfloat16(tmp_path: Path) -> None:
    values = torch.randn(10, 4, generator=torch.Generator().manual_seed(0)).bfloat16()
    save_file({"train.features": values, "train.labels": torch.arange(10) % 2}, tmp_path / "a.safetensors")
    store = import_features([tmp_path / "a.safetensors"], tmp_path / "f", **NAMED)
    found = open_features(store.path)
    assert torch.equal(found.pooled, values.float())
    assert (found.split == 0).all()


def test_clip_retrieval_folder(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    features, _ = _arrays(25)
    (tmp_path / "out" / "metadata").mkdir(parents=True)
    for kind in ("img_emb", "text_emb"):
        (tmp_path / "out" / kind).mkdir()
    for number, rows in (("00", range(11)), ("01", range(11, 25))):
        np.save(
            tmp_path / "out" / "img_emb" / f"img_emb_{number}.npy", features[list(rows)].astype(np.float16)
        )
        np.save(tmp_path / "out" / "text_emb" / f"text_emb_{number}.npy", -features[list(rows)])
        table = {
            "image_path": [f"/p/{r}.jpg" for r in rows],
            "caption": ["x"] * len(rows),
            "kind": ["k"] * len(rows),
        }
        parquet.write_table(
            pyarrow.table(table), tmp_path / "out" / "metadata" / f"metadata_{number}.parquet"
        )
    columns = Columns(labels="kind")
    found = open_features(import_features([tmp_path / "out"], tmp_path / "f", **NAMED, columns=columns).path)
    np.testing.assert_array_equal(found.pooled.numpy(), features.astype(np.float16))
    assert (found.id[0], found.id[24], found.classes) == ("/p/0.jpg", "/p/24.jpg", ("k",))
    texts = open_features(
        import_features([tmp_path / "out"], tmp_path / "f", **{**NAMED, "modality": "text"}).path
    )
    np.testing.assert_array_equal(texts.pooled.numpy(), -features)
    (tmp_path / "out" / "metadata" / "metadata_01.parquet").unlink()
    with pytest.raises(InputError, match=r"metadata_01\.parquet is missing"):
        import_features([tmp_path / "out"], tmp_path / "f", **NAMED)


def test_the_same_import_again_and_another(tmp_path: Path) -> None:
    features, labels = _arrays(70)
    np.savez(tmp_path / "a.npz", features=features, labels=labels)
    first = import_features([tmp_path / "a.npz"], tmp_path / "f", **NAMED)
    again = import_features([tmp_path / "a.npz"], tmp_path / "f", **NAMED)
    assert first.fingerprint == again.fingerprint
    features[69, 5] += 1
    np.savez(tmp_path / "a.npz", features=features, labels=labels)
    with pytest.raises(InputError, match="made with other settings"):
        import_features([tmp_path / "a.npz"], tmp_path / "f", **NAMED)


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return builtins.exec, (f"open({str(_Evil.mark)!r}, 'w').close()",)

    mark = Path()


def _evil_files(folder: Path) -> list[Path]:
    evil = np.array([_Evil(), _Evil()], dtype=object)
    torch.save({"features": torch.zeros(2, 2), "labels": _Evil()}, folder / "new.pth")
    torch.save(_Evil(), folder / "old.pth", _use_new_zipfile_serialization=False)
    np.save(folder / "objects.npy", evil, allow_pickle=True)
    np.savez(folder / "objects.npz", features=evil)
    for name in ("raw.npy", "raw.npz", "raw.pth", "raw.pt", "raw.h5", "raw.safetensors"):
        (folder / name).write_bytes(pickle.dumps({"features": _Evil()}))
    return sorted(folder.glob("*.*"))


def test_a_malicious_pickle_executes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad").mkdir()
    _Evil.mark = tmp_path / "executed"
    files = _evil_files(tmp_path / "bad")
    assert len(files) == 10
    for file in files:
        code, out, err = _uml(capsys, "import", file, "--out", tmp_path / "f", *_NAMED)
        assert (code, out) == (2, ""), file
        assert err.startswith("error: "), file
        assert len(err.splitlines()) == 1, file
        assert not _Evil.mark.exists(), file
    assert not (tmp_path / "f").exists()
    with pytest.raises(ValueError):  # numpy's own refusal; with pickles allowed the mark would appear
        np.load(tmp_path / "bad" / "objects.npy")
    np.load(tmp_path / "bad" / "objects.npy", allow_pickle=True)
    assert _Evil.mark.exists()


_NAMED = ("--dataset", "pets", "--modality", "image", "--encoder", "net")


def _uml(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as leaving:
        main(["cache", *map(str, arguments)])
    captured = capsys.readouterr()
    return int(leaving.value.code or 0), captured.out, captured.err


def _bad(folder: Path) -> list[tuple[list[object], str]]:
    features, labels = _arrays(10)
    good = folder / "good.npz"
    np.savez(good, features=features, labels=labels, ids=np.arange(10), splits=np.zeros(10, np.uint8))

    def npz(name: str, **arrays: Any) -> Path:
        np.savez(folder / f"{name}.npz", **arrays)
        return folder / f"{name}.npz"

    nan = features.copy()
    nan[7, 2] = np.nan
    big = features.copy()
    big[3, 1] = 70_000
    (folder / "broken.npz").write_bytes(good.read_bytes()[:200])
    (folder / "broken.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(50))
    (folder / "broken.pth").write_bytes(b"PK\x03\x04" + bytes(100))
    (folder / "broken.safetensors").write_bytes(bytes(100))
    np.save(folder / "cut.npy", features)
    (folder / "cut.npy").write_bytes((folder / "cut.npy").read_bytes()[:-50])
    (folder / "three.txt").write_text("a\nb\nc\n")
    (folder / "note.md").write_text("x")
    torch.save([1, 2], folder / "list.pth")
    return [
        ([folder / "none.npz"], "does not exist"),
        ([folder / "note.md"], "unknown kind of file"),
        ([folder], "files are called broken; keep one"),
        ([folder / "broken.npz"], "truncated"),
        ([folder / "broken.h5"], "cannot be read as .h5"),
        ([folder / "broken.pth"], "broken.pth"),
        ([folder / "broken.safetensors"], "cannot be read as .safetensors"),
        ([folder / "cut.npy"], "broken or truncated"),
        ([folder / "list.pth"], "holds a list"),
        ([npz("nan", features=nan)], "features of row 7 ('7') are not finite"),
        ([npz("big", features=big), "--dtype", "float16"], "for float16; import with --dtype float32"),
        ([npz("huge", features=np.full((2, 2), 1e300))], "too large for float32"),
        ([npz("flat", features=features[0])], "have shape 6; expected samples × width"),
        ([npz("empty", features=features[:0])], "has no samples"),
        ([npz("thin", features=features[:, :0])], "no columns"),
        ([npz("words", features=np.array([["a"]]))], "expected numbers"),
        ([npz("odd", other=features)], "found no features; it holds other"),
        ([good, "--features", "featuers"], "did you mean features?"),
        ([good, "--labels", "classes"], "unknown column 'classes'"),
        ([npz("short", features=features, labels=labels[:9])], "labels has shape 9, there are 10 samples"),
        ([npz("half", features=features, labels=labels + 0.5)], "is no class index"),
        ([npz("neg", features=features, labels=labels - 5)], "is no class index"),
        ([npz("split", features=features, splits=np.full(10, 7))], "splits are train, val, test"),
        ([npz("split2", features=features, splits=np.full(10, "tset"))], "did you mean test"),
        ([good, npz("wide", features=np.zeros((2, 7)))], "differ in width"),
        ([good, "--ids", folder / "three.txt"], "has 3 ids, there are 10 samples"),
        ([good, "--classes", folder / "none.txt"], "no such file of class names"),
        ([npz("many", features=features, labels=labels, classes=np.array(["a"]))], "there are 1 class names"),
        ([good, "--dtype", "float8"], "unknown storage dtype"),
        ([good, "--split", "tran"], "did you mean train"),
        ([npz("tok", tokens=features)], "not how many each sample has"),
        ([npz("tok2", tokens=features, token_lengths=np.array([4, 5]))], "add up to 9, tokens has 10 rows"),
    ]  # fmt: skip


def test_bad_files_get_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, words in _bad(tmp_path):
        code, out, err = _uml(capsys, "import", *arguments, "--out", tmp_path / "f", *_NAMED)
        assert (code, out) == (2, ""), (arguments, err)
        assert err.startswith("error: ")
        assert words in err, (words, err)
        assert len(err.splitlines()) == 1, err
    code, _, err = _uml(capsys, "import", tmp_path / "good.npz", "--modality", "image", "--encoder", "e")
    assert (code, "give --dataset" in err) == (2, True)


def test_a_failed_row_may_hold_anything(tmp_path: Path) -> None:
    features, _ = _arrays(10)
    features[4] = np.inf
    np.savez(tmp_path / "a.npz", features=features, status=np.eye(10, dtype=np.uint8)[4])
    found = open_features(import_features([tmp_path / "a.npz"], tmp_path / "f", **NAMED).path)
    assert not found.pooled[4].any()
    assert np.flatnonzero(~found.valid).tolist() == [4]


def test_mutated_files_never_give_a_traceback(tmp_path: Path, sealed: Any) -> None:
    """Damaged files: one line of `InputError`, or a store of what the bytes still say."""
    rng = np.random.default_rng(0)
    suffixes = [".npz", ".safetensors", ".h5"]
    for suffix in suffixes:
        export_features(sealed.path, tmp_path / f"whole{suffix}")
    torch.save({"features": torch.zeros(20, 4), "labels": torch.zeros(20)}, tmp_path / "whole.pth")
    refused = 0
    for number in range(160):
        suffix = [*suffixes, ".pth"][number % 4]
        content = bytearray((tmp_path / f"whole{suffix}").read_bytes())
        for at in rng.integers(0, min(len(content), 3000), rng.integers(1, 6)):
            content[at] = rng.integers(0, 256)
        if number % 3 == 0:
            del content[rng.integers(1, len(content)) :]
        damaged = tmp_path / f"damaged{suffix}"
        damaged.write_bytes(content)
        try:
            import_features([damaged], tmp_path / f"f{number}", **NAMED)
        except InputError as error:
            refused += "\n" not in str(error)
    assert refused > 80


@pytest.mark.parametrize("name", ["features", "labels"])
def test_values_that_lie_outside_of_the_file_are_one_line(tmp_path: Path, name: str) -> None:
    """HDF5 says where each array begins; a damaged place is beyond the end, and found when it is read."""
    file = tmp_path / "damaged.h5"
    with h5py.File(file, "w") as written:
        written["features"] = np.arange(80, dtype=np.float32).reshape(20, 4)
        written["labels"] = np.arange(20, dtype=np.int64) % 4
        place = written[name].id.get_offset()
    content = file.read_bytes()
    at = content.rindex(struct.pack("<Q", place))  # earlier ones are sizes by chance
    file.write_bytes(content[:at] + struct.pack("<Q", 1 << 44) + content[at + 8 :])
    with pytest.raises(InputError, match=r"damaged\.h5.* cannot be read"):
        import_features([file], tmp_path / "feats", **NAMED)


def test_export_and_its_command(sealed: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "a" / "out.npz"
    code, out, _ = _uml(capsys, "export", sealed.path, target, "--json")
    told = json.loads(out)
    assert (code, told["rows"], told["bytes"]) == (0, 300, os.path.getsize(target))
    with np.load(target) as found:
        assert found["features"].shape == (300, 32)
        assert json.loads(str(found["attributes"]))["encoder"] == sealed.plan.encoder
    for where, words in ((target, "exists; delete it first"), (tmp_path / "out.csv", "unknown kind of file")):
        code, out, err = _uml(capsys, "export", sealed.path, where)
        assert (code, out) == (2, "")
        assert words in err


def test_ids_that_no_format_keeps(maker: Callable[..., Any], tmp_path: Path) -> None:
    made = maker(rows=2, ids=["a\0", "b"]).fill()
    with pytest.raises(InputError, match="NUL"):
        export_features(made.path, tmp_path / "out.npz")


def test_parquet_without_pyarrow(sealed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"pip install 'uml-cache\[hub\]'"):
        export_features(sealed.path, tmp_path / "out.parquet")


@pytest.mark.parametrize("suffix", [".npz", ".h5", ".safetensors", ".parquet"])
def test_ids_of_tokens_come_back_as_ids(tmp_path: Path, suffix: str) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    ids, lengths = np.array([4, 0, 2, 2, 9, 1], np.int64), np.array([3, 0, 1, 2])
    np.savez(tmp_path / "ids.npz", tokens=ids, token_lengths=lengths, label=np.array([0, 1, 0, 1]))
    store = import_features([tmp_path / "ids.npz"], tmp_path / "f", **NAMED)
    assert verify(store.path).ok
    features = open_features(store.path)
    assert (features.vocabulary, features.info.dim, features.tokens.dtype) == (10, None, torch.int32)
    values, offsets = features.tokens.packed(np.arange(4))
    assert values[:, 0].tolist() == ids.tolist()
    assert np.diff(offsets).tolist() == lengths.tolist()
    export_features(store.path, tmp_path / f"out{suffix}")
    again = open_features(import_features([tmp_path / f"out{suffix}"], tmp_path / "g").path)
    assert again.encoder == features.encoder
    assert torch.equal(again.tokens.packed(np.arange(4))[0], values)


def test_ids_that_cannot_be_ids_are_refused(tmp_path: Path) -> None:
    lengths = np.array([2, 1])
    np.savez(tmp_path / "low.npz", tokens=np.array([4, -1, 2]), token_lengths=lengths)
    with pytest.raises(InputError, match="ids are numbers from 0 on"):
        import_features([tmp_path / "low.npz"], tmp_path / "f", **NAMED)
    np.savez(tmp_path / "fine.npz", tokens=np.array([4, 1, 2]), token_lengths=lengths)
    with pytest.raises(InputError, match="have no --dtype"):
        import_features([tmp_path / "fine.npz"], tmp_path / "f", **NAMED, dtype="float16")
