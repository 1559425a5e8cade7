"""`uml.embed`: every form that samples come in gives the same features, which are kept by content."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
from PIL import Image

import uml
from small_world import CLASSES, pictures, sentences, write_pictures
from uml_cache import InputError, WorkError


def _embed(data: object, encoder: str = "hog-color", **options: object) -> uml.Embedded:
    return uml.embed(data, encoder, progress=False, **options)  # type: ignore[arg-type]


class _Pictures(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """As torchvision's data sets: items are (picture, number), `classes` names the numbers."""

    classes = CLASSES

    def __init__(self) -> None:
        self.images, labels = pictures(2)
        self.targets = [CLASSES.index(label) for label in labels]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> tuple[object, int]:
        return self.images[row], self.targets[row]


def test_all_forms_of_pictures_give_the_same_features(tmp_path: Path) -> None:
    images, labels = pictures(2)
    files = write_pictures(tmp_path / "pictures", 2)
    arrays = np.stack([np.asarray(image) for image in images])
    buffers = []
    for image in images:
        stream = io.BytesIO()
        image.save(stream, "PNG")
        buffers.append(stream.getvalue())
    wanted = _embed(images, cache=False).features
    forms: dict[str, object] = {
        "paths": files,
        "strings": [str(file) for file in files],
        "bytes": buffers,
        "array": arrays,
        "tensor (N, C, H, W) from 0 to 1": torch.from_numpy(arrays).permute(0, 3, 1, 2) / 255.0,
        "pandas column": pandas.Series([str(file) for file in files], index=range(7, 7 + len(files))),
        "torch data set": _Pictures(),
    }
    for name, form in forms.items():
        found = _embed(form, cache=tmp_path / "cache")
        np.testing.assert_array_equal(found.features, wanted, err_msg=name)
        assert found.failed == {}
    folder = _embed(tmp_path / "pictures", cache=False)
    assert folder.labels is not None
    assert list(folder.labels) == labels


def test_labels_of_a_torch_data_set_have_its_names() -> None:
    found = _embed(_Pictures(), cache=False)
    assert found.labels is not None
    assert list(found.labels) == pictures(2)[1]
    assert found.class_names == CLASSES


class _Halved(_Pictures):
    """One whose labels are changed on the way, as torchvision's `target_transform` does."""

    target_transform = staticmethod(lambda label: label // 2)

    def __getitem__(self, row: int) -> tuple[object, int]:
        return self.images[row], self.target_transform(self.targets[row])


def test_labels_that_a_torch_data_set_changes_are_what_it_gives(capsys: pytest.CaptureFixture[str]) -> None:
    data = _Halved()
    found = uml.embed(data, "hog-color", cache=False)
    assert found.labels is not None
    assert list(found.labels) == [str(data[row][1]) for row in range(len(data))]
    assert "its class names are not used" in capsys.readouterr().err
    monkey = type("Odd", (_Pictures,), {"__getitem__": lambda self, row: (self.images[row], 2)})()
    odd = _embed(monkey, cache=False)
    assert odd.labels is not None
    assert list(odd.labels) == [CLASSES[2]] * len(monkey)


def test_unreadable_samples_are_too_many_without_a_cache_too(tmp_path: Path) -> None:
    images, _ = pictures(1)
    data = [images[0], tmp_path / "nothing.png", np.full((5, 5, 5), 7, np.uint8)]
    with pytest.raises(
        WorkError, match="2 unreadable samples, max_errors allows 1 of 3; the first is sample 1"
    ):
        _embed(data, cache=False, max_errors=1)
    assert sorted(_embed(data, cache=False, max_errors=2).failed) == [1, 2]


def test_datasets_bring_labels_and_splits(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    images, labels = pictures(2)
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(CLASSES))}
    )
    codes = [CLASSES.index(label) for label in labels]
    data = datasets.Dataset.from_dict({"image": images, "label": codes}, features=features)
    both = datasets.DatasetDict({"train": data, "test": data.select([1, 3])})
    found = _embed(both, cache=tmp_path / "cache")
    wanted = _embed([*images, images[1], images[3]], cache=False)
    np.testing.assert_array_equal(found.features, wanted.features)
    assert found.splits is not None
    assert list(found.splits) == ["train"] * 6 + ["test"] * 2
    assert found.labels is not None
    assert list(found.labels) == [*labels, labels[1], labels[3]]
    data.save_to_disk(str(tmp_path / "saved"))
    saved = _embed(str(tmp_path / "saved"), cache=False)
    np.testing.assert_array_equal(saved.features, wanted.features[:6])
    assert saved.labels is not None
    assert list(saved.labels) == labels


