"""The rules for tables: labels, class lists, names, columns, splits; the right value of each odd file."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uml_cache import Choice, InputError, as_groups, as_splits, choose_column, match_names, read_labels
from uml_cache.tables.cells import strict_json
from uml_cache.tables.class_lists import as_classes
from uml_cache.tables.names import near_equal


def _labels(
    cells: Any, classes: tuple[str, ...] | None = None, given: tuple[str, ...] | None = None
) -> tuple[list[str | None], dict[str, int]]:
    read = read_labels([cells], [len(cells)], [classes], ["file"], given=given)
    return [read.classes[code] if code >= 0 else None for code in read.codes], dict(read.missing)


@pytest.mark.parametrize(
    ("cells", "classes", "expected"),
    [
        (["1", "2"], ("1", "2", "3"), ["1", "2"]),
        (np.array([1, 2]), ("ant", "bee", "cat"), ["bee", "cat"]),
        (np.array([1.0, np.nan]), ("ant", "bee"), ["bee", None]),
        (["01", "1", "2"], None, ["01", "1", "2"]),
        ([9606, 10090], None, ["9606", "10090"]),
        ([1, 1.0, "1", 2], None, ["1", "1", "1", "2"]),
        (["1.0", "2.0", ""], None, ["1", "2", None]),
        (["1.0", "a"], None, ["1.0", "a"]),
        ([99999999999999999999, 1], None, ["99999999999999999999", "1"]),
        ([" cat", "cat ", "Cat"], None, ["cat", "cat", "Cat"]),
        (["cafe\u0301", "caf\u00e9"], None, ["caf\u00e9", "caf\u00e9"]),
        ([None, "nan", "NULL", "<NA>", -1, float("nan"), "x"], None, [None] * 6 + ["x"]),
        (["None", "x"], ("None", "x"), ["None", "x"]),
        ([True, False], None, ["True", "False"]),
        (np.array([b"a", b"b"]), None, ["a", "b"]),
        (["--5", "1"], None, ["--5", "1"]),
    ],
)
def test_a_label_is_text_as_it_stands(cells: Any, classes: Any, expected: list[str | None]) -> None:
    assert _labels(cells, classes)[0] == expected


@pytest.mark.parametrize(
    ("cells", "classes", "words"),
    [
        ([0.5, 1.0], None, "real number"),
        (["0.5", "0.25"], None, "real number"),
        (np.array([0.5]), ("a", "b"), "real number"),
        ([["a", "b"], ["c"]], None, "row 0 is a list"),
        ([{"a": 1}], None, "row 0 is a dict"),
        (np.array(["2020-01-01"], "datetime64[D]"), None, "type datetime64"),
        (np.array([1 + 2j]), None, "type complex128"),
        (np.array([(1, 2)], [("a", "i4"), ("b", "i4")]), None, "type"),
        ([-5, 1], None, "row 0 is no class index"),
        ([-1, 1, 1], None, "-1 and 1"),
        (["cta"], ("cat",), "did you mean cat"),
        (["0", "1"], ("cat", "dog"), "positions must be stored as whole numbers"),
        (np.array([2]), ("cat", "dog"), "there are 2 class names"),
        (["crane"], ("crane", "crane"), "fits 2 classes"),
    ],
)
def test_what_is_no_label_is_refused(cells: Any, classes: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        _labels(cells, classes)


def test_no_label_is_counted_by_how_it_is_written() -> None:
    assert _labels(["nan", "None", "", "x", "None"])[1] == {"nan": 1, "None": 2, "empty": 1}


def test_class_lists_are_merged_by_name() -> None:
    numbers = np.array([0, 1])
    read = read_labels(
        [numbers, numbers, ["bee"]], [2, 2, 1], [("ant", "bee"), ("bee", "cat"), None], list("abc")
    )
    assert read.classes == ("ant", "bee", "cat")
    assert read.codes.tolist() == [0, 1, 1, 2, 1]
    assert any("other classes" in remark for remark in read.remarks)
    for lists, words in (
        ([("ant", "bee"), ("x", "y")], "no class in common"),
        ([("ant", "ant"), ("ant", "bee")], "occurs twice"),
    ):
        with pytest.raises(InputError, match=words):
            read_labels([numbers, numbers], [2, 2], lists, ["a", "b"])
    with pytest.raises(InputError, match="lists no classes"):
        read_labels([numbers] * 3, [2] * 3, [("ant", "bee"), ("bee", "ant"), None], list("abc"))


def test_a_named_class_list_stands_above_the_files_own() -> None:
    numbers = np.array([0, 1])
    assert _labels(numbers, ("n01", "n02"), ("ant", "bee"))[0] == ["ant", "bee"]  # other names: renamed
    assert _labels(numbers, ("bee", "ant"), ("ant", "bee"))[0] == ["bee", "ant"]  # the same: by name
    with pytest.raises(InputError, match="which --classes lacks"):
        _labels(numbers, ("ant", "cow"), ("ant", "bee"))


@pytest.mark.parametrize(
    ("theirs", "ours", "expected"),
    [
        (["A", "a", "b"], ["A", "B", "a", "b"], [0, 2, 3]),
        (["Red fox"], ["red_fox"], [0]),
        (["POLISH"], ["Polish", "polish"], [-1]),
        (["Cat", "cat"], ["cat"], [-1, 0]),
        (["crane", "crane"], ["crane", "owl", "crane"], [0, 2]),
        (["crane"], ["crane", "crane"], [-1]),
        (["cafe\u0301"], ["caf\u00e9"], [0]),
    ],
)
def test_names_meet_exactly_first(theirs: list[str], ours: list[str], expected: list[int]) -> None:
    assert match_names(theirs, ours).tolist() == expected


@given(names=st.lists(st.text(max_size=5), unique=True, max_size=8))
def test_every_list_matches_itself(names: list[str]) -> None:
    found = match_names(names, names)
    cleaned = [name.strip() for name in names]
    assert len(found) == len(cleaned)
    assert (found >= 0).all()


def test_names_that_are_nearly_equal_are_listed() -> None:
    assert near_equal(["Cat", "cat", "01", "1", "dog"]) == [("Cat", "cat"), ("01", "1")]


def test_columns_are_chosen_said_or_refused() -> None:
    said: list[str] = []
    assert choose_column("label", ["id", "Label"], None, "f", said) == "Label"
    assert choose_column("text", ["id", "sentence"], None, "f", said) == "sentence"
    assert said == ["no column is called 'text': using 'sentence'; --text-column chooses another"]
    for role, names, words in (
        ("label", ["label", "labels"], "--label-column"),
        ("text", ["sentence1", "sentence2"], "--text-column"),
        ("label", ["lable"], "did you mean label"),
    ):
        with pytest.raises(InputError, match=words):
            choose_column(role, names, None, "f", [])
    with pytest.raises(InputError, match="did you mean label"):
        choose_column("label", ["label"], "labl", "f", [])
    assert Choice() == Choice(text=None)


def test_splits_and_groups() -> None:
    cells = ["Train", "validation", "dev", "TEST", "", None, "nan"]
    assert as_splits(cells, 7, "f").tolist() == [0, 1, 1, 2, 255, 255, 255]
    assert as_splits([0, 2, None], 3, "f").tolist() == [0, 2, 255]
    with pytest.raises(InputError, match="did you mean train"):
        as_splits(["trian"], 1, "f")
    assert as_groups(["", None, "g"], "f") == ["", "", "g"]
    assert as_groups(["", None], "f") is None


def test_a_key_twice_is_no_json() -> None:
    assert strict_json('{"a": 1, "a": 1}') == {"a": 1}
    with pytest.raises(ValueError, match="occurs twice"):
        strict_json('{"a": 1, "a": 2}')


def test_signs_that_nobody_sees_make_nearly_equal_names() -> None:
    hidden = ["cat", "cat\u200b", "c\u00adat", "\u202ecat", "dog"]
    assert near_equal(hidden) == [tuple(hidden[:4])]
    assert match_names(["dog\ufeff", "\u2060cat"], ["cat", "dog"]).tolist() == [1, 0]
    assert match_names(["cat\u200b", "cat"], ["cat", "cat\u200b"]).tolist() == [1, 0]


def test_a_word_for_nothing_is_no_group() -> None:
    assert as_groups(["g", "nan", "None", "", " NULL ", "<NA>", float("nan"), None, "h"], "file") == [
        "g", "", "", "", "", "", "", "", "h",
    ]  # fmt: skip
    assert as_groups(["nan", "None"], "file") is None


def test_the_plural_of_a_column_counts() -> None:
    for role in ("text", "path", "label", "split", "id", "group"):
        assert choose_column(role, ["other", f"{role.title()}s"], None, "file", []) == f"{role.title()}s"


@pytest.mark.parametrize(
    ("mapping", "words"),
    [
        ({"cat": 0, "dog": 0}, "label 0 has two names, 'cat' and 'dog'"),
        ({"0": None, "1": "dog"}, "class 0 has no name"),
        ({"0": "", "1": "dog"}, "class 0 has no name"),
        ({"0": ["cat"], "1": "dog"}, "not from label to name"),
        ({"cat": 0, "dog": True}, "not from label to name"),
        ({"0": "cat", "00": "dog"}, "label 0 has two names"),
    ],
)
def test_a_mapping_of_classes_says_one_name_for_each_label(mapping: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        as_classes(mapping, "file")


def test_a_mapping_of_classes_may_go_either_way() -> None:
    assert as_classes({"0": " cat", "1": 7}, "file") == as_classes({"cat": 0, "7": 1}, "file") == ("cat", "7")


def test_numbers_of_one_file_are_no_classes_beside_names_of_another() -> None:
    def read(*columns: Any) -> Any:
        return read_labels(columns, [len(c) for c in columns], [None] * len(columns), ["first", "second"])

    with pytest.raises(InputError, match="second: its labels are whole numbers and those of first are names"):
        read(["cat", "dog"], np.array([0, 1]))
    assert read(["0", "1"], np.array([0, 1])).classes == ("0", "1")
    assert read(["True", "x"], [True, None]).classes == ("True", "x")


def test_a_class_name_that_is_listed_twice_is_said() -> None:
    read = read_labels([np.array([0, 1])], [2], [("crane", "crane")], ["file"])
    assert read.codes.tolist() == [0, 1]
    assert any("'crane' more than once" in remark for remark in read.remarks)
