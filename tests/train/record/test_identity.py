"""A run is what its settings and the content of its stores make it: compared in full, never mixed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from run_records import change_record
from toy_stores import clusters, write_store
from uml_cache import InputError, Output, WorkError
from uml_train import TrainSettings, complete, find_runs, load_run, open_run_problem, train
from uml_train.record.cell import Cell, plain_name
from uml_train.record.identity import first_difference, store_remarks
from uml_train.runs import workers

Settings = Callable[..., TrainSettings]


def _change_texts(cache: Path) -> None:
    """The same texts by name and plan, with other features."""
    shutil.rmtree(cache / "toy" / "text")
    words = np.tile(np.arange(5), 10)
    write_store(cache, "text", clusters(9, words, 16, 0.5), words, np.full(50, 255))


def test_other_content_is_another_run_beside_the_old_one(
    cache: Path, settings_for: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = settings_for(cache, auxiliaries=(("text",),), methods=("uml",))
    old = train(settings)
    files = {path: path.read_bytes() for path in old.path.rglob("*") if path.is_file()}
    _change_texts(cache)
    capsys.readouterr()
    new = train(settings, output=Output())
    assert new.path != old.path
    said = capsys.readouterr().err
    why = f"{old.path} was trained on other features of text"
    assert f"{why}; it is kept, and {new.path} is a new run" in said
    assert {path: path.read_bytes() for path in old.path.rglob("*") if path.is_file()} == files
    heads = [[r.head_path.read_bytes() for r in run.cells] for run in (old, new)]
    assert heads[0] != heads[1]
    assert train(settings).path == new.path  # and goes on there


def test_what_became_of_the_stores_is_said(cache: Path, settings_for: Settings, tmp_path: Path) -> None:
    run = train(settings_for(cache, auxiliaries=(("text",),), methods=("uml",)))
    assert store_remarks(run) == []
    moved = cache.rename(tmp_path / "elsewhere")
    (absent,) = store_remarks(run)
    assert absent.startswith(f"the stores of image and text are not where {run.path} was trained on them")
    assert store_remarks(run, moved) == []
    moved.rename(cache)
    _change_texts(cache)
    (changed,) = store_remarks(run)
    assert changed.startswith(f"the features of text have changed since {run.path} was trained")
    with pytest.raises(InputError, match=r"text.*has changed since .* to train a new run"):
        complete(run, shots=(4,))
    assert complete(run, shots=(2,)) == []  # what is there needs no store


def test_a_run_of_version_0_1_is_read_and_not_added_to(
    cache: Path, settings_for: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = settings_for(cache, auxiliaries=(("text",),), methods=("uml",))
    run = train(settings)
    old = run.path.rename(run.path.with_name("toy-image-0123abcd"))
    _as_version_0_1(old)
    old_run = load_run(old)
    assert {r.cell for r in old_run.cells} == {r.cell for r in train(settings).cells}
    assert [r.test_predictions.tolist() for r in old_run.cells]
    (said,) = store_remarks(old_run)
    assert said.startswith(f"{old} was made by version 0.1: its files carry no checksums")
    with pytest.raises(InputError, match=r"made by version 0\.1.*to train a new run"):
        complete(old_run, shots=(4,))
    capsys.readouterr()
    shutil.rmtree(run.path)
    train(settings, output=Output())
    assert f"{old} was made by version 0.1" in capsys.readouterr().err


def _as_version_0_1(folder: Path) -> None:
    """Take away what version 0.1 did not write."""
    for path in [folder / "config.json", folder / "splits.json", *(folder / "cells").iterdir()]:
        values = json.loads(path.read_text())
        for key in ("sha256", "identity", "digest", "files", "run"):
            values.pop(key, None)
        if path.name == "config.json":
            values["format"] = 1
            for store in values["stores"].values():
                plan = json.loads((Path(store["path"]) / "zarr.json").read_text())
                store["fingerprint"] = plan["attributes"]["fingerprint"]
        path.write_text(json.dumps(values))


def test_a_folder_that_holds_another_run_is_refused(cache: Path, settings_for: Settings) -> None:
    settings = settings_for(cache, auxiliaries=(("text",),), methods=("uml",), alpha=(1.0,))
    run = train(settings)
    change_record(run.path / "config.json", lambda c: c["identity"]["settings"].update(alpha=[2.0]))
    with pytest.raises(InputError, match=r"holds another run \(settings.alpha: \[2.0\], not \[1.0\]\)"):
        train(settings)


def test_names_are_long_and_differ_with_every_setting(cache: Path, settings_for: Settings) -> None:
    settings = {"auxiliaries": (("text",),), "methods": ("unimodal",), "seeds": (1,)}
    runs = [train(settings_for(cache, **settings, **more)).path.name for more in ({}, {"normalize": "l2"})]
    assert all(len(name.rpartition("-")[2]) == 16 for name in runs)
    assert runs[0] != runs[1]


def test_first_difference_is_named() -> None:
    assert first_difference({"a": {"b": [1]}}, {"a": {"b": [1]}}) is None
    assert first_difference({"a": {"b": [1]}}, {"a": {"b": [2]}}) == "a.b: [1], not [2]"
    assert first_difference({}, {"a": 1}) == "a: None, not 1"


def test_a_store_that_changes_while_it_is_trained_on_is_noticed(
    cache: Path, settings_for: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cells of one run are of one content, and the rest is not trained."""
    own, trained = workers.train_cell, []

    def changing(*arguments: Any, **options: Any) -> Any:
        found = own(*arguments, **options)
        trained.append(arguments[1])
        if len(trained) == 2:
            _change_texts(cache)
        return found

    monkeypatch.setattr(workers, "train_cell", changing)
    settings = settings_for(cache, auxiliaries=(("text",),), methods=("unimodal", "uml"))
    with pytest.raises(WorkError, match=r"text.*was changed while a run trained on it"):
        train(settings)
    (run,) = find_runs(settings.out)
    assert len(run.cells) <= 1
    monkeypatch.undo()
    again = train(settings)
    assert again.path != run.path
    assert len(again.cells) == 4


