"""Texts about classes: templates, description files, and how their keys meet class names."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from uml_cache.errors import InputError
from uml_manifests import (
    Manifest,
    description_manifest,
    from_coop,
    load_manifest,
    match_descriptions,
    template_manifest,
    write_manifest,
)

FORMATS = Path(__file__).resolve().parents[4] / "shared" / "data" / "formats"


def source(*classes: str, modality: str = "image", prompts: tuple[str, ...] = ()) -> Manifest:
    return Manifest(
        name="zoo",
        modality=modality,
        classes=classes,
        root=Path("/zoo"),
        ids=["a"],
        sources=["a.png"],
        labels=np.array([0]),
        splits=np.array([0]),
        prompts=prompts,
    )


def test_template_sets() -> None:
    zoo = source("red_panda", "Owl", prompts=("{} at night", "{}, by day"))
    vanilla = template_manifest(zoo, "vanilla")
    assert vanilla.sources == ["a photo of a red panda.", "a photo of a Owl."]
    assert (vanilla.store_name, vanilla.classes, vanilla.name) == ("text.vanilla", zoo.classes, "zoo")
    assert template_manifest(zoo, "classname").sources == ["red panda", "Owl"]
    handwritten = template_manifest(zoo, "handwritten")
    assert handwritten.sources[:2] == ["red panda at night", "red panda, by day"]
    assert handwritten.ids == ["0-0", "0-1", "1-0", "1-1"]
    assert handwritten.labels.tolist() == [0, 0, 1, 1]
    assert set(handwritten.splits.tolist()) == {255}
    assert template_manifest(zoo, ["my {}", "{} {}"]).sources[:2] == ["my red panda", "red panda red panda"]
    assert template_manifest(source("dog", modality="audio"), "vanilla").sources == ["the sound of a dog."]


@pytest.mark.parametrize(
    ("templates", "message"),
    [
        ("vanila", "did you mean vanilla"),
        ("handwritten", "has no handwritten prompts"),
        (["x"], "has no {}"),
        ([], "no templates"),
    ],
)
def test_wrong_templates(templates: str | list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        template_manifest(source("owl"), templates)


def test_descriptions_keep_classes_and_list_the_missing(tmp_path: Path) -> None:
    file = tmp_path / "d.json"
    file.write_text(json.dumps({"Red Panda": ["soft\nand red", " "], "owl": "hoots", "yak": ["big"]}))
    manifest = description_manifest(source("face", "red_panda", "owl"), file, set="cupl")
    assert manifest.classes == ("face", "red_panda", "owl")
    assert manifest.missing_classes == ("face",)
    assert manifest.sources == ["soft\nand red", "hoots"]
    assert manifest.ids == ["1-0", "2-0"]
    assert load_manifest(write_manifest(manifest, tmp_path / "t")).sources == manifest.sources


def test_a_class_whose_texts_are_blank_is_missing() -> None:
    manifest = description_manifest(source("owl", "yak"), {"owl": ["  "], "yak": ["big"]})
    assert manifest.missing_classes == ("owl",)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("owl", "owl"),
        ("american_bulldog", "American Bulldog"),
        ("2012 Acura TL Sedan", "Acura TL Sedan 2012"),
        ("Acura TL Sedan 2012", "2012 acura tl sedan"),
        ("indoor apse", "apse (indoor)"),
        ("indoor_apse", "Apse (indoor)"),
    ],
)
def test_keys_that_fit(name: str, key: str) -> None:
    assert match_descriptions([name, "other"], [key, "unused"]) == ([key, None], ["unused"])


def test_keys_that_do_not_fit() -> None:
    assert (
        match_descriptions(
            ["apse (outdoor)", "Boeing 747", "face"], ["apse (indoor)", "747 Boeing", "faces"]
        )[0]
        == [None] * 3
    )


def test_an_exact_key_wins_over_a_similar_one() -> None:
    assert match_descriptions(["Crane", "crane"], ["crane", "Crane"]) == (["Crane", "crane"], [])
    with pytest.raises(InputError, match="'CRANE' and 'Crane' both fit class 'crane'"):
        match_descriptions(["crane"], ["CRANE", "Crane"])


def test_repeated_class_names_all_get_the_texts() -> None:
    manifest = description_manifest(source("crane", "crane"), {"crane": ["lifts"]})
    assert manifest.labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{,", "line 1: not valid JSON"),
        ("[1]", "expected an object of class names"),
        ('{"owl": [1]}', "'owl' must hold a list of texts"),
        ('{"yak": ["x"]}', "no description fits a class of data set 'zoo'"),
    ],
)
def test_wrong_description_files(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "d.json").write_text(content)
    with pytest.raises(InputError, match=message):
        description_manifest(source("owl"), tmp_path / "d.json")


@pytest.mark.skipif(not FORMATS.is_dir(), reason="the real description files are not here")
def test_real_descriptions_fit_the_real_classes(tmp_path: Path) -> None:
    pets = from_coop(FORMATS / "split_zhou_OxfordPets.json", tmp_path, "oxford_pets")
    manifest = description_manifest(pets, FORMATS / "descriptors_oxford_pets.json")
    assert manifest.missing_classes == ()
    assert len(manifest) == 37 * 30
    assert any("\n" in text for text in manifest.sources)