def test_pandas_table_and_sounds() -> None:
    texts, names = sentences(2)
    table = pandas.DataFrame({"text": texts, "label": names})
    found = _embed(table, "hashed-ngrams", cache=False)
    assert found.labels is not None
    assert list(found.labels) == names
    tone = np.sin(np.arange(8000) / 5).astype(np.float32)
    as_pair = _embed([(tone, 8000), (np.stack([tone, tone]), 8000)], "log-mel", cache=False)
    np.testing.assert_array_equal(as_pair.features[0], as_pair.features[1])
    as_cell = _embed([{"array": tone, "sampling_rate": 8000}], "log-mel", cache=False)
    np.testing.assert_array_equal(as_pair.features[:1], as_cell.features)


@pytest.mark.parametrize("form", ["file", "pandas", "datasets", "torch"])
def test_splits_and_groups_of_a_table_count_in_every_form(form: str, tmp_path: Path) -> None:
    rows = {
        "text": ["a b", "c d", "e f"], "label": ["x", "y", "x"], "split": ["train", "", "test"],
        "group": ["g", "", "h"],
    }  # fmt: skip
    table = pandas.DataFrame(rows)
    table.to_csv(tmp_path / "t.csv", index=False)
    data: object = {"file": tmp_path / "t.csv", "pandas": table}.get(form)
    if form == "datasets":
        data = pytest.importorskip("datasets").Dataset.from_dict(rows)
    if form == "torch":
        data = _Rows(table.to_dict("records"))
    found = _embed(data, "hashed-ngrams", cache=False)
    for own, wanted in ((found.labels, "label"), (found.splits, "split"), (found.groups, "group")):
        assert own is not None
        assert list(own) == rows[wanted]
    given = _embed(data, "hashed-ngrams", cache=False, splits=["test"] * 3, groups=["k"] * 3)
    assert given.splits is not None
    assert given.groups is not None
    assert (list(given.splits), list(given.groups)) == (["test"] * 3, ["k"] * 3)
    assert list(given.frame().columns[:3]) == ["label", "split", "group"]


class _Rows(torch.utils.data.Dataset):  # type: ignore[type-arg]
    def __init__(self, rows: list[dict[str, str]]) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, row: int) -> dict[str, str]:
        return self._rows[row]


def test_choices_and_missing_labels_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = pandas.DataFrame({"text": ["a", "b"], "caption": ["c", "d"], "class": ["x", "None"]})
    found = uml.embed(table, "hashed-ngrams", cache=False)
    said = capsys.readouterr().err
    assert "using column 'text' for the texts, not 'caption'; column= chooses another" in said
    assert "no column is called 'label': using 'class'; labels= chooses another" in said
    assert "labels read as no label: 'None' (1)" in said
    assert found.labels is not None
    assert list(found.labels) == ["x", None]
    write_pictures(tmp_path / "pictures", 1)
    (tmp_path / "pictures" / CLASSES[0] / "phone.heic").write_bytes(b"")
    uml.embed(tmp_path / "pictures", "hog-color", cache=False)
    assert "3 of 4 used; left out: unreadable format .heic (1)" in capsys.readouterr().err


def test_two_classes_of_one_name_stay_two() -> None:
    names = ("crane", "crane", "gull")
    found = _embed(["a", "b", "c"], "hashed-ngrams", cache=False, labels=[0, 1, 2], class_names=names)
    assert found.labels is not None
    assert list(found.labels) == list(found.class_names) == ["crane", "crane#2", "gull"]


def test_a_masked_picture_is_a_row_with_a_reason(tmp_path: Path) -> None:
    images, labels = pictures(1)
    hidden = np.ma.masked_array(np.asarray(images[1]), np.asarray(images[1]) > 100)
    found = _embed([images[0], hidden], cache=tmp_path, labels=labels[:2], max_errors=1)
    assert "masked" in found.failed[1]


def test_kept_by_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = pictures(2)
    first = _embed(images, cache=tmp_path)
    encoded: list[object] = []
    from uml_extract.encoders.builtin.pictures import HogColor

    own = HogColor.encode
    monkeypatch.setattr(HogColor, "encode", lambda *a, **k: encoded.append(a) or own(*a, **k))
    again = _embed(images, cache=tmp_path, labels=labels)
    assert encoded == []
    np.testing.assert_array_equal(first.features, again.features)
    changed = [*images[:-1], images[0]]
    other = _embed(changed, cache=tmp_path)
    assert encoded
    assert other.store != first.store


