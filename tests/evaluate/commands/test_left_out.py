"""Every command that takes data says which rows it left out, and writes them down when asked to; and what it
reads is one state of a store."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from token_stores import write_sequences
from toy_stores import clusters, write_store
from uml_cache import WorkError, open_features, store_info
from uml_cache.cli import main
from uml_cache.store import journal
from uml_train import one_state

_LABELS = np.tile(np.arange(5), 18)
_SPLITS = np.repeat([0, 1, 2], 30)


def _uml(*words: object) -> None:
    code: object = None
    try:
        main([str(word) for word in words])
    except SystemExit as leaving:
        code = leaving.code
    assert not code


def _written(file: Path) -> set[tuple[str, str, str]]:
    with file.open(newline="") as stream:
        return {(row["source"], row["id"], row["reason"]) for row in csv.DictReader(stream)}


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    for seed, dataset in enumerate(("toy", "other")):
        labels = _LABELS.copy()
        labels[3] = -1
        features = clusters(seed, _LABELS, 6, 0.3)
        write_store(tmp_path / "feats", "image", features, labels, _SPLITS, dataset=dataset, failed=[7])
    words = np.tile(np.arange(5), 6)
    write_store(tmp_path / "feats", "text", clusters(9, words, 4, 0.3), words, np.full(30, 255))
    return tmp_path / "feats"


def test_what_is_left_out_is_written_by_every_command_that_takes_data(cache: Path, tmp_path: Path) -> None:
    runs, grid = tmp_path / "runs", tmp_path / "grid.toml"
    grid.write_text("lr = [0.01]\nsteps = 5\nwarmup = 1\neval_every = 5\nbatch_size = [8]\n")
    expected = {("toy/image", "image-7", "unreadable"), ("toy/image", "image-3", "no label")}
    shared = ["--cache", cache, "--dataset", "toy"]
    _uml("train", *shared, "--method", "unimodal-deep,uml", "--shots", 1, "--seeds", "1,2", "--grid", grid,
         "--out", runs, "--left-out", tmp_path / "train.csv")  # fmt: skip
    _uml("eval", "--runs", runs, "--k", 1, "--left-out", tmp_path / "table.csv")
    _uml("eval", "--runs", runs, "--analysis", "margin", "--left-out", tmp_path / "analysis.csv")
    _uml("eval", "--advise", *shared, "--k", 1, "--left-out", tmp_path / "advise.csv")
    for name in ("train", "table", "analysis", "advise"):
        assert _written(tmp_path / f"{name}.csv") == expected, name
    _uml("eval", "--runs", runs, "--shift", "other", "--left-out", tmp_path / "shift.csv")
    shifted = _written(tmp_path / "shift.csv")
    assert {("other", "image-7", "unreadable"), ("other", "image-3", "no label")} < shifted
    assert len(shifted) == 60


def test_embedding_writes_down_which_sequences_have_no_output(tmp_path: Path) -> None:
    write_sequences(tmp_path / "feats", "image", 6, 60, splits=np.repeat([0, 1, 2], 20), empty=(4,))
    write_sequences(tmp_path / "feats", "text", 4, 30, labelled=False)
    grid = tmp_path / "ssl.toml"
    grid.write_text("steps = 3\nwidth = [8]\nlayers = 1\nheads = 2\nfeedforward = 8\nbatch_size = 8\n")
    _uml("train", "--cache", tmp_path / "feats", "--target", "image", "--aux", "text", "--objective", "ssl",
         "--grid", grid, "--seeds", 1, "--out", tmp_path / "runs")  # fmt: skip
    _uml("embed", tmp_path / "runs", "--out", tmp_path / "learnt", "--left-out", tmp_path / "lost.csv")
    assert _written(tmp_path / "lost.csv") == {("toy/image", "toy-image-4", "no tokens")}


def test_a_store_on_object_storage_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    place = f"memory://{tmp_path.name}/feats"
    path = write_store(place, "image", clusters(0, _LABELS, 6, 0.3), _LABELS, _SPLITS)  # type: ignore[arg-type]
    with one_state([store_info(path)]):
        assert len(open_features(path)) == len(_LABELS)
    record = journal.read_record(path / "journal" / "0.json")
    record["files"][0]["sha256"] = "0" * 64

    def changed_meanwhile() -> None:
        with one_state([store_info(path)]):
            (path / "journal" / "0.json").replace(journal.record_bytes(record))  # type: ignore[arg-type]

    with pytest.raises(WorkError, match="was changed while it was read"):
        changed_meanwhile()
