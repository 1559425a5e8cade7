"""`uml extract` as a user types it: results, the demo's data without --data, one line for each mistake."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import uml_manifests
from uml_cache import find_stores, open_features
from uml_cache.cli import main
from uml_cache.settings import declared
from uml_extract.settings import ExtractSettings
from uml_manifests import Manifest, render_shapes, write_manifest

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `uml extract ARGUMENTS` in an empty folder → exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as leaving:
            main(["extract", *arguments])
        out, err = capsys.readouterr()
        code: Any = leaving.value.code
        return code, out, err

    return call


@pytest.fixture
def small_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    def render(root: str | Path = "data/shapes") -> dict[str, Manifest]:
        return render_shapes(root, train=1, val=1, test=1, texts=2)

    monkeypatch.setattr(uml_manifests, "shapes_data", render, raising=False)


def test_json_is_one_object_and_nothing_else(run: Run, pictures: Manifest, tmp_path: Path) -> None:
    data = write_manifest(pictures, tmp_path / "m")
    code, out, err = run("--encoder", "hog-color", "--data", str(data), "--json", "--tokens")
    assert (code, err) == (0, "")
    value = json.loads(out)
    assert list(value) == [
        *("store", "rows", "failed", "tasks", "resumed_tasks", "seconds", "rows_per_second"),
        *("used", "of", "left_out", "lacking", "remarks"),
    ]
    assert (value["used"], value["of"], value["left_out"], value["lacking"]) == (150, 150, {}, {})
    assert value["store"] == "feats/toy/image/hog-color@tokens.zarr"
    assert (value["rows"], value["failed"], value["resumed_tasks"]) == (150, 0, 0)
    code, out, _ = run("--encoder", "hog-color", "--data", str(data), "--tokens")
    assert code == 0
    assert "complete already, 150 rows" in out


def test_without_data_the_shapes_are_used_and_all_modalities_extracted(run: Run, small_shapes: None) -> None:
    code, out, err = run("--encoder", "pixels", "--json")
    assert code == 0
    value = json.loads(out)
    assert value["store"] == "feats/shapes/image/pixels.zarr"
    assert [Path(also["store"]).stem for also in value["also"]] == ["hashed-ngrams", "log-mel"]
    assert "./data/shapes" in err
    assert "built-in hashed-ngrams" in err
    stores = {(info.modality, info.encoder_name, info.sealed) for info in find_stores("feats")}
    assert stores == {("image", "pixels", True), ("text", "hashed-ngrams", True), ("audio", "log-mel", True)}
    code, out, err = run("--encoder", "hashed-ngrams", "--quiet")
    assert (code, err) == (0, "")
    assert len(find_stores("feats")) == 4  # the pictures' hog-color came with it


def test_a_trial_has_a_store_of_its_own(run: Run, pictures: Manifest, tmp_path: Path) -> None:
    data = str(write_manifest(pictures, tmp_path / "m"))
    words = ("--encoder", "hog-color", "--data", data)
    code, out, _ = run(*words, "--limit", "10", "--json")
    assert code == 0
    told = json.loads(out)
    assert (told["store"], told["rows"], told["of"]) == ("feats/toy/image/hog-color@limit10.zarr", 10, 10)
    assert told["remarks"] == ["a trial with 10 of 150 samples, spread over the data set"]
    some, whole = open_features(told["store"]), None
    assert run(*words)[0] == 0  # the whole is no business of the trial's
    whole = open_features("feats/toy/image/hog-color.zarr")
    assert len(whole) == 150
    at = {name: row for row, name in enumerate(whole.id)}
    rows = [at[name] for name in some.id]
    assert rows == sorted(rows)
    assert (rows[0], rows[-1]) == (0, 149)
    np.testing.assert_array_equal(some.pooled.numpy(), whole.pooled[rows].numpy())
    np.testing.assert_array_equal(some.label, np.asarray(whole.label)[rows])
    assert (
        json.loads(run(*words, "--limit", "1000", "--json")[1])["store"] == "feats/toy/image/hog-color.zarr"
    )


def test_a_dry_run_says_what_there_is_to_do_and_writes_nothing(
    run: Run, pictures: Manifest, tmp_path: Path
) -> None:
    data = str(write_manifest(pictures, tmp_path / "m"))
    before = sorted(path for path in tmp_path.rglob("*"))
    words = ("--encoder", "hog-color", "--data", data, "--batch-size", "16")
    code, out, err = run(*words, "--dry-run", "--json")
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert sorted(path for path in tmp_path.rglob("*")) == before
    assert (told["rows"], told["tasks"], told["done"], told["batch_size"]) == (150, 3, 0, 16)
    assert told["bytes_to_read"] == sum(pictures.path(row).stat().st_size for row in range(150))
    assert 0 < told["seconds"] < 60
    assert json.loads(run(*words, "--json")[1])["store"] == told["store"]
    features = open_features(told["store"]).pooled
    assert told["bytes_to_write"] == 2 * features.shape[0] * features.shape[1]
    done = json.loads(run(*words, "--dry-run", "--json")[1])
    assert (done["done"], done["seconds"]) == (3, 0.0)
    assert "time     none: the store is complete" in run(*words, "--dry-run")[1]
    text = run(*words, "--dry-run", "--limit", "3")[1]
    assert "3 rows in 1 task\n" in text
    assert "nothing was written" in text
    code, _, err = run("--encoder", "hog-color", "--dry-run")
    assert code == 2
    assert "--dry-run goes with --data" in err


def test_missing_labels_and_empty_classes_are_remarked(run: Run, pictures: Manifest, tmp_path: Path) -> None:
    (tmp_path / "loose.txt").write_text("A red ball.\nIt rained.\n")
    _, _, err = run("--encoder", "hashed-ngrams", "--data", "loose.txt")
    assert "the samples have no labels" in err
    assert "`uml data text loose --texts loose.txt`" in err
    (tmp_path / "half.csv").write_text("id,text,label\na,A red ball.,ball\nb,It rained.,\n")
    _, _, err = run("--encoder", "hashed-ngrams", "--data", "half.csv")
    assert "1 of 2 samples have no label" in err
    (tmp_path / "m" / "sounds").mkdir(parents=True)
    (tmp_path / "m" / "red").mkdir()
    (tmp_path / "m" / "red" / "a.png").write_bytes(pictures.path(0).read_bytes())
    _, _, err = run("--encoder", "hog-color", "--data", "m", "--max-errors", "1")
    assert "1 of 2 classes have no image sample: sounds" in err


def test_a_missing_checkpoint_is_said_before_anything_is_rendered(run: Run, tmp_path: Path) -> None:
    code, out, err = run("--encoder", "dinov2_vits14")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert err.startswith("error: encoder dinov2_vits14")
    assert not list(tmp_path.iterdir())


def test_list_as_table_and_json(run: Run) -> None:
    code, out, _ = run("--list", "--json")
    assert code == 0
    listed = {row["name"]: row for row in json.loads(out)}
    assert {"dino_vitb16", "dino_vitb8", "dinov2_vits14", "dinov2_vitb14", "dinov2_vitl14"} <= set(listed)
    assert {"bert_large", "roberta_large", "gpt2_large", "open_llama_3b", "timm:ID", "hf:ID"} <= set(listed)
    assert listed["dinov2_vits14"]["width"] == 384
    assert listed["log-mel"]["modality"] == "audio"
    assert {"clip_vitb16", "clip_rn50_text", "clap", "whisper", "audioclip", "dinov3_vits16"} <= set(listed)
    code, out, _ = run("--list")
    assert all(name in out for name in listed)
    line = next(line for line in out.splitlines() if line.startswith("dinov2_vits14"))
    assert {"image", "384", "22", "Apache-2.0", "timm:vit_small_patch14_dinov2.lvd142m"} <= set(line.split())
    assert line.split().count("384") == 2  # of a pooled vector, and of a token


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give --encoder NAME"),
        (["--encoder", "hog-colour"], "did you mean hog-color"),
        (["--encoder", "pixels", "--name", "x"], "describe --data, which is missing"),
        (["--encoder", "pixels", "--data", "nowhere/at/all"], "nowhere/at/all"),
        (["--encoder", "pixels", "--data", "TEXTS"], "encoder pixels takes image, TEXTS holds text"),
        (["--encoder", "hashed-ngrams", "--data", "TEXTS", "--dtype", "int8"], "unknown dtype 'int8'"),
        (["--encoder", "hashed-ngrams", "--data", "TEXTS", "--batch-size", "many"], "--batch-size is 'many'"),
        (["--encoder", "hashed-ngrams", "--data", "TEXTS", "--batch-size", "0"], "--batch-size is '0'"),
        (["--encoder", "hashed-ngrams", "--data", "TEXTS", "--max-errors", "200%"], "--max-errors is '200%'"),
        (["--encoder", "hashed-ngrams", "--data", "TEXTS", "--max-errors", "-1"], "--max-errors is '-1'"),
        (
            ["--encoder", "hashed-ngrams", "--data", "TEXTS", "--executor", "slrum"],
            "unknown executor 'slrum'",
        ),
        (["--encoder", "hashed-ngrams", "--data", "TEXTS", "--pooling", "maen"], "did you mean mean"),
        (["--encoder", "hashed-ngrams", "--data", "TEXTS", "--transform", "papr"], "did you mean paper"),
        (["--encoder", "hashed-ngrams", "--data", "TEXTS", "--weights", "w.pt"], "w.pt: no such file"),
        (["--encoder", "timm:", "--data", "TEXTS"], "an id is missing"),
        (["--encoder", "./model", "--data", "TEXTS"], "no such folder"),
        (["--encoder", "hashed-ngrams", "--data", "TEXTS", "--layer", "x"], "--layer"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(
    run: Run, arguments: list[str], words: str, texts: Manifest, tmp_path: Path
) -> None:
    write_manifest(texts, tmp_path / "TEXTS")
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert words in err
    assert not Path("feats").exists()


def test_too_many_unreadable_pictures_exit_1(run: Run, tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(3):
            (tmp_path / "photos" / name / f"{i}.png").write_text("no picture")
    code, out, err = run("--encoder", "pixels", "--data", "photos")
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert "1 unreadable samples so far, --max-errors allows 0 of 6" in err
    code, out, _ = run("--encoder", "pixels", "--data", "photos", "--max-errors", "100%")
    assert code == 0
    assert "6 of them unreadable" in out


def test_help_imports_nothing_heavy_and_shows_an_example() -> None:
    code = (
        "import sys\nfrom uml_cache.cli import root\n"
        "root.main(['extract', '--help'], standalone_mode=False)\n"
        "heavy = {'numpy', 'torch', 'PIL', 'scipy', 'timm', 'transformers', 'zarr'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Example:\n    uml extract --encoder hog-color" in done.stdout


def test_every_setting_is_in_the_command_and_the_file_that_repeat_it(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The words are those that slurm's jobs get."""
    values: dict[str, Any] = {
        "encoder": "hf:x", "data": "d", "name": "birds", "set": "cupl", "root": "r", "out": "s3://b/feats",
        "tokens": True, "dtype": "float32", "pooling": "mean", "layer": 3, "transform": "paper",
        "weights": "w.pt", "batch_size": 8, "device": "cuda:1", "executor": "ray", "workers": 3,
        "decode_workers": 0, "max_errors": "5", "retry_failed": True, "check_sources": True,
        "text_column": "t", "path_column": "p", "label_column": "y", "split_column": "s", "id_column": "i",
        "group_column": "g", "left_out": "left.csv", "overwrite": True, "prune": True,
        "limit": 7,
    }  # fmt: skip
    known = declared(ExtractSettings)
    assert {*values, "sbatch"} == set(known)  # sbatch goes with slurm alone
    assert all(value != known[name].default for name, value in values.items())
    settings = ExtractSettings(**values)
    found: list[ExtractSettings] = []
    monkeypatch.setattr("uml_extract.work.extract_data", lambda asked, _: found.append(asked) or ({}, ""))
    run(*settings.words("extract"))
    (tmp_path / "extract.toml").write_text(settings.to_toml("extract"))
    run("--config", "extract.toml")
    assert found == [settings, settings]
