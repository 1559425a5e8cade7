"""The right value of odd folders, tars and saved data sets: nothing is guessed or lost without a count."""

from __future__ import annotations

import io
import json
import os
import tarfile
import unicodedata
from pathlib import Path

import pytest

from uml_cache import Choice, InputError
from uml_manifests import Manifest, assign_mentions, from_folder, resolve_data


def _touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


@pytest.mark.parametrize(
    ("folders", "splits"),
    [
        (["Train", "Test"], [0, 2]),
        (["train", "dev", "test"], [0, 1, 2]),
        (["val", "test"], [1, 2]),
        (["training_set", "test_set"], [0, 2]),
        (["train"], [0]),
    ],
)
def test_split_folders_are_no_classes(tmp_path: Path, folders: list[str], splits: list[int]) -> None:
    found = from_folder(
        _touch(tmp_path / "d", *(f"{one}/{c}/0.png" for one in folders for c in ("cat", "dog")))
    )
    assert found.classes == ("cat", "dog")
    assert sorted(set(found.splits.tolist())) == splits
    assert any("folders are read as splits" in remark for remark in found.remarks)


def test_what_lies_beside_split_folders_is_counted(tmp_path: Path) -> None:
    names = ["train/cat/0.png", "test/cat/0.png", "annotations/cat/0.png", "train/loose.png"]
    found = from_folder(_touch(tmp_path / "d", *names))
    assert found.ids == ["train/cat/0.png", "test/cat/0.png"]
    assert dict(found.left_out) == {
        "annotations/cat/0.png": "in annotations, which is no split",
        "train/loose.png": "in no class folder",
    }


def test_folders_with_two_readings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="looks like a split and 'bus' like a class"):
        from_folder(_touch(tmp_path / "a", "train/x/0.png", "bus/0.png"))
    with pytest.raises(InputError, match="look like splits and hold files"):
        from_folder(_touch(tmp_path / "b", "train/0.png", "test/0.png"))
    assert from_folder(_touch(tmp_path / "c", "train/0.png", "bus/0.png")).classes == ("bus", "train")


def test_links_thumbnails_and_unreadable_formats(tmp_path: Path) -> None:
    root = _touch(
        tmp_path / "d", "a/0.png", "b/0.png", "b/1.heic", "b/n.txt", "b/@eaDir/0.png/T.jpg", "b/._x.png"
    )
    _touch(tmp_path, "store/1.png")
    os.symlink("../../store", root / "a" / "more")
    os.symlink("..", root / "a" / "up")
    found = from_folder(root)
    assert found.ids == ["a/0.png", "a/more/1.png", "b/0.png"]
    assert dict(found.left_out) == {
        "a/up": "a link back to a folder above",
        "b/._x.png": "hidden file",
        "b/1.heic": "unreadable format .heic",
        "b/@eaDir/0.png/T.jpg": "thumbnail in @eaDir",
        "b/n.txt": "neither image nor audio (.txt)",
    }
    assert found.account().text().startswith("3 of 8 used; left out: ")
    assert found.account().to_json()["of"] == 8


def test_a_link_to_itself_is_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    root = _touch(tmp_path / "d", "a/0.png", "b/1.png")
    os.symlink("x.png", root / "a" / "x.png")
    os.symlink("loop", root / "loop")
    assert from_folder(root).ids == [
        "a/0.png",
        "a/x.png",
        "b/1.png",
    ]  # which extraction counts, with a reason


def test_class_folders_in_one_unicode_form(tmp_path: Path) -> None:
    nfd = unicodedata.normalize("NFD", "caf\u00e9")
    found = from_folder(_touch(tmp_path / "d", f"train/{nfd}/0.png", "test/caf\u00e9/0.png"))
    assert found.classes == ("caf\u00e9",)


def _tar(path: Path, *members: tuple[str, bytes]) -> Path:
    with tarfile.open(path, "w") as opened:
        for name, content in members:
            header = tarfile.TarInfo(name)
            header.size = len(content)
            opened.addfile(header, io.BytesIO(content))
    return path


def test_a_member_twice_is_refused_unless_it_is_the_same(tmp_path: Path) -> None:
    first = [("x.png", b"1"), ("x.cls", b"dark")]
    assert len(resolve_data(_tar(tmp_path / "a.tar", *first, *first))) == 1
    with pytest.raises(InputError, match=r"member 'x\.png' is in it twice"):
        resolve_data(_tar(tmp_path / "b.tar", *first, ("x.png", b"2")))


def test_labels_of_a_tar_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    tar = _tar(tmp_path / "a.tar", ("x.png", b"1"), ("x.cls", b"dark"), ("x.json", b'{"label": "bright"}'))
    with pytest.raises(InputError, match="--label-column cls or --label-column label"):
        resolve_data(tar)
    assert resolve_data(tar, choice=Choice(label="cls")).classes == ("dark",)
    assert resolve_data(tar, choice=Choice(label="label")).classes == ("bright",)


