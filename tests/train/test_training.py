"""From a cache to a run folder: which cells there are, what they record, resuming, completing."""

from __future__ import annotations

import csv
import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from toy_stores import CLASSES, clusters, write_store
from uml_cache import open_features
from uml_cache.errors import InputError
from uml_manifests import few_shot
from uml_train import TrainSettings, complete, find_runs, load_run, newest_run, train
from uml_train.commands import train as train_command
from uml_train.run import write_atomic
from uml_train.training import open_run_problem

Settings = Callable[..., TrainSettings]


def test_every_cell_once_and_the_unimodal_ones_shared(cache: Path, settings_for: Settings) -> None:
    run = train(settings_for(cache, controls=("permuted", "random")))
    assert len({r.cell for r in run.cells}) == len(run.cells)
    per_seed = {(r.cell.method, r.cell.control, r.cell.auxiliaries) for r in run.cells if r.cell.seed == 1}
    # Three configurations, whose first auxiliaries are 10 (audio) and 16 (text) wide.
    assert sorted(r.cell.shared_width for r in run.cells if r.cell.method == "unimodal-deep") == [
        10,
        10,
        16,
        16,
    ]
    configurations = {("text",), ("audio",), ("text", "audio")}
    assert per_seed == {
        ("unimodal", None, ()),
        ("unimodal-deep", None, ()),
        *(("init-only", None, c) for c in configurations),
        *(("uml-init", None, c) for c in configurations),
        *(("uml", x, c) for x in (None, "permuted", "random") for c in configurations),
    }


def test_run_folder_tells_everything(cache: Path, settings_for: Settings) -> None:
    run = train(settings_for(cache, auxiliaries=(("text",),), normalize="standard"))
    rows = list(csv.DictReader((run.path / "results.csv").read_text().splitlines()))
    assert len(rows) == 2 * 5 * 2  # seeds × methods × candidates
    for row in rows:
        assert (row["test_acc"] != "") == (row["selected"] == "1")
        assert row["label_budget"] == str(5 * (2 + 2))
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert {"cell", "candidate", "step", "val_acc", "loss.image"} <= lines[0].keys()
    splits = json.loads((run.path / "splits.json").read_text())
    features = open_features(cache / "toy" / "image" / "made-up.zarr")
    draw = few_shot(features.label, features.split, shots=2, seed=1)
    assert splits["draws"]["k2-s1"] == {
        "train": [f"image-{i}" for i in draw.train_rows],
        "val": [f"image-{i}" for i in draw.val_rows],
    }
    assert len(splits["test"]) == len(run.test_labels) == 100
    assert run.path.name.startswith("toy-image-")
    assert run.config["stores"]["text"]["encoder"] == "made-up"


def test_exported_head_repeats_the_recorded_predictions(cache: Path, settings_for: Settings) -> None:
    run = train(settings_for(cache, auxiliaries=(("text",),), normalize="standard", methods=("uml-init",)))
    features = open_features(cache / "toy" / "image" / "made-up.zarr")
    test = torch.from_numpy(np.flatnonzero(features.split == 2))
    for result in run.cells:
        head = load_file(result.head_path)
        x = features.pooled[test].float()
        x = (x - head["normalize.mean.image"]) / head["normalize.scale.image"]
        logits = head["scales"][0] * (x @ head["projection.image"].T @ head["head"].T)
        assert np.array_equal(logits.argmax(1).numpy(), result.test_predictions)
        score = 100 * (result.test_predictions == run.test_labels).mean()
        assert result.test_acc == pytest.approx(score)
        assert result.val_acc == max(c["val_acc"] for c in result.candidates)


def test_permuted_text_is_fitted_as_well_and_gives_other_heads(cache: Path, settings_for: Settings) -> None:
    run = train(settings_for(cache, auxiliaries=(("text",),), methods=("uml",), controls=("permuted",)))
    by_control = {c: [r for r in run.cells if r.cell.control == c] for c in (None, "permuted")}
    for results in by_control.values():  # both can be fitted: permuting is consistent within a class
        assert max(r.history[0][-1]["loss.text"] for r in results) < 0.8
    for result, other in zip(by_control[None], by_control["permuted"], strict=True):
        assert not torch.equal(load_file(result.head_path)["head"], load_file(other.head_path)["head"])


