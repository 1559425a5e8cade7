"""Loose texts get the class that they mention, by the rules that are written down; all are counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from uml_cache.errors import InputError
from uml_manifests import assign_mentions, from_folder, load_manifest, resolve_data
from uml_manifests.describe import count_line, show_data, text_counts
from uml_manifests.manifest.manifest import Manifest
from uml_manifests.texts.mentions import Mentions
from uml_manifests.workspace import build_texts

CLASSES = ("cat", "Egyptian_cat", "fox", "crying baby", "boeing 747-200", "butterfly", "crane", "crane")


def of_classes(names: tuple[str, ...] = CLASSES) -> Manifest:
    return Manifest(
        name="zoo", modality="image", classes=names, root=Path("/x"), ids=["a"], sources=["a.png"],
        labels=[0], splits=[255],
    )  # fmt: skip


def assign(tmp_path: Path, *texts: str, synonyms: dict[str, list[str]] | None = None) -> Mentions:
    (tmp_path / "t.txt").write_text("\n".join(texts) + "\n")
    return assign_mentions(resolve_data(tmp_path / "t.txt", name="zoo"), of_classes(), synonyms)


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("A CAT sat.", 0),
        ("two cats, and a cat's tail", 0),
        ("concatenate the catalogue", None),
        ("an egyptian cat", 1),
        ("Egyptian Cats asleep", 1),
        ("an egyptian cat and a cat", "several"),
        ("a cat and a fox", "several"),
        ("three foxes", 2),
        ("foxy", None),
        ("many butterflies", 5),
        ("a crying-baby", 3),
        ("crying babies", 3),
        ("crying, said the baby", None),
        ("the Boeing 747-200s at Zurich", 4),
        ("a boeing 747", None),
        ("a crane", "several"),
    ],
)
def test_rules(tmp_path: Path, text: str, label: int | str | None) -> None:
    found = assign(tmp_path, text, "kitty fox")
    assert (found.texts, found.labelled) == (2, 0)
    expected = [label] if isinstance(label, int) else []
    assert found.manifest.labels.tolist() == [*expected, 2]
    assert found.ambiguous == (label == "several")
    assert found.unmatched == (label is None)
    assert found.shared == ("crane",)


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("사과를 먹는다", 0),  # as an object
        ("맛있는 사과가 있다", 0),  # as a subject
        ("사과들은 붉다", 0),  # many of them
        ("사과나무", None),  # another word begins with it
        ("사과과", None),  # ends in a vowel, so that its particle is 와
        ("물로 씻다", 1),
        ("물은 맑다", 1),
        ("물으로", None),  # ends in ㄹ, so that its particle is 로
        ("집에서는 잔다", 2),
        ("집으로부터", 2),
        ("사과와 물", "several"),
        ("큰 빨간 의자에", 3),
        ("CD를 듣는다", 4),  # another script takes either form
        ("CD을 듣는다", 4),
        ("사과잼을 산다", 5),
        ("물과를 본다", 6),  # a class's own name comes before a form of a shorter one
    ],
)
def test_korean_particles_behind_a_name(tmp_path: Path, text: str, label: int | str | None) -> None:
    classes = of_classes(("사과", "물", "집", "빨간 의자", "CD", "사과잼", "물과"))
    (tmp_path / "t.txt").write_text(f"{text}\n집\n", encoding="utf-8")
    found = assign_mentions(resolve_data(tmp_path / "t.txt", name="zoo"), classes)
    assert found.manifest.labels.tolist() == [*([label] if isinstance(label, int) else []), 2]
    assert found.ambiguous == (label == "several")


@pytest.mark.parametrize(
    ("names", "text", "label"),
    [
        (("पाल", "घर"), "यह पुल है", None),  # a bridge is no sail: vowel signs are part of the word
        (("पाल", "घर"), "यह घर है", 1),
        (("cafe\u0301", "bar"), "le café est ouvert", 0),
        (("แมว", "หมา"), "ฉันมีแมวสองตัว", 0),  # no blanks between words
        (("猫", "犬"), "三匹の犬がいる", 1),
        (("リンゴ", "水"), "リンゴを食べる", 0),
    ],
)
def test_words_of_other_scripts(tmp_path: Path, names: tuple[str, ...], text: str, label: int | None) -> None:
    (tmp_path / "t.txt").write_text(f"{text}\n{names[1]}\n", encoding="utf-8")
    found = assign_mentions(resolve_data(tmp_path / "t.txt", name="zoo"), of_classes(names))
    assert found.manifest.labels.tolist() == [*([] if label is None else [label]), 1]


def test_synonyms(tmp_path: Path) -> None:
    found = assign(
        tmp_path,
        "a kitty",
        "Reynard ran",
        "vulpes vulpes",
        synonyms={"CAT": ["kitty"], "fox": ["reynard", "vulpes vulpes"]},
    )
    assert found.manifest.labels.tolist() == [0, 2, 2]
    with pytest.raises(InputError, match="unknown class in the synonyms: 'caat'; did you mean cat"):
        assign(tmp_path, "x", synonyms={"caat": ["kitty"]})
    with pytest.raises(
        InputError, match=r"none of 1 texts can be given a class .* 0 mention several, 1 none"
    ):
        assign(tmp_path, "nothing here")


def test_json_lines_with_and_without_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("cat", "dog"):
        (tmp_path / "zoo" / name).mkdir(parents=True)
        (tmp_path / "zoo" / name / "1.png").write_bytes(b"x")
    manifest = from_folder("zoo")
    lines = [
        {"text": "a wet nose", "label": "Dog"},
        {"text": "cats purr"},
        {"text": "rain"},
        {"text": "cat, dog"},
    ]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    built = build_texts("zoo", None, None, texts="t.jsonl")
    assert built.mentions is not None
    assert (built.mentions.labelled, built.mentions.matched) == (1, 1)
    assert (built.mentions.ambiguous, built.mentions.unmatched) == (1, 1)
    again = load_manifest("data/zoo/text.loose")
    assert again.classes == manifest.classes
    assert again.labels.tolist() == [1, 0]
    assert again.sources == ["a wet nose", "cats purr"]
    assert again.options == ("labels=by mention",)
    counts = text_counts(again)
    assert counts == {"texts": 2, "words": 5, "per_class": {"cat": [1, 2], "dog": [1, 3]}}
    assert count_line(counts) == "2 texts, 5 words; per class 1 texts, 2 to 3 (median 2) words"
    value, text = show_data("data/zoo/text.loose")
    assert value["manifests"][0]["text"] == counts
    assert "2 texts, 5 words" in text
    (tmp_path / "t.jsonl").write_text('{"text": "x", "label": "horse"}\n')
    with pytest.raises(InputError, match="unknown class of data set 'zoo': 'horse'"):
        build_texts("zoo", None, None, texts="t.jsonl")
    with pytest.raises(InputError, match="--synonyms are names to look for in loose texts"):
        build_texts("zoo", "vanilla", None, synonyms="t.jsonl")


def test_features_become_sentences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "zoo/red_fox").mkdir(parents=True)
    (tmp_path / "zoo/red_fox/1.png").write_bytes(b"x")
    (tmp_path / "d.json").write_text(json.dumps({"Red Fox": ["four legs", "a bushy tail.", "often red"]}))
    built = build_texts("zoo", None, "d.json", style="features")
    assert built.manifest.sources == [
        "red fox, which has four legs.", "red fox, which is a bushy tail.", "red fox, which often red.",
    ]  # fmt: skip
    assert build_texts("zoo", None, "d.json").manifest.sources[0] == "four legs"


def test_what_got_no_class_and_names_that_would_help(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = ("001.Laysan_Albatross", "002.Rusty_Blackbird", "003.House_Wren", "004.Marsh_Wren")
    for name in names:
        (tmp_path / "birds" / name).mkdir(parents=True)
        (tmp_path / "birds" / name / "a.png").write_bytes(b"")
    lines = [
        "001 Laysan Albatross",  # as it is called
        "a laysan albatross at sea",  # without its number
        "an albatross",  # by its last word
        "some wren",  # several classes end so
        "a 001 laysan albatross and a 002 rusty blackbird",
    ]
    (tmp_path / "notes.txt").write_text("\n".join(lines))
    built = build_texts("birds", None, None, texts="notes.txt")
    assert [(p.rule, p.adds) for p in built.proposals] == [("without numbers", 1), ("last words", 2)]
    unmatched = (built.folder / "unmatched.csv").read_text().splitlines()
    assert unmatched == ["id,text", "2,a laysan albatross at sea", "3,an albatross", "4,some wren"]
    ambiguous = (built.folder / "ambiguous.csv").read_text().splitlines()
    assert ambiguous == ["id,text,classes", f"5,{lines[4]},{names[0]}; {names[1]}"]
    proposed = json.loads((built.folder / "proposed_synonyms.json").read_text())
    assert proposed[names[0]] == ["laysan albatross", "albatross"]
    assert proposed[names[2]] == ["house wren"]
    again = build_texts(
        "birds", None, None, texts="notes.txt", synonyms=built.folder / "proposed_synonyms.json"
    )
    assert again.mentions is not None
    assert (again.mentions.matched, again.mentions.unmatched) == (3, 1)
    assert not (again.folder / "proposed_synonyms.json").exists()


def test_where_nothing_is_mentioned_the_error_says_the_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("001.Laysan_Albatross", "002.Rusty_Blackbird"):
        (tmp_path / "birds" / name).mkdir(parents=True)
        (tmp_path / "birds" / name / "a.png").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("a laysan albatross\nthe rusty blackbird\n")
    with pytest.raises(InputError, match="would label 2") as caught:
        build_texts("birds", None, None, texts="notes.txt")
    path = str(caught.value).rpartition("--synonyms ")[2]
    found = build_texts("birds", None, None, texts="notes.txt", synonyms=path)
    assert len(found.manifest) == 2