def test_pictures_that_differ_in_their_palette_alone(tmp_path: Path) -> None:
    def picture(*colours: int) -> Image.Image:
        made = Image.fromarray(np.arange(576, dtype=np.uint8).reshape(24, 24) % 2, mode="P")
        made.putpalette(colours)
        return made

    first, second = picture(255, 0, 0, 0, 0, 0), picture(0, 0, 255, 255, 255, 255)
    assert first.tobytes() == second.tobytes()
    kept = [_embed([one], cache=tmp_path).features for one in (first, second)]
    fresh = [_embed([one], cache=False).features for one in (first, second)]
    np.testing.assert_array_equal(kept, fresh)
    assert (kept[0] != kept[1]).any()


def test_a_file_with_another_content_is_another_sample(tmp_path: Path) -> None:
    files = write_pictures(tmp_path / "pictures", 1)
    first = _embed(files, cache=tmp_path / "cache")
    write_pictures(tmp_path / "pictures", 1, seed=5)
    assert (_embed(files, cache=tmp_path / "cache").features != first.features).any()


def test_unreadable_samples_are_rows_with_reasons(tmp_path: Path) -> None:
    images, labels = pictures(1)
    found = _embed(
        [images[0], tmp_path / "nothing.png", images[2]], cache=tmp_path, max_errors=1, labels=labels
    )
    assert list(found.failed) == [1]
    assert "no such file" in found.failed[1]
    assert not found.features[1].any()


@pytest.mark.parametrize(
    ("data", "encoder", "options", "said"),
    [
        ([], "hog-color", {}, "empty"),
        ("photo.jpg", "hog-color", {}, "one sample"),
        (["a", 3], "hashed-ngrams", {}, "sample 1 is no string but of type int"),
        (["a", "b"], "hashed-ngrams", {"labels": ["x"]}, "2 samples and 1 labels"),
        (["a"], "hashed-ngrams", {"labels": "kind"}, "from no table"),
        (["a"], "hashed-ngram", {}, "did you mean hashed-ngrams"),
        ([object()], "hog-color", {}, "is no sample"),
        ([[1.0, np.nan]], "identity", {}, "not finite"),
        (pandas.DataFrame({"a": ["x"], "b": ["y"]}), "hashed-ngrams", {}, "say column="),
        (["a", "b"], "hashed-ngrams", {"labels": {"x", "y"}}, "labels is a set"),
        (["a", "b"], "hashed-ngrams", {"labels": {0: "x", 1: "y"}}, "labels is a dict"),
        (["a", "b"], "hashed-ngrams", {"splits": {0: "train", 1: "test"}}, "splits is a dict"),
        ({"a", "b"}, "hashed-ngrams", {}, "a set is no collection of samples"),
        (["a", "b"], "hashed-ngrams", {"groups": ["g"]}, "2 samples and 1 groups"),
        (["a", "b"], "hashed-ngrams", {"groups": "g"}, "groups='g' names a column"),
        (
            pandas.DataFrame({"text": ["x"], "class": ["a"], "target": ["b"]}),
            "hashed-ngrams",
            {},
            "'class' and 'target' may both be the label column; say which one with labels=",
        ),
        (
            pandas.Series(["a", "b"]),
            "hashed-ngrams",
            {"labels": pandas.Series(["x", "y"], index=[1, 0])},
            "labels and the samples have one index in two orders",
        ),
        (np.ma.masked_array(np.ones((2, 3)), np.eye(2, 3)), "identity", {}, "features are masked"),
    ],
)
def test_wrong_input_is_said_in_a_line(
    data: object, encoder: str, options: dict[str, object], said: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=said) as caught:
        _embed(data, encoder, cache=tmp_path, **options)
    assert "\n" not in str(caught.value)


def test_real_numbers_beyond_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="expected 0 to 1"):
        _embed(np.full((2, 8, 8, 3), 7.5), cache=tmp_path)


def test_importing_is_light() -> None:
    code = "import sys, uml; print([m for m in ('torch', 'numpy', 'pandas', 'zarr') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
    assert set(uml.__all__) >= {"embed", "fit", "advise", "load", "encoders"}
    assert uml.__version__
