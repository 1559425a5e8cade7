"""Samples, mistakes, confusion, map and neighbours of a run; and what is said where sources are gone."""

from __future__ import annotations

import base64
import csv
import io
import re
import shutil
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from small_world import CLASSES, sentences, write_pictures
from uml_cache import InputError
from uml_evaluate.report.exhibits.samples import Budget, Samples
from uml_evaluate.report.exhibits.spaces import _flat
from uml_evaluate.report.html import write_report
from uml_extract import extract, samples_of
from uml_manifests import from_folder, resolve_data
from uml_train import TrainSettings, find_runs, train


class Page(HTMLParser):
    """What a page shows of samples, and the texts of its folds."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.pictures: list[str] = []
        self.sounds: list[str] = []
        self.folds: list[str] = []
        self.texts: list[str] = []
        self._in: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in.append(tag)
        source = dict(attrs).get("src") or ""
        if tag == "img":
            self.pictures.append(source)
        if tag == "audio":
            self.sounds.append(source)

    def handle_data(self, data: str) -> None:
        if self._in and self._in[-1] == "summary":
            self.folds.append(data)
        self.texts.append(data)

    def handle_endtag(self, tag: str) -> None:
        while self._in and self._in.pop() != tag:
            pass


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures and sentences of three classes, extracted and trained on."""
    root = tmp_path_factory.mktemp("world")
    write_pictures(root / "pictures", 20)
    with (root / "texts.csv").open("w", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["id", "text", "label"])
        writer.writerows([i, *pair] for i, pair in enumerate(zip(*sentences(6), strict=True)))
    for data, encoder in (("pictures", "hog-color"), ("texts.csv", "hashed-ngrams")):
        manifest = resolve_data(root / data, name="toy")
        extract(manifest, encoder, out=root / "feats")
    train(
        TrainSettings(
            cache=root / "feats", out=root / "runs", shots=(2,), seeds=(1, 2),
            methods=("unimodal-deep", "uml"),
        )
    )  # fmt: skip
    return root


def page_of(world: Path, out: Path, **options: object) -> Page:
    written = write_report(world / "runs", out=out / "page.html", **options)  # type: ignore[arg-type]
    return Page(written.path.read_text(encoding="utf-8"))


def test_everything_is_shown(world: Path, tmp_path: Path) -> None:
    page = page_of(world, tmp_path)
    for fold in (
        "Samples of each class",
        "Right and wrong, with and without the unpaired data",
        "Confusion: which class is taken for which",
        "A map of the features",
        "Nearest neighbours: text",
    ):
        assert fold in page.folds
    shown = " ".join(page.texts)
    assert "Left out" not in shown
    assert "a blue ring lies there, number 0" in shown
    assert re.search(r"Right more often with the unpaired data: \d+ of 12 test samples", shown)
    assert "is of the same class for" in shown
    assert "Chance: what guessing gives" in shown
    assert len(page.pictures) >= 4 * len(CLASSES)
    for source in page.pictures:
        kind, _, data = source.partition(",")
        assert kind == "data:image/jpeg;base64"
        with Image.open(io.BytesIO(base64.b64decode(data))) as image:
            assert max(image.size) <= 112
    for name in ("confusion", "map", "key"):
        assert (tmp_path / "figures" / f"toy-image-text-{name}.svg").exists()


