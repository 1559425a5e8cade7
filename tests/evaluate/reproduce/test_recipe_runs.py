"""Recipes run: from a cache or from data, compared with what was printed, resumed, and what cannot be run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from toy_stores import clusters, write_store
from uml_cache.errors import InputError
from uml_evaluate.commands.reproduce_command import reproduce
from uml_evaluate.reproduce.recipe.parts import Need
from uml_evaluate.reproduce.supply import Sources, Supply
from uml_manifests.workspace import build_data, build_texts

RECIPE = """
title = "a toy"
kind = "heads"
datasets = ["toy", "absent"]
auxiliaries = ["text"]
encoders = { image = "made-up", text = "made-up" }
note = "A note."

[train]
shots = [1, 2]
seeds = [1, 2, 3]
controls = ["random"]

[grid]
lr = [0.01]
steps = 20
warmup = 2
eval_every = 10
batch_size = [8]

[[published]]
items = ["a table"]
source = "a paper"
across = "shots"
columns = [1, 2]
rows = [
    { dataset = "toy", method = "unimodal", values = [50.0, 60.0] },
    { dataset = "toy", method = "uml", values = [55.0, "-"] },
]
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with a cache of pictures and texts and the recipe above."""
    monkeypatch.chdir(tmp_path)
    labels = np.tile(np.arange(5), 12)
    splits = np.repeat([0, 1, 2], 20)
    write_store(tmp_path / "feats", "image", clusters(1, labels, 12, 1.5), labels, splits)
    write_store(tmp_path / "feats", "text", clusters(2, labels, 16, 0.5), labels, np.full(60, 255))
    (tmp_path / "mine.toml").write_text(RECIPE)
    return tmp_path


def _run(*words: str) -> str:
    done = CliRunner().invoke(reproduce, [*words, "--quiet"], catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


def _answer(*words: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_run(*words, "--json"))
    return found


def _lines(text: str, head: str) -> list[list[str]]:
    """The words of the lines of the table below a heading."""
    block = text.partition(head)[2].partition("\n\n")[0]
    return [line.split() for line in block.splitlines()]


def test_measured_beside_printed_and_what_could_not_run(place: Path) -> None:
    text = _run("mine.toml")
    value = json.loads((place / "reproduce" / "mine" / "result.json").read_text())
    mean = {
        (n["method"], n["control"], n["shots"]): n["value"]
        for n in value["numbers"]
        if n["dataset"] == "toy" and n["measure"] == "accuracy"
    }
    assert {m for m, _, _ in mean} == {"unimodal", "unimodal-deep", "init-only", "uml", "uml-init"}
    assert ("uml", "random", 2) in mean
    assert ["unimodal", "50.00", "60.00"] in _lines(text, "The paper, a paper")
    difference = next(line for line in _lines(text, "Measured − paper") if line[:1] == ["uml"])
    assert float(difference[1].replace("−", "-")) == pytest.approx(mean["uml", None, 1] - 55.0, abs=0.051)
    assert difference[2] == "–"
    assert "uml − unimodal-deep" in text
    assert "uml − uml[random]" in text
    assert "nor ./data has absent image, and no benchmark has that name" in text
    assert "A note." in text
    assert [entry["what"] for entry in value["not_run"]] == ["absent"]
    assert value["runs"][0]["stores"]["text:made-up"]["fingerprint"]
    assert value["runs"][0]["seeds"] == [1, 2, 3]
    assert {"torch", "uml-cache"} <= set(value["versions"])
    assert "`uml[random]`" in (place / "reproduce" / "mine" / "decomposition.md").read_text()


def test_a_second_time_trains_nothing_and_a_torn_cell_is_trained_again(place: Path) -> None:
    first = _answer("mine.toml", "--out", "here")
    cells = sorted((place / "here" / "runs").glob("*/cells/*.json"))
    written = {path: path.stat().st_mtime_ns for path in cells}
    cells[0].unlink()
    again = _answer("mine.toml", "--out", "here")
    assert again["numbers"] == first["numbers"]
    assert again["differences"] == first["differences"]
    changed = {path for path in cells if path.stat().st_mtime_ns != written[path]}
    assert changed == {cells[0]}


def test_results_of_others_stand_beside(place: Path) -> None:
    _run("mine.toml", "--only", "toy", "--seeds", "1", "--out", "theirs")
    (place / "results").mkdir()
    value = json.loads((place / "theirs" / "result.json").read_text())
    value["numbers"] = [{**n, "value": 12.34} for n in value["numbers"]]
    (place / "results" / "mine-alice.json").write_text(json.dumps(value))
    (place / "results" / "other.json").write_text(json.dumps({**value, "recipe": "another"}))
    text = _run("mine.toml", "--only", "toy", "--with", "results")
    assert ["unimodal", "12.34", "12.34"] in _lines(text, "Contributed, mine-alice")
    assert text.count("Contributed") == 1
    (place / "mine.toml").write_text(RECIPE.partition("[[published]]")[0])
    text = _run("mine.toml", "--only", "toy", "--with", "results", "--with", "theirs")
    assert "add it under [[published]]" in text
    assert text.count("Contributed, mine-alice: test accuracy") == 1
    assert text.count("Contributed, theirs: test accuracy") == 1
    nothing = CliRunner().invoke(reproduce, ["mine.toml", "--with", "feats"])
    assert "feats holds no result file" in str(nothing.exception)
    (place / "bad.json").write_text("{}")
    bad = CliRunner().invoke(reproduce, ["mine.toml", "--with", "bad.json"])
    assert "no result file" in str(bad.exception)


def test_a_dry_run_counts_and_writes_nothing(place: Path) -> None:
    before = sorted(place.rglob("*"))
    value = _answer("mine.toml", "--dry-run")
    toy, absent = value["parts"]
    assert (toy["models"], toy["missing"]) == (6 * 3 * 2, 0)
    assert toy["seconds"] > 0
    assert toy["head_bytes"] > 0
    assert absent["models"] == toy["models"]
    assert absent["missing"] == 2
    assert [m["what"] for m in value["missing"]] == ["absent image by made-up", "absent text by made-up"]
    assert sorted(place.rglob("*")) == before
    text = _run("table17", "--only", "oxford_pets", "--dry-run")
    assert f"oxford_pets image by dinov2_vits14, at least {2 * 384 * 7349 / 1e6:.0f} MB" in text
    assert f"1 runs, {3 * 3 * 5 * 24:,} models" in text  # unimodal, uml, uml-init; no controls
    fair = _run("table17", "--only", "oxford_pets", "--dry-run", "--protocol", "fair")
    # 8 strengths of every method and control, 4 of ridge, 16 of prior and its controls.
    assert f"1 runs, {(5 * 8 + 2 * 8 + 4 + 3 * 16) * 3 * 5:,} models" in fair
    shifts = _run("shift-imagenet", "--dry-run")
    assert "imagenet_sketch image by dinov2_vits14" in shifts


def test_features_are_extracted_where_the_data_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for c, name in enumerate(("red", "green", "blue")):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for i in range(10):
            values = rng.integers(0, 120, (24, 24, 3))
            values[..., c] += 100
            Image.fromarray(values.astype(np.uint8)).save(tmp_path / "pictures" / name / f"{i}.png")
    from uml_manifests.workspace import build_data

    build_data("colours", tmp_path / "pictures")
    text = RECIPE.replace('"toy", "absent"', '"colours"').replace('["text"]', '["text.vanilla"]')
    text = text.replace('image = "made-up", text = "made-up"', 'image = "hog-color", text = "hashed-ngrams"')
    text = text.partition("[[published]]")[0].replace("[1, 2, 3]", "[1]").replace("[1, 2]", "[1]")
    (tmp_path / "mine.toml").write_text(text)
    value = _answer("mine.toml")
    assert value["not_run"] == []
    assert {n["method"] for n in value["numbers"]} >= {"unimodal", "uml", "uml-init"}
    assert (tmp_path / "feats" / "colours" / "text.vanilla" / "hashed-ngrams.zarr").is_dir()
    assert (tmp_path / "data" / "colours" / "text.vanilla").is_dir()
    listed = json.loads(_run("--list", "--json"))
    assert next(row for row in listed if row["name"] == "table17")["published"] is True


def test_a_data_root_is_read_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = [f"texture {c}" for c in range(47)]
    parts: dict[str, list[Any]] = {"train": [], "val": [], "test": []}
    (tmp_path / "roots" / "dtd" / "images").mkdir(parents=True)
    for c, name in enumerate(names):
        for part, count in zip(parts, (60, 24, 36), strict=True):
            for i in range(count):
                file = f"{c}-{part}-{i}.jpg"
                (tmp_path / "roots" / "dtd" / "images" / file).write_bytes(b"x")
                parts[part].append([file, c, name])
    split = tmp_path / "roots" / "dtd" / "split_zhou_DescribableTextures.json"
    split.write_text(json.dumps(parts))
    (tmp_path / "cupl").mkdir()
    sentences = {name: [f"It looks like {name}.", f"A {name}."] for name in names}
    (tmp_path / "cupl" / "descriptors_dtd.json").write_text(json.dumps(sentences))
    texts = Need(dataset="dtd", place="text.cupl", encoder=None)
    with pytest.raises(InputError, match=r"no data: \./data has no dtd image; give --data DIR"):
        Supply(Sources(cache=tmp_path / "feats")).manifest(texts)
    lacking = Supply(Sources(cache=tmp_path / "feats", data=tmp_path / "roots"))
    with pytest.raises(InputError, match="give --descriptions DIR"):
        lacking.manifest(texts)
    supply = Supply(
        Sources(cache=tmp_path / "feats", data=tmp_path / "roots", descriptions=tmp_path / "cupl")
    )
    assert len(supply.manifest(texts)) == 2 * 47
    pictures = supply.manifest(Need(dataset="dtd", place="image", encoder=None))
    assert (len(pictures), pictures.root) == (5640, tmp_path / "roots" / "dtd" / "images")
    with pytest.raises(InputError, match=r"no data: .* has no folder ucf101"):
        supply.manifest(Need(dataset="ucf101", place="image", encoder=None))


def test_weights_that_are_missing_are_asked_for_once(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import uml_extract

    asked: list[str] = []

    def load(name: str, **options: Any) -> None:
        asked.append(name)
        raise InputError(f"no checkpoint of {name}\nmore")

    monkeypatch.setattr(uml_extract, "load_encoder", load)
    supply = Supply(Sources(cache=place / "feats"))
    monkeypatch.setattr(supply, "manifest", lambda need: None)
    for data in ("one", "two"):
        with pytest.raises(InputError, match=r"^no weights: no checkpoint of pixels$"):
            supply.store(Need(dataset=data, place="image", encoder="pixels"))
    assert asked == ["pixels"]


def test_what_there_is_instead_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures" / "red").mkdir(parents=True)
    Image.new("RGB", (8, 8), "red").save(tmp_path / "pictures" / "red" / "a.png")
    build_data("toy", tmp_path / "pictures")
    build_texts("toy", "vanilla", None)
    supply = Supply(Sources(cache=tmp_path / "feats"))
    with pytest.raises(InputError, match=r"has toy text; there is text\.vanilla; give --descriptions"):
        supply.store(Need(dataset="toy", place="text", encoder="hashed-ngrams"))
    with pytest.raises(InputError, match="did you mean hashed-ngrams"):
        supply.store(Need(dataset="toy", place="text", encoder="hashed-ngram"))


def test_the_wanted_transform_counts_first(tmp_path: Path) -> None:
    labels = np.tile(np.arange(5), 4)
    for variant in (None, "paper", "paper-tokens"):
        tokens = None if variant != "paper-tokens" else [np.ones((2, 3), np.float32)] * 20
        write_store(
            tmp_path, "image", clusters(1, labels, 6, 1.0), labels, np.full(20, 255), variant=variant,
            tokens=tokens,
        )  # fmt: skip
    write_store(tmp_path, "text", clusters(1, labels, 6, 1.0), labels, np.full(20, 255), tasks=0)
    supply = Supply(Sources(cache=tmp_path))

    def found(**wanted: Any) -> str | None:
        store = supply.find(Need(dataset="toy", place="image", encoder="made-up", **wanted))
        assert store is not None
        return store.variant

    assert (found(), found(transform="paper")) == (None, "paper")
    assert found(tokens=True) == "paper-tokens"
    assert supply.find(Need(dataset="toy", place="text", encoder="made-up")) is None  # unsealed
    assert supply.find(Need(dataset="toy", place="image.other", encoder="made-up")) is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tabel17"], "did you mean table17"),
        ([], "which table"),
        (["table17", "--only", "oxford_pet"], "did you mean oxford_pets"),
        (["table17", "--weights", "audioclip"], "ENCODER=PATH"),
        (["table17", "--sweep", "noise"], "belongs to the kind gaussian"),
        (["gaussian", "--only", "mosi"], "data set of gaussian"),
        (["gaussian", "--dry-run"], "has none"),
    ],
)
def test_wrong_use_is_said_in_a_line(place: Path, words: list[str], message: str) -> None:
    done = CliRunner().invoke(reproduce, words)
    assert message in str(done.exception)
    assert getattr(done.exception, "exit_code", None) == 2


def test_where_nothing_can_be_run_the_reasons_are_shown_and_it_fails(place: Path) -> None:
    done = CliRunner().invoke(reproduce, ["mine.toml", "--only", "absent", "--quiet"])
    assert "absent: no data" in done.stdout
    assert "The paper, a paper" in done.stdout
    assert getattr(done.exception, "exit_code", None) == 1


@pytest.mark.parametrize("name", ["boundary-dtd", "vision-text", "table29"])
def test_recipes_run_small(tmp_path: Path, name: str) -> None:
    value = _answer(name, "--scale", "tiny", "--out", str(tmp_path))
    fair = _answer(name, "--scale", "tiny", "--out", str(tmp_path), "--protocol", "fair")
    for one, protocol in ((value, "paper"), (fair, "fair")):
        assert (one["scale"], one["protocol"], one["not_run"]) == ("tiny", protocol, [])
        methods = {(n["method"], n["control"]) for n in one["numbers"]}
        assert ("uml", None) in methods
        assert bool({control for _, control in methods} - {None}) == (protocol == "fair")
    assert (tmp_path / "fair" / "tiny" / "result.json").is_file()
    if name == "boundary-dtd":
        assert {"knitted", "cobwebbed"} <= set(value["findings"][0]["said"][0].replace(",", "").split())
    if name == "table29":
        assert {n["variant"] for n in value["numbers"]} == {"frozen", "unfrozen"}
        frozen, unfrozen = (
            next(s["encoder"] for label, s in run["stores"].items() if label.startswith("text"))
            for run in value["runs"]
        )
        assert (frozen, unfrozen) == ("open_llama_3b", "language@tuned")


def test_folds_are_averaged_and_shifts_are_no_data_sets_of_their_own(tmp_path: Path) -> None:
    value = _answer("esc-audio-clip", "--scale", "tiny", "--out", str(tmp_path / "sounds"))
    of = {"dataset": "imagenet_esc19", "variant": "Audio + Text", "shots": 1, "control": None}

    def every(where: str, key: str, **wanted: Any) -> list[float]:
        return [
            entry[key] for entry in value[where] if all(entry[k] == v for k, v in {**of, **wanted}.items())
        ]

    [pooled] = every("numbers", "value", method="uml", measure="accuracy")
    runs = sorted((tmp_path / "sounds" / "tiny" / "runs").iterdir())
    accuracies = [
        cell["test_acc"]
        for path in (path for run in runs for path in (run / "cells").glob("uml-data-text*-k1-*.json"))
        for cell in [json.loads(path.read_text())]
        if "image" not in "".join(cell["auxiliaries"])
    ]
    assert len(accuracies) == 2 * 2
    assert pooled == pytest.approx(np.mean(accuracies))
    text = _run("esc-audio-clip", "--scale", "tiny", "--out", str(tmp_path / "sounds"))
    assert "What each step adds, mean over folds" in text
    shifts = _run("shift-imagenet", "--scale", "tiny", "--out", str(tmp_path / "shifts"))
    assert "mean over data sets" not in shifts
    assert "sketch" in shifts


def test_a_small_run_is_never_compared(tmp_path: Path) -> None:
    text = _run("granularity", "--scale", "tiny", "--out", str(tmp_path))
    assert "Its numbers mean nothing" in text
    assert "paper" not in text.partition("mean nothing")[2].partition("What each step")[0]
