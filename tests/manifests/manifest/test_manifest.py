"""The manifest and its files: round trip, digest, and every mistake named."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from uml_cache.errors import InputError
from uml_manifests import Manifest, load_manifest, write_manifest

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
_NAME = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=6)


def make(**changes: Any) -> Manifest:
    fields: dict[str, Any] = {
        "name": "pets",
        "modality": "image",
        "classes": ("cat", "dog"),
        "root": Path("/somewhere"),
        "ids": ["a", "b", "c"],
        "sources": ["a.png", "sub/b.png", "/elsewhere/c.png"],
        "labels": np.array([0, 1, -1]),
        "splits": np.array([0, 2, 255]),
    }
    return Manifest(**(fields | changes))


def assert_same(a: Manifest, b: Manifest) -> None:
    for field in (
        "name",
        "modality",
        "set",
        "classes",
        "ids",
        "sources",
        "groups",
        "licence",
        "source",
        "prompts",
    ):
        assert getattr(a, field) == getattr(b, field), field
    np.testing.assert_array_equal(a.labels, b.labels)
    np.testing.assert_array_equal(a.splits, b.splits)
    assert a.digest == b.digest


def test_names_meet_in_one_unicode_form() -> None:
    decomposed = make(name="caf\N{LATIN SMALL LETTER E}\N{COMBINING ACUTE ACCENT}", set=" long ")
    assert (decomposed.name, decomposed.set) == ("caf\N{LATIN SMALL LETTER E WITH ACUTE}", "long")
    assert decomposed.digest == make(name="café", set="long").digest


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    modality = draw(st.sampled_from(["text", "image", "audio"]))
    classes = draw(st.lists(_TEXT.filter(str.strip), max_size=4))  # names may repeat, or be numbers
    ids = draw(st.lists(_TEXT.filter(bool), min_size=1, max_size=6, unique=True))
    count = len(ids)

    def column(values: st.SearchStrategy[Any]) -> list[Any]:
        return draw(st.lists(values, min_size=count, max_size=count))

    path = _TEXT.filter(lambda text: text and ".." not in text and "\0" not in text)
    return Manifest(
        name=draw(_NAME),
        modality=modality,
        set=draw(st.none() | _NAME),
        classes=tuple(classes),
        root=Path("/data") / draw(_NAME),
        ids=ids,
        sources=column(_TEXT if modality == "text" else path),
        labels=np.array(column(st.integers(-1, len(classes) - 1))),
        splits=np.array(column(st.sampled_from([0, 1, 2, 255]))),
        groups=column(_TEXT) if draw(st.booleans()) else None,
        licence=draw(st.none() | _TEXT),
        source=draw(st.none() | _TEXT),
        prompts=tuple(draw(st.lists(_TEXT.map(lambda text: text + "{}"), max_size=2))),
    )


@given(manifests())
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_is_read(tmp_path: Path, manifest: Manifest) -> None:
    again = load_manifest(write_manifest(manifest, tmp_path))
    assert_same(again, manifest)
    if manifest.modality != "text":
        assert again.root == manifest.root


def test_number_names_survive(tmp_path: Path) -> None:
    manifest = make(classes=("1", "2", "0"), labels=np.array([2, 0, 1]))
    assert_same(load_manifest(write_manifest(manifest, tmp_path)), manifest)


def test_digest_is_independent_of_the_folder(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    write_manifest(make(root=here, sources=["a.png", "b.png", str(here / "c.png")]), here)
    before = load_manifest(here).digest
    shutil.copytree(here, there)
    (there / "samples.csv").write_text((there / "samples.csv").read_text().replace(str(here), str(there)))
    assert load_manifest(there).digest == before
    assert load_manifest(there).root == there


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"set": "x"},
        {"classes": ("cat", "cow")},
        {"ids": ["a", "b", "d"]},
        {"sources": ["a.png", "sub/b.png", "/elsewhere/d.png"]},
        {"labels": np.array([0, 0, -1])},
        {"splits": np.array([0, 1, 255])},
        {"groups": ["x", "y", "z"]},
    ],
)
def test_digest_depends_on_what_decides_the_features(change: dict[str, Any]) -> None:
    assert make(**change).digest != make().digest
    assert make(licence="MIT", source="here", prompts=("a {}",)).digest == make().digest


def test_golden_digest() -> None:
    assert make().digest == "cd75fa8ea5658f5a6e75e8ec50aaabfde251f7bb5f58cdf8d94d8a18e088568d"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"modality": "video"}, "unknown modality 'video'"),
        ({"name": ".."}, "cannot name a folder"),
        ({"ids": ["a", "b", "a"]}, "id 'a' occurs twice"),
        ({"ids": ["a", "b", ""]}, "sample 2 has an empty id"),
        ({"ids": [], "sources": [], "labels": np.array([]), "splits": np.array([])}, "no samples"),
        ({"labels": np.array([0, 2, 0])}, "sample 'b' has label 2"),
        ({"splits": np.array([0, 7, 0])}, "sample 'b' has split code 7"),
        ({"sources": ["a.png", "../b.png", "c"]}, "'../b.png' leaves the data set's root"),
        ({"sources": ["a.png", "sub/../../b.png", "c"]}, "leaves the data set's root"),
        ({"sources": ["a.png", "", "c"]}, "sample 'b': the path is empty"),
        ({"sources": ["a.png"]}, "3 ids but 1 sources"),
        ({"groups": ["x"]}, "3 ids but 1 groups"),
        ({"ids": ["a", "b", "\udcff"]}, "not valid Unicode"),
        ({"prompts": ("a photo",)}, "has no {}"),
        ({"classes": ("cat", " ")}, "class 1 has an empty name"),
    ],
)
def test_a_wrong_manifest_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        make(**change)
    assert message in str(caught.value)


def test_small_facts() -> None:
    manifest = make(set="v2")
    assert len(manifest) == 3
    assert manifest.store_name == "image.v2"
    assert manifest.split_counts == {"train": 1, "test": 1, "none": 1}
    assert manifest.path(1) == Path("/somewhere/sub/b.png")
    assert manifest.path(2) == Path("/elsewhere/c.png")
    assert make(labels=np.array([-1, 1, 1])).missing_classes == ("cat",)
    assert make(labels=np.array([-1, -1, -1])).missing_classes == ("cat", "dog")
    assert replace(manifest, name="x").labels.dtype == np.int32


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_manifest(make(), tmp_path / "pets")


def test_an_interrupted_write_does_not_look_complete(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace_file = os.replace

    def stop_at_header(source: Path, target: Path) -> None:
        if target.name == "dataset.toml":
            raise KeyboardInterrupt
        replace_file(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", stop_at_header)
        with pytest.raises(KeyboardInterrupt):
            write_manifest(make(ids=["x", "y", "z"]), folder)
    with pytest.raises(InputError, match=r"no dataset\.toml"):
        load_manifest(folder)


def test_of_two_writers_one_comes_after_the_other(tmp_path: Path) -> None:
    """What stays is the manifest of one, and a reader never meets a mixture."""
    both = [make(ids=[f"{who}{i}" for i in range(3)], source=who) for who in "AB"]

    def work(at: int) -> None:
        for _ in range(40):
            if at < 2:
                write_manifest(both[at], tmp_path)
            else:
                found = load_manifest(tmp_path)
                assert {name[0] for name in found.ids} == {found.source}

    write_manifest(both[0], tmp_path)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(work, range(3)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dataset.toml", "samples.csv"]


@pytest.mark.parametrize(
    ("csv", "message"),
    [
        (b"", "samples.csv: the file is empty"),
        (b"id,path,label\n", "a header but no samples"),
        (b"id,label\na,cat\n", "column path missing"),
        (b"id,path\na,cat\n", "column label missing"),
        (
            b"id,path,label,splits\na,a.png,cat,train\n",
            "line 1: unknown column 'splits'; did you mean split?",
        ),
        (b"id,path,label,label\na,a.png,cat,dog\n", "line 1: column 'label' occurs twice"),
        (b"id,path,label\na,a.png,cat\nb,\xff.png,cat\n", "line 3: not UTF-8"),
        (b"id,path,label\na,a.png,cat\n\na,b.png,cat\n", "line 4: id 'a' occurs a second time"),
        (b"id,path,label\n,a.png,cat\n", "line 2: the id is empty"),
        (b"id,path,label\na,a.png,cow\n", "line 2: label 'cow' is not one of the 2 classes"),
        (b"id,path,label\na,a.png,0\nb,b.png,2\n", "line 2: label '0' is not one of the 2 classes"),
        (b'id,path,label,group\na,a.png,cat,"x\ny"\nb,b.png,cow,z\n', "line 4: label 'cow'"),
        (b"id,path,label,split\na,a.png,cat,tset\n", "line 2: unknown split 'tset'"),
        (b"id,path,label\na,a.png\n", "line 2: 2 cells where the header has 3"),
        (b'id,path,label\na,"a.png,cat\n', "not valid CSV"),
        (b"id,path,label\na,../a.png,cat\n", "line 2: path '../a.png' leaves"),
    ],
)
def test_a_wrong_csv_names_file_and_line(folder: Path, csv: bytes, message: str) -> None:
    (folder / "samples.csv").write_bytes(csv)
    with pytest.raises(InputError) as caught:
        load_manifest(folder)
    assert message in str(caught.value)
    assert str(folder / "samples.csv") in str(caught.value)


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("name = ", "not valid TOML"),
        ('name = "x"\nmodality = "image"\n', "classes is missing"),
        ('name = "x"\nmodality = "images"\nclasses = []\n', "did you mean image?"),
        ('name = "x"\nmodality = "image"\nclasses = "cat"\n', "classes must be a list of strings"),
        ('name = 3\nmodality = "image"\nclasses = []\n', "name must be a string"),
        ('name = "x"\nmodality = "image"\nclasses = []\nlicense = "MIT"\n', "did you mean licence?"),
        (
            'name = "x"\nmodality = "image"\nclasses = []\nlabels = "names"\n',
            'labels must be "name" or "index"',
        ),
    ],
)
def test_a_wrong_header_is_named(folder: Path, toml: str, message: str) -> None:
    (folder / "dataset.toml").write_text(toml)
    with pytest.raises(InputError) as caught:
        load_manifest(folder)
    assert message in str(caught.value)


def test_marks_quotes_and_newlines_are_read(tmp_path: Path) -> None:
    (tmp_path / "dataset.toml").write_text('name = "t"\nmodality = "text"\nclasses = ["x", "y"]\n')
    rows = '\ufeffID, Text ,label,note\r\n1,"two\r\nlines, and ""quotes""",0,z\r\n\r\n2,plain,1,z\r\n'
    (tmp_path / "samples.csv").write_bytes(rows.encode())
    manifest = load_manifest(tmp_path / "dataset.toml")
    assert manifest.sources == ['two\r\nlines, and "quotes"', "plain"]
    assert manifest.labels.tolist() == [0, 1]  # indices, because none of the labels is a name
    assert manifest.splits.tolist() == [255, 255]


def test_a_long_text_is_read(tmp_path: Path) -> None:
    long = make(modality="text", sources=["x" * 200_000, "", "z"])
    assert load_manifest(write_manifest(long, tmp_path)).sources[0] == "x" * 200_000