def test_same_settings_same_run_and_nothing_is_trained_twice(cache: Path, settings_for: Settings) -> None:
    settings = settings_for(cache, auxiliaries=(("text",),))
    first = train(settings)
    stamps = {p: p.stat().st_mtime_ns for p in (first.path / "cells").iterdir()}
    again = train(settings)
    assert again.path == first.path
    assert {p: p.stat().st_mtime_ns for p in (first.path / "cells").iterdir()} == stamps
    assert train(settings_for(cache, auxiliaries=(("text",),), normalize="l2")).path != first.path


def test_interrupted_run_resumes_to_the_results_of_a_whole_one(
    cache: Path, settings_for: Settings, tmp_path: Path
) -> None:
    whole = train(settings_for(cache, out=tmp_path / "whole"))
    part = train(settings_for(cache, out=tmp_path / "part"))
    cells = sorted((part.path / "cells").iterdir())
    for path in cells[::2]:  # as if the process had died before writing them, one leaving its temporary file
        path.rename(path.with_name(f".{path.name}.1.partial"))
    (part.path / "results.csv").unlink()
    resumed = train(settings_for(cache, out=tmp_path / "part"))
    for ours, theirs in zip(resumed.cells, whole.cells, strict=True):
        assert ours.cell == theirs.cell
        assert (ours.val_acc, ours.test_acc, ours.history) == (
            theirs.val_acc,
            theirs.test_acc,
            theirs.history,
        )
        assert ours.head_path.read_bytes() == theirs.head_path.read_bytes()


