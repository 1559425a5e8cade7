"""Manifests from folders, CSV files, lists of texts and split files; and what `--data` resolves to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from uml_cache.errors import InputError
from uml_cache.tables.views import MADE
from uml_manifests import (
    build_benchmark,
    from_coop,
    from_csv,
    from_folder,
    from_lines,
    get_benchmark,
    list_benchmarks,
    render_shapes,
    resolve_data,
    write_manifest,
)

SPLIT = {
    "train": [["b/1.jpg", 1, "bee"], ["a/1.jpg", 0, "ant"]],
    "val": [["a/2.jpg", 0, "ant"]],
    "test": [["b/2.jpg", 1, "bee"]],
}


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def test_class_folders(tmp_path: Path) -> None:
    names = (
        "dog/2.png",
        "dog/10.JPG",
        "cat/deep/x.jpeg",
        "cat/notes.txt",
        "cat/.hidden.png",
        ".git/x.png",
        "a.md",
    )
    manifest = from_folder(touch(tmp_path / "zoo", *names, "empty/readme.md"))
    assert (manifest.name, manifest.modality, manifest.classes) == ("zoo", "image", ("cat", "dog", "empty"))
    assert manifest.ids == ["cat/deep/x.jpeg", "dog/10.JPG", "dog/2.png"]
    assert manifest.labels.tolist() == [0, 1, 1]
    assert manifest.splits.tolist() == [255] * 3
    assert manifest.missing_classes == ("empty",)


def test_split_folders(tmp_path: Path) -> None:
    touch(tmp_path, "train/cat/1.wav", "train/dog/2.wav", "validation/cat/3.wav", "test/dog/4.flac")
    manifest = from_folder(tmp_path, name="noise")
    assert (manifest.modality, manifest.classes) == ("audio", ("cat", "dog"))
    assert manifest.ids == ["train/cat/1.wav", "train/dog/2.wav", "validation/cat/3.wav", "test/dog/4.flac"]
    assert manifest.splits.tolist() == [0, 0, 1, 2]
    assert manifest.labels.tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "no such folder"),
        ((".hidden",), "the folder is empty"),
        (("a.wav", "b.wav", "c.md"), "no class folders; found 2 .wav, 1 .md"),
        (("x/a.npy", "y/b.npy", "y/README"), "no image or audio files; found 2 .npy, 1 without extension"),
        (("x/a.png", "y/b.wav"), "1 audio and 1 image files together"),
    ],
)
def test_a_folder_without_samples(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        from_folder(touch(tmp_path / "x", *names))


def test_modality_chooses_in_a_mixed_folder(tmp_path: Path) -> None:
    touch(tmp_path, "x/a.png", "y/b.wav")
    assert from_folder(tmp_path, modality="audio").ids == ["y/b.wav"]
    with pytest.raises(InputError, match=r"no audio files in its 1 class folders; found 1 \.png"):
        from_folder(touch(tmp_path / "p", "x/a.png"), modality="audio")


def write_csv(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_csv_of_files(tmp_path: Path) -> None:
    text = "id,path,label,split,group\n1,a.wav,ten,train,ann\n2,/abs/b.wav,,test,bob\n3,c.wav,five,,ann\n"
    manifest = from_csv(write_csv(tmp_path / "calls.csv", text))
    assert (manifest.name, manifest.modality, manifest.classes) == ("calls", "audio", ("five", "ten"))
    assert manifest.labels.tolist() == [1, -1, 0]
    assert manifest.splits.tolist() == [0, 2, 255]
    assert manifest.groups == ["ann", "bob", "ann"]
    assert manifest.path(0) == tmp_path / "a.wav"
    assert from_csv(tmp_path / "calls.csv", root="/else").path(0) == Path("/else/a.wav")


def test_integer_labels_are_sorted_by_value(tmp_path: Path) -> None:
    manifest = from_csv(write_csv(tmp_path / "t.csv", "id,text,label\na,x,10\nb,y,9\nc,z,2\n"))
    assert manifest.modality == "text"
    assert manifest.classes == ("2", "9", "10")
    assert manifest.labels.tolist() == [2, 1, 0]


def test_csv_with_both_columns_needs_a_modality(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "t.csv", "id,path,text,label\na,x.png,a word,q\n")
    with pytest.raises(InputError, match="both a path and a text column"):
        from_csv(path)
    assert from_csv(path, modality="text").sources == ["a word"]
    assert from_csv(path, modality="image").sources == ["x.png"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,label\na,b\n", "column path or text missing"),
        ("id,path\na,b.png\n", "column label missing"),
        ("id,path,label\na,b.png,c\n,c.png,c\na,d.png,c\n", "line 4: id 'a' occurs a second time"),
        ("id,path,label\na,b.npy,c\n", "no image or audio files; found 1 .npy"),
        ("id,path,label\na,,c\n", "line 2: the path is empty"),
    ],
)
def test_a_wrong_csv(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        from_csv(write_csv(tmp_path / "t.csv", text))


def test_a_csv_without_ids_has_the_numbers_of_its_rows(tmp_path: Path) -> None:
    """As in every other format; numbers that nobody gave are no identity."""
    manifest = from_csv(write_csv(tmp_path / "t.csv", "path,label\na.png,b\nc.png,b\n"))
    assert (manifest.ids, manifest.id_kind) == (["0", "1"], MADE)
    some = from_csv(write_csv(tmp_path / "s.csv", "id,path,label\nx,a.png,b\n,c.png,b\n"))
    assert (some.ids, some.id_kind) == (["x", "1"], MADE)


def test_lines(tmp_path: Path) -> None:
    manifest = from_lines(write_csv(tmp_path / "t.txt", "one\r\n\n two \n"))
    assert manifest.sources == ["one", "two"]
    assert manifest.ids == ["1", "3"]
    assert manifest.labels.tolist() == [-1, -1]
    with pytest.raises(InputError, match="the file is empty"):
        from_lines(write_csv(tmp_path / "t.txt", "\n \n"))


def test_coop_keeps_the_files_order(tmp_path: Path) -> None:
    manifest = from_coop(write_csv(tmp_path / "s.json", json.dumps(SPLIT)), tmp_path, "bugs")
    assert manifest.classes == ("ant", "bee")
    assert manifest.ids == ["b/1.jpg", "a/1.jpg", "a/2.jpg", "b/2.jpg"]
    assert manifest.labels.tolist() == [1, 0, 0, 1]
    assert manifest.splits.tolist() == [0, 0, 1, 2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not a split file"),
        ("[]", "not a split file"),
        (json.dumps({**SPLIT, "val": [["a/2.jpg", 0]]}), "not a split file"),
        (json.dumps({**SPLIT, "val": [["a/2.jpg", 0, "fly"]]}), "label 0 is 'ant' and, at 'a/2.jpg', 'fly'"),
        (json.dumps({**SPLIT, "val": [["a/2.jpg", 5, "fly"]]}), "the labels are not 0 to 2"),
        (json.dumps({**SPLIT, "val": [["a/1.jpg", 0, "ant"]]}), "id 'a/1.jpg' occurs twice"),
    ],
)
def test_a_wrong_split_file(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        from_coop(write_csv(tmp_path / "s.json", content), tmp_path, "bugs")


def test_benchmarks_are_complete() -> None:
    known = {benchmark.name: benchmark for benchmark in list_benchmarks()}
    assert {"caltech101", "oxford_pets", "stanford_cars", "oxford_flowers", "shapes"} <= set(known)
    assert known["oxford_pets"].sizes == (2944, 736, 3669)
    for benchmark in known.values():
        assert len(benchmark.sizes) == 3
        assert all("{}" in prompt for prompt in benchmark.prompts)
    with pytest.raises(InputError, match="did you mean oxford_pets"):
        get_benchmark("oxfordpets")


def test_benchmark_differences_are_said(tmp_path: Path) -> None:
    pets = get_benchmark("oxford_pets")
    with pytest.raises(InputError, match=r"split_zhou_OxfordPets\.json: no such file"):
        build_benchmark(pets, tmp_path)
    write_csv(tmp_path / "split_zhou_OxfordPets.json", json.dumps(SPLIT))
    with pytest.raises(InputError, match=r"images: no such folder; .* holds split_zhou_OxfordPets\.json"):
        build_benchmark(pets, tmp_path)
    touch(tmp_path, "images/a/1.jpg", "images/b/1.jpg", "images/a/2.jpg")
    with pytest.raises(InputError, match="none of the 4 image files is there"):
        build_benchmark(pets, tmp_path)
    for name in ("a/1.jpg", "a/2.jpg"):
        (tmp_path / "images" / name).write_bytes(b"x")
    with pytest.raises(InputError, match=r"2 classes instead of 37; .* with --partial"):
        build_benchmark(pets, tmp_path)
    built = build_benchmark(pets, tmp_path, partial=True)
    assert built.missing_files == 2
    assert "2 classes instead of 37" in built.differences
    assert "2 train samples instead of 2944" in built.differences
    assert "2 of 4 files are missing or empty, for example b/1.jpg" in built.differences
    assert built.manifest.ids == ["a/1.jpg", "a/2.jpg"]
    assert built.manifest.options == ("partial=yes",)
    assert built.manifest.prompts == pets.prompts


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_resolve_by_path(workplace: Path) -> None:
    folder = touch(workplace / "zoo", "cat/1.png", "dog/2.png")
    assert resolve_data("zoo").name == "zoo"
    assert resolve_data("zoo", name="animals", set="v2").store_name == "image.v2"
    manifest = resolve_data(str(folder))
    write_manifest(manifest, workplace / "built")
    assert resolve_data("built").digest == manifest.digest
    assert resolve_data("built/dataset.toml").digest == manifest.digest
    assert resolve_data("built", root="/moved").path(0) == Path("/moved/cat/1.png")
    write_csv(workplace / "t.csv", "id,text,label\na,x,q\n")
    assert resolve_data("t.csv", name="words").name == "words"
    assert resolve_data(write_csv(workplace / "t.txt", "hello")).sources == ["hello"]


def test_resolve_by_name(workplace: Path) -> None:
    manifest = from_folder(touch(workplace / "raw", "cat/1.png"), name="zoo")
    write_manifest(manifest, workplace / "data/zoo/image")
    write_manifest(
        from_folder(touch(workplace / "raw2", "cat/1.wav"), name="zoo"), workplace / "data/zoo/audio"
    )
    assert resolve_data("zoo", modality="image").modality == "image"
    with pytest.raises(InputError, match="zoo: several fit: image, audio"):
        resolve_data("zoo")
    with pytest.raises(InputError, match="zoo: has no text"):
        resolve_data("zoo", modality="text")
    with pytest.raises(InputError, match="several fit"):
        resolve_data("data/zoo")
    assert resolve_data("data/zoo", modality="audio").modality == "audio"


def test_resolve_shapes_by_name(workplace: Path) -> None:
    render_shapes(workplace / "data/shapes", train=1, val=1, test=1, texts=2)
    assert len(resolve_data("shapes", modality="audio")) == 3 * 48
    assert len(resolve_data("shapes", modality="text")) == 2 * 48


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        ("nowhere/at/all", {}, "nowhere/at/all: no such file or folder"),
        ("missing.csv", {}, "missing.csv: no such file or folder"),
        ("shaps", {}, "did you mean shapes"),
        ("oxford_pets", {}, "run `uml data build oxford_pets --root DIR`"),
        ("qqqq", {}, "no folder, file or data set 'qqqq'; names here: shapes"),
        ("notes.md", {}, "expected a folder, a .csv, .tsv"),
        ("zoo", {"modality": "text"}, "a folder holds images or sounds"),
        ("built", {"modality": "text"}, "holds image, but text is wanted"),
        ("built", {"name": "other"}, "says name 'zoo', not 'other'"),
    ],
)
def test_resolve_says_what_is_wrong(
    workplace: Path, data: str, options: dict[str, Any], message: str
) -> None:
    write_manifest(from_folder(touch(workplace / "zoo", "cat/1.png")), workplace / "built")
    (workplace / "notes.md").write_text("x")
    with pytest.raises(InputError) as caught:
        resolve_data(data, **options)
    assert message in str(caught.value)


def test_a_large_folder_is_quick_to_list(tmp_path: Path) -> None:
    touch(tmp_path, *(f"c{i % 7}/{i}.png" for i in range(700)))
    manifest = from_folder(tmp_path)
    assert np.bincount(manifest.labels).tolist() == [100] * 7