def test_tars_named_after_splits_are_those(tmp_path: Path) -> None:
    for name in ("train-000", "train-001", "val-000"):
        _tar(tmp_path / f"{name}.tar", (f"{name}.png", b"1"), (f"{name}.cls", b"a"))
    assert resolve_data(tmp_path).splits.tolist() == [0, 0, 1]


def _saved(folder: Path, table: dict[str, list[object]], classes: dict[str, list[str]]) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    folder.mkdir(parents=True)
    content = pyarrow.table(table)
    with (
        pyarrow.OSFile(str(folder / "data.arrow"), "wb") as sink,
        pyarrow.ipc.new_stream(sink, content.schema) as out,
    ):
        out.write_table(content)
    features = {
        name: {"names": classes[name], "_type": "ClassLabel"}
        if name in classes
        else {"dtype": "string", "_type": "Value"}
        for name in table
    }
    (folder / "state.json").write_text(
        json.dumps({"_data_files": [{"filename": "data.arrow"}], "_split": None})
    )
    (folder / "dataset_info.json").write_text(json.dumps({"features": features}))
    return folder


def test_columns_of_a_saved_data_set(tmp_path: Path) -> None:
    texts: list[object] = ["a b", "c d"]
    sms = resolve_data(_saved(tmp_path / "sms", {"label": ["ham", "spam"], "message": texts}, {}))
    assert (sms.sources, sms.classes) == (texts, ("ham", "spam"))
    two = {"speaker": ["s0", "s1"], "label": ["neg", "pos"]}
    said = resolve_data(_saved(tmp_path / "two", {"text": texts, "speaker": [0, 1], "label": [1, 0]}, two))
    assert (said.classes, said.labels.tolist()) == (("neg", "pos"), [1, 0])
    assert any("'speaker'" in remark for remark in said.remarks)
    unclear = {"fine": ["a", "b"], "coarse": ["c", "d"]}
    saved = _saved(tmp_path / "unclear", {"text": texts, "fine": [0, 1], "coarse": [1, 0]}, unclear)
    with pytest.raises(InputError, match="--label-column"):
        resolve_data(saved)
    assert resolve_data(saved, choice=Choice(label="coarse")).labels.tolist() == [1, 0]
    pair = _saved(tmp_path / "pair", {"premise": texts, "hypothesis": texts}, {})
    with pytest.raises(InputError, match="--text-column"):
        resolve_data(pair)
    assert resolve_data(pair, choice=Choice(text="premise")).sources == texts


def test_splits_of_a_saved_data_set_that_list_other_classes(tmp_path: Path) -> None:
    for split, names in (("train", ["ant", "bee"]), ("test", ["bee", "ant"])):
        _saved(tmp_path / "d" / split, {"text": ["x", "y"], "label": [0, 1]}, {"label": names})
    (tmp_path / "d" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    found = resolve_data(tmp_path / "d")
    assert (found.classes, found.labels.tolist()) == (("ant", "bee"), [0, 1, 1, 0])


def _classes(*names: str) -> Manifest:
    return Manifest(
        name="d", modality="image", classes=names, root=Path("/x"), ids=["a"], sources=["a.png"],
        labels=[0], splits=[255],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("classes", "text", "label"),
    [
        (("\u092a\u093e\u0932", "\u0918\u0930"), "\u092f\u0939 \u092a\u0941\u0932 \u0939\u0948", None),
        (("\u092a\u093e\u0932", "\u0918\u0930"), "\u092f\u0939 \u0918\u0930 \u0939\u0948", 1),
        ((unicodedata.normalize("NFD", "caf\u00e9"), "bar"), "le caf\u00e9 est ouvert", 0),
        (("\u732b", "\u72ac"), "\u8fd9\u662f\u4e00\u53ea\u732b", 0),
        (("\u0e41\u0e21\u0e27", "\u0e2b\u0e21\u0e32"), "\u0e09\u0e31\u0e19\u0e21\u0e35\u0e2b\u0e21\u0e32", 1),
    ],
)
def test_mentions_cut_words_by_the_rules_of_unicode(
    tmp_path: Path, classes: tuple[str, ...], text: str, label: int | None
) -> None:
    (tmp_path / "t.txt").write_text(f"{text}\n{classes[0]}\n", encoding="utf-8")
    found = assign_mentions(resolve_data(tmp_path / "t.txt"), _classes(*classes))
    assert found.manifest.labels.tolist() == ([label] if label is not None else []) + [0]
    assert len(found.manifest.left_out) == (label is None)