def test_a_process_that_starts_late_finds_the_same_store_or_says_so(
    cache: Path, settings_for: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train(settings_for(cache, auxiliaries=(("text",),), methods=("uml",), seeds=(1,)))
    monkeypatch.setattr(workers, "_worker", {})
    stores = {label: Path(store["path"]) for label, store in run.config["stores"].items()}
    workers._start_worker(run.path, stores)
    finished, _ = workers._train_in_worker(run.cells[0].cell)
    assert np.array_equal(finished.answers.predictions, run.cells[0].test_predictions)
    _change_texts(cache)
    workers._start_worker(run.path, stores)
    with pytest.raises(WorkError, match="was changed while a run trained on it"):
        workers._train_in_worker(run.cells[0].cell)


def test_a_run_opens_again_with_the_class_map_that_it_was_made_with(
    cache: Path, settings_for: Settings, tmp_path: Path
) -> None:
    file = tmp_path / "map.csv"
    file.write_text("auxiliary,target\nred circle,green star\ngreen star,red circle\n")
    run = train(settings_for(cache, auxiliaries=(("text",),), methods=("uml",), class_map=file))
    labels = open_run_problem(run).auxiliaries["text"].labels
    file.write_text("auxiliary,target\nred circle,blue square\n")
    assert np.array_equal(open_run_problem(run).auxiliaries["text"].labels, labels)
    file.unlink()
    assert np.array_equal(open_run_problem(run).auxiliaries["text"].labels, labels)


def test_cells_never_share_a_file_name() -> None:
    def key(label: str) -> str:
        return Cell(auxiliaries=(label,), method="uml", control=None, shots=1, seed=1, shared_width=4).key

    labels = ["text", "text.a", "text.日本", "text.中国", "text:a", "text=a", "text_a", "text a", "text/a"]
    keys = [key(label) for label in labels]
    assert len(set(keys)) == len(keys)
    assert keys[0] == "uml-data-text-w4-k1-s1"
    assert all(name.isascii() and "/" not in name for name in keys)
    assert plain_name("margin-text+audio") == "margin-text+audio"