def test_processes_give_the_bits_of_one(
    cache: Path, settings_for: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = train(settings_for(cache, out=tmp_path / "one", auxiliaries=(("text",),)))
    monkeypatch.setattr("uml_train.runs.workers._WORTH_A_PROCESS", 0)
    monkeypatch.setattr("uml_train.runs.workers.available_cores", lambda: 2)
    several = train(settings_for(cache, out=tmp_path / "two", auxiliaries=(("text",),)))
    for a, b in zip(alone.cells, several.cells, strict=True):
        assert a.head_path.read_bytes() == b.head_path.read_bytes()
        assert a.history == b.history


def test_complete_adds_what_is_missing_with_the_runs_own_settings(
    cache: Path, settings_for: Settings
) -> None:
    run = train(settings_for(cache, auxiliaries=(("text",),)))
    created = run.created
    added = complete(run, shots=(2, 4, "all"))
    assert {cell.shots for cell in added} == {4, "all"}
    assert complete(run, shots=(4,)) == []
    run = load_run(run.path)
    assert run.created == created
    assert {r.cell.shots for r in run.cells} == {2, 4, "all"}
    budget = {r.cell.shots: r.label_budget for r in run.cells}
    assert budget == {2: 20, 4: 40, "all": 60}
    splits = json.loads((run.path / "splits.json").read_text())
    assert {"k2-s1", "k4-s2"} <= splits["draws"].keys()


def test_complete_refuses_a_cache_that_has_changed(cache: Path, settings_for: Settings) -> None:
    run = train(settings_for(cache, auxiliaries=(("text",),), methods=("uml",)))
    shutil.rmtree(cache / "toy" / "text")
    words = np.tile(np.arange(5), 11)
    write_store(cache, "text", clusters(9, words, 17, 0.5), words, np.full(55, 255))
    with pytest.raises(InputError, match="has changed since"):
        complete(run, shots=(4,))


def test_newest_run_is_the_one_begun_last(cache: Path, settings_for: Settings, tmp_path: Path) -> None:
    first = train(settings_for(cache, methods=("unimodal",)))
    second = train(settings_for(cache, methods=("unimodal",), normalize="l2"))
    train(settings_for(cache, methods=("unimodal",)))  # repeating the first does not make it the newest
    assert newest_run(tmp_path / "runs").path == second.path
    assert [r.path for r in find_runs(tmp_path / "runs")] == [first.path, second.path]
    assert newest_run(first.path).path == first.path


def test_without_splits_they_are_drawn_kept_by_group_and_saved(
    tmp_path: Path, settings_for: Settings
) -> None:
    labels = np.tile(np.arange(5), 24)
    groups = [f"g{i // 5 % 12}" for i in range(120)]
    write_store(
        tmp_path / "f", "audio", clusters(1, labels, 6, 1.0), labels, np.full(120, 255), groups=groups
    )
    run = train(settings_for(tmp_path / "f", methods=("unimodal",)))
    splits = json.loads((run.path / "splits.json").read_text())
    parts = {p: {groups[int(i.split("-")[1])] for i in splits[p]} for p in ("train", "val", "test")}
    assert sum(len(splits[p]) for p in parts) == 120
    assert not parts["train"] & parts["test"]
    assert not parts["train"] & parts["val"]
    assert not parts["val"] & parts["test"]
    assert any("every group in one part" in remark for remark in run.config["remarks"])


def test_missing_validation_split_is_taken_from_train(tmp_path: Path, settings_for: Settings) -> None:
    labels = np.tile(np.arange(5), 20)
    write_store(tmp_path / "f", "image", clusters(1, labels, 6, 1.0), labels, np.repeat([0, 2], 50))
    run = train(settings_for(tmp_path / "f", methods=("unimodal",)))
    assert run.config["rows"] == {"train": 40, "val": 10, "test": 50}


def test_unreadable_rows_are_in_no_draw_and_no_score(tmp_path: Path, settings_for: Settings) -> None:
    labels = np.tile(np.arange(5), 32)
    splits = np.repeat([0, 1, 2], [40, 20, 100])
    write_store(tmp_path / "f", "image", clusters(1, labels, 6, 1.0), labels, splits, failed=[0, 5, 61, 159])
    run = train(settings_for(tmp_path / "f", methods=("unimodal",)))
    ids = json.loads((run.path / "splits.json").read_text())
    assert not {"image-0", "image-5", "image-61", "image-159"} & set(ids["train"] + ids["val"] + ids["test"])
    assert len(run.test_labels) == 98
    assert run.config["stores"]["image"]["failed_rows"] == 4


def test_a_short_class_gives_all_it_has_where_asked_for(tmp_path: Path, settings_for: Settings) -> None:
    labels = np.repeat(np.arange(5), 12)
    splits = np.tile([0] * 6 + [1] * 4 + [2] * 2, 5)
    splits[1:6] = 255  # one training row of the first class is left, four validation rows
    write_store(tmp_path / "f", "image", clusters(1, labels, 6, 1.0), labels, splits)
    with pytest.raises(InputError, match="'red circle' has 1 train samples"):
        train(settings_for(tmp_path / "f", methods=("unimodal",), shots=(4,)))
    run = train(settings_for(tmp_path / "f", methods=("unimodal",), shots=(4,), short_classes="whole"))
    assert {result.label_budget for result in run.cells} == {1 + 4 * 4 + 5 * 4}
    drawn = run.splits["draws"][f"k4-s{run.cells[0].cell.seed}"]
    assert (len(drawn["train"]), drawn["train"][:1]) == (17, ["image-0"])
    assert complete(load_run(run.path), shots=(2,))
    more = [result for result in load_run(run.path).cells if result.cell.shots == 2]
    assert {result.label_budget for result in more} == {1 + 4 * 2 + 5 * 2}


def test_classes_meet_by_name_and_the_rest_is_listed(tmp_path: Path, settings_for: Settings) -> None:
    feats = tmp_path / "f"
    labels = np.tile(np.arange(5), 32)
    write_store(feats, "image", clusters(1, labels, 6, 1.0), labels, np.repeat([0, 1, 2], [40, 20, 100]))
    theirs = ("Blue_Square", "purple cone", "red  circle")
    words = np.tile(np.arange(3), 6)
    write_store(feats, "text", clusters(2, words, 8, 0.5), words, np.full(18, 255), classes=theirs)
    run = train(settings_for(feats))
    notes = run.config["class_notes"]["text"]
    assert notes == {
        "without_auxiliary": ["blue circle", "red square", "green star"],
        "unused": ["purple cone"],
    }
    init = next(r for r in run.cells if r.cell.method == "init-only")
    assert load_file(init.head_path)["head"].shape == (5, 8)


def test_class_map_joins_names_that_differ(tmp_path: Path, settings_for: Settings) -> None:
    feats = tmp_path / "f"
    labels = np.tile(np.arange(5), 32)
    write_store(feats, "image", clusters(1, labels, 6, 1.0), labels, np.repeat([0, 1, 2], [40, 20, 100]))
    words = np.tile(np.arange(2), 6)
    write_store(feats, "text", clusters(2, words, 8, 0.5), words, np.full(12, 255), classes=("stern", "rot"))
    with pytest.raises(InputError, match="no class in common"):
        train(settings_for(feats))
    table = tmp_path / "map.csv"
    table.write_text("auxiliary,target\nstern,green star\nrot,red circle\n")
    run = train(settings_for(feats, class_map=table, methods=("uml",)))
    assert run.config["class_notes"]["text"]["without_auxiliary"] == list(CLASSES[1:4])
    table.write_text("auxiliary,target\nstern,yellow star\n")
    with pytest.raises(InputError, match="yellow star"):
        train(settings_for(feats, class_map=table))


def test_texts_per_class(cache: Path, settings_for: Settings) -> None:
    from uml_train.runs.drawn import auxiliary_rows

    run = train(settings_for(cache, auxiliaries=(("text",),), methods=("uml",), texts=3))
    problem = open_run_problem(run)
    cell = run.cells[0].cell
    features, labels = auxiliary_rows(problem.auxiliaries["text"], cell, run.settings)
    assert torch.bincount(labels).tolist() == [3] * 5
    means, mean_labels = auxiliary_rows(problem.auxiliaries["text"], cell, settings_for(cache, texts="mean"))
    every, every_labels = auxiliary_rows(problem.auxiliaries["text"], cell, settings_for(cache))
    assert mean_labels.tolist() == [0, 1, 2, 3, 4]
    everything = every.take(torch.arange(len(every))).values
    torch.testing.assert_close(means.take(torch.tensor([2])).values[0], everything[every_labels == 2].mean(0))
    assert len(features) == 15


def test_a_cache_with_one_modality_trains_the_unimodal_methods(
    tmp_path: Path, settings_for: Settings
) -> None:
    labels = np.tile(np.arange(5), 32)
    write_store(
        tmp_path / "f", "text", clusters(1, labels, 6, 1.0), labels, np.repeat([0, 1, 2], [40, 20, 100])
    )
    run = train(settings_for(tmp_path / "f"))
    assert {r.cell.method for r in run.cells} == {"unimodal", "unimodal-deep"}
    assert run.config["target"] == "text"
    with pytest.raises(InputError, match="uml extract --encoder hog-color"):
        train(settings_for(tmp_path / "f", methods=("uml",)))


def test_shots_that_the_data_cannot_give(cache: Path, settings_for: Settings) -> None:
    run = train(settings_for(cache, shots=None, methods=("unimodal",)))
    assert {r.cell.shots for r in run.cells} == {1, 2, 4, 8}
    with pytest.raises(InputError, match="16"):
        train(settings_for(cache, shots=(16,)))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dataset": "tyo"}, "did you mean toy"),
        ({"target": "imgae"}, "did you mean image"),
        ({"target": "image:made-down"}, "did you mean made-up"),
        ({"auxiliaries": (("video",),)}, "unknown --aux modality"),
        ({"auxiliaries": (("image",),)}, "target's own store"),
        ({"auxiliaries": (("text", "text"),)}, "twice"),
    ],
)
def test_names_that_fit_nothing(
    cache: Path, settings_for: Settings, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        train(settings_for(cache, **values))


def test_several_stores_that_fit_are_listed(cache: Path, settings_for: Settings) -> None:
    labels = np.tile(np.arange(5), 32)
    write_store(
        cache, "image", clusters(5, labels, 9, 1.0), labels, np.repeat([0, 1, 2], [40, 20, 100]), encoder="b"
    )
    with pytest.raises(InputError, match=r"image:b, image:made-up; name one of them with --target"):
        train(settings_for(cache))
    run = train(settings_for(cache, target="image:b", methods=("unimodal",)))
    assert run.config["stores"]["image:b"]["dim"] == 9
    write_store(
        cache, "image", clusters(5, labels, 9, 1.0), labels, np.repeat([0, 1, 2], [40, 20, 100]), dataset="x"
    )
    with pytest.raises(InputError, match="several data sets: toy, x"):
        train(settings_for(cache))


def test_two_text_sets_are_two_auxiliaries(cache: Path, settings_for: Settings) -> None:
    words = np.tile(np.arange(5), 4)
    shutil.rmtree(cache / "toy" / "audio")
    write_store(cache, "text", clusters(6, words, 7, 0.5), words, np.full(20, 255), set="cupl")
    run = train(settings_for(cache, methods=("uml",)))
    assert {r.cell.auxiliaries for r in run.cells} == {("text",), ("text.cupl",), ("text", "text.cupl")}


def test_unsealed_and_absent_caches(cache: Path, settings_for: Settings, tmp_path: Path) -> None:
    labels = np.tile(np.arange(5), 200)
    write_store(
        cache, "audio", clusters(3, labels, 10, 0.5), labels, np.full(1000, 255), encoder="big", tasks=1
    )
    with pytest.raises(InputError, match="uml extract"):
        train(settings_for(cache, auxiliaries=(("audio:big",),)))
    with pytest.raises(InputError, match="does not exist"):
        train(settings_for(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no feature store"):
        train(settings_for(tmp_path / "empty"))


def test_command_prints_one_json_object_or_a_sentence_and_three_points(
    cache: Path, small_grid: str, tmp_path: Path
) -> None:
    arguments = ["--cache", str(cache), "--aux", "text", "--shots", "1,2", "--seeds", "1-2"]
    arguments += ["--grid", small_grid, "--out", str(tmp_path / "r"), "--control", "random"]
    answer = CliRunner().invoke(train_command, [*arguments, "--json"], catch_exceptions=False)
    value = json.loads(answer.stdout)
    assert value["models"] == 2 * 2 * (5 + 1) * 2
    assert value["model_steps"] > 0
    assert Path(value["results"]).is_file()
    assert set(value) == {"run", "models", "model_steps", "seconds", "results", "rows"}
    assert {label: (r["used"], r["of"], r["left_out"]) for label, r in value["rows"].items()} == {
        label: (r["usable_rows"], r["rows"], {})
        for label, r in load_run(value["run"]).config["stores"].items()
    }
    assert "image: " in answer.stderr.splitlines()[-2]
    assert answer.stderr.splitlines()[-1].endswith(" used")
    shown = CliRunner().invoke(train_command, arguments, catch_exceptions=False)
    first, *others = shown.stdout.splitlines()
    assert first.startswith(f"Trained {value['models']} models in ")
    assert first.endswith(" s.")
    assert len(first.split()) <= 25
    assert [other.partition(":")[0] for other in others] == ["- run", "- results", "- next"]


def test_damaged_run_folders(cache: Path, settings_for: Settings, tmp_path: Path) -> None:
    run = train(settings_for(cache, methods=("unimodal",)))
    cell = next((run.path / "cells").iterdir())
    cell.write_text("{")
    with pytest.raises(InputError, match="damaged"):
        _ = load_run(run.path).cells
    (run.path / "config.json").write_bytes(b"\xff")
    with pytest.raises(InputError, match="damaged"):
        load_run(run.path)
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="holds no run"):
        newest_run(tmp_path / "none")
    with pytest.raises(InputError, match="does not exist"):
        load_run(tmp_path / "nothing")


def test_an_auxiliary_never_holds_the_targets_held_out_samples(
    tmp_path: Path, settings_for: Settings
) -> None:
    """A second encoder over the same pictures, without splits: the same ids are the same samples."""
    feats = tmp_path / "f"
    labels = np.tile(np.arange(5), 32)
    pictures = clusters(1, labels, 6, 1.0)
    write_store(feats, "image", pictures, labels, np.full(160, 255))
    write_store(feats, "image", pictures, labels, np.full(160, 255), encoder="second")
    run = train(
        settings_for(feats, target="image:made-up", auxiliaries=(("image:second",),), methods=("uml",))
    )
    problem = open_run_problem(run)
    splits = json.loads((run.path / "splits.json").read_text())
    used = problem.auxiliaries["image:second"]
    ids = {str(used.features.id[row]) for row in used.rows}
    assert ids == set(splits["train"])
    assert any("left out" in remark for remark in run.config["remarks"])


def test_groups_of_the_test_part_are_in_no_auxiliary(tmp_path: Path, settings_for: Settings) -> None:
    feats = tmp_path / "f"
    labels = np.tile(np.arange(5), 32)
    groups = [f"speaker-{i // 20}" for i in range(160)]
    parts = np.repeat([0, 1, 2], [80, 40, 40])
    write_store(feats, "audio", clusters(1, labels, 6, 1.0), labels, parts, groups=groups)
    words = np.tile(np.arange(5), 16)
    theirs = [f"speaker-{i // 10}" for i in range(80)]
    write_store(feats, "text", clusters(2, words, 8, 0.5), words, np.full(80, 255), groups=theirs)
    run = train(settings_for(feats, methods=("uml",)))
    used = open_run_problem(run).auxiliaries["text"]
    assert {theirs[row] for row in used.rows} == {f"speaker-{i}" for i in range(4)}
    assert run.config["test_groups"] == 2


def test_splits_that_cut_a_group_are_refused(tmp_path: Path, settings_for: Settings) -> None:
    labels = np.tile(np.arange(5), 32)
    parts = np.repeat([0, 1, 2], [40, 20, 100])
    groups = ["george" if i % 50 == 0 else f"s{i}" for i in range(160)]
    write_store(tmp_path / "f", "audio", clusters(1, labels, 6, 1.0), labels, parts, groups=groups)
    with pytest.raises(InputError, match="group 'george' occurs in train and val"):
        train(settings_for(tmp_path / "f"))


def test_a_run_finds_its_stores_among_new_ones_and_where_they_moved(
    cache: Path, settings_for: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train(settings_for(cache, auxiliaries=(("text",),)))
    labels = np.tile(np.arange(5), 32)
    splits = np.repeat([0, 1, 2], [40, 20, 100])
    write_store(cache, "image", clusters(5, labels, 9, 1.0), labels, splits, encoder="another")
    assert {cell.shots for cell in complete(run, shots=(1,))} == {1}
    moved = cache.rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="--cache"):
        complete(run, shots=(4,))
    monkeypatch.setattr("uml_train.runs.workers._WORTH_A_PROCESS", 0)
    monkeypatch.setattr("uml_train.runs.workers.available_cores", lambda: 2)
    assert {cell.shots for cell in complete(run, shots=(4,), cache=moved)} == {4}


def test_a_class_map_that_names_no_auxiliary_class(
    cache: Path, settings_for: Settings, tmp_path: Path
) -> None:
    table = tmp_path / "map.csv"
    table.write_text("auxiliary,target\ngreen stars,green star\n")
    with pytest.raises(InputError, match="did you mean green star"):
        train(settings_for(cache, class_map=table))


def test_a_full_disk_leaves_the_file_as_it_was_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "results.csv"
    write_atomic(file, b"before")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(file, b"after")
    assert [p.name for p in tmp_path.iterdir()] == ["results.csv"]
    assert file.read_bytes() == b"before"