def test_it_begins_with_a_sentence_a_table_and_a_picture(world: Path, tmp_path: Path) -> None:
    write_report(world / "runs", out=tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    places = [text.index(mark) for mark in ('<p class="finding">', "<table>", "<svg", "<details>")]
    assert places == sorted(places)
    sentence = re.search(r'<p class="finding">([^<]*)<', text)
    assert sentence is not None
    assert sentence[1].startswith("toy: unpaired texts ")
    assert len(sentence[1]) < 250


def test_the_test_rows_are_those_of_the_predictions(world: Path) -> None:
    (run,) = find_runs(world / "runs")
    samples = Samples(run, Budget())
    rows, manifest = samples.test_rows, samples.manifest("image")
    assert rows is not None
    assert manifest is not None
    classes = list(run.config["classes"])
    found = [classes.index(manifest.classes[manifest.labels[row]]) for row in rows]
    np.testing.assert_array_equal(found, run.test_labels)


def test_the_page_has_a_limit(world: Path) -> None:
    (run,) = find_runs(world / "runs")
    budget = Budget(3_000)
    samples = Samples(run, budget)
    shown = [samples.show("image", row) for row in range(20)]
    assert 0 < sum(one is not None for one in shown) < 20
    assert budget.refused == sum(one is None for one in shown)
    assert sum(len(one.data) for one in shown if one is not None) <= 3_000


def test_sources_that_are_gone_or_others_are_one_line(world: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    shutil.move(world / "pictures", moved)
    try:
        page = page_of(world, tmp_path)
    finally:
        shutil.move(moved, world / "pictures")
    (line,) = [text for text in page.texts if text.startswith("Left out")]
    assert re.search(r"image samples are not shown \(.*pictures", line)
    assert page.pictures == []
    assert "A map of the features" in page.folds
    assert "Confusion: which class is taken for which" in page.folds
    extra = world / "pictures" / "red dot" / "new.png"
    shutil.copy(next((world / "pictures" / "red dot").iterdir()), extra)
    try:
        page = page_of(world, tmp_path)
    finally:
        extra.unlink()
    assert any("has changed since the features were made" in text for text in page.texts)


def test_none_are_shown_where_none_are_wanted(world: Path, tmp_path: Path) -> None:
    page = page_of(world, tmp_path, samples=False)
    assert page.pictures == []
    assert "A map of the features" not in page.folds
    assert not any("Left out" in text for text in page.texts)


def test_maps_of_other_kinds(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert any("made by t-SNE" in text for text in page_of(world, tmp_path, map="tsne").texts)
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(InputError, match=r"pip install 'uml-cache\[maps\]'"):
        page_of(world, tmp_path, map="umap")
    with pytest.raises(InputError, match="unknown map"):
        page_of(world, tmp_path, map="pce")


def test_sounds_play(world: Path, tmp_path: Path) -> None:
    rate = 22_050
    wave = 0.4 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)
    (tmp_path / "sounds" / "beep").mkdir(parents=True)
    soundfile.write(tmp_path / "sounds" / "beep" / "a.wav", wave, rate)
    (run,) = find_runs(world / "runs")
    samples = Samples(run, Budget(), {"audio": from_folder(tmp_path / "sounds")})
    shown = samples.show("audio", 0)
    assert shown is not None
    kind, _, data = shown.data.partition(",")
    assert kind in ("data:audio/mpeg;base64", "data:audio/wav;base64")
    played, found_rate = soundfile.read(io.BytesIO(base64.b64decode(data)))
    spectrum = np.abs(np.fft.rfft(played))
    assert abs(np.fft.rfftfreq(len(played), 1 / found_rate)[spectrum.argmax()] - 440) < 5


def test_a_store_leads_to_its_samples_and_to_no_others(world: Path, tmp_path: Path) -> None:
    from uml_cache import find_stores

    manifest = resolve_data(world / "pictures", name="toy")
    store = next(one for one in find_stores(world / "feats") if one.modality == "image")
    assert samples_of(store).ids == manifest.ids
    done = extract(replace(manifest, origin=None), "hog-color", out=tmp_path / "feats")
    (other,) = find_stores(done.store)
    with pytest.raises(InputError, match="does not say where its samples came from"):
        samples_of(other)
    (done.store.with_name("hog-color.origin.json")).write_text('{"manifest_digest": "1", "x": 2}')
    with pytest.raises(InputError, match="is damaged"):
        samples_of(other)


@pytest.mark.parametrize("shape", [(300, 40), (30, 120), (50, 2)])
def test_a_map_shows_the_two_directions_of_most_variance(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    values = 5.0 + rng.standard_normal(shape) * np.linspace(4.0, 0.5, shape[1])
    points = _flat(values, "pca")
    left, spread, _ = np.linalg.svd(values - values.mean(0), full_matrices=False)
    theirs = left[:, :2] * spread[:2]
    found = points - points.mean(0)
    assert np.abs(np.abs((found * theirs).sum(0)) / np.square(theirs).sum(0) - 1).max() < 1e-9
    assert (points[np.abs(points).argmax(0), [0, 1]] > 0).all()
