"""Training on the states of a store that has grown."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from uml_cache import InputError, Remark, find_stores, open_features
from uml_cache.growing.collecting import collect
from uml_extract import extract
from uml_manifests import Manifest
from uml_train import TrainSettings, open_problem, recorded_store, select_stores, train


def _notes(count: int, changed: int = 0) -> Manifest:
    words = np.random.default_rng(0).integers(0, 50, (200, 5))
    texts = [" ".join(f"w{word}" for word in row) for row in words[:count].tolist()]
    return Manifest(
        name="notes",
        modality="text",
        classes=("a", "b"),
        root=Path("."),
        ids=[f"n{at}" for at in range(count)],
        sources=[*(f"{text} anew" for text in texts[:changed]), *texts[changed:]],
        labels=np.arange(count) % 2,
        splits=np.full(count, 255),
    )


def _parts(cache: Path, target: str = "text") -> dict[str, int]:
    """The part of each sample, by id."""
    chosen = select_stores(cache, None, target, [])
    problem = open_problem(chosen.dataset, chosen.target, [])
    ids = np.asarray(problem.target.features.id)[problem.target.rows]
    parts = (problem.train, problem.val, problem.test)
    return {str(id): code for code, rows in enumerate(parts) for id in ids[rows]}


def test_known_samples_stay_in_their_part(tmp_path: Path) -> None:
    extract(_notes(100), "hashed-ngrams", out=tmp_path)
    before = _parts(tmp_path)
    extract(_notes(160, changed=7), "hashed-ngrams", out=tmp_path)
    after = _parts(tmp_path)
    assert len(after) == 160
    assert {id: after[id] for id in before} == before  # the changed ones, too: a new row of a known sample
    chosen = select_stores(tmp_path, None, "text", [])
    problem = open_problem(chosen.dataset, chosen.target, [])
    assert "replaced by a newer version (7)" in problem.target.tally.used.text()
    assert [list(after.values()).count(code) for code in (0, 1, 2)] == [96, 32, 32]


def test_a_state_is_named(tmp_path: Path) -> None:
    first = extract(_notes(100), "hashed-ngrams", out=tmp_path).store
    second = extract(_notes(120), "hashed-ngrams", out=tmp_path).store
    found = {
        name: select_stores(tmp_path, None, name, []).target.store.path
        for name in ("text", "text:hashed-ngrams", "text:hashed-ngrams~1", "text:hashed-ngrams~2")
    }
    assert list(found.values()) == [second, second, first, second]
    assert select_stores(tmp_path, None, "text", []).remarks == (
        f"text: state 2 of a store that has grown ({second})",
    )
    with pytest.raises(InputError, match=r"unknown state of a store 'hashed-ngrams~3'"):
        select_stores(tmp_path, None, "text:hashed-ngrams~3", [])


def test_a_run_goes_on_on_the_state_that_it_was_trained_on(tmp_path: Path) -> None:
    settings = TrainSettings(
        cache=tmp_path / "feats",
        target="text",
        methods=("unimodal",),
        shots=(2,),
        seeds=(0,),
        out=tmp_path / "runs",
    )
    extract(_notes(100), "hashed-ngrams", out=tmp_path / "feats")
    old = train(settings)
    reader = open_features(tmp_path / "feats/notes/text/hashed-ngrams.zarr")
    extract(_notes(120), "hashed-ngrams", out=tmp_path / "feats")
    new = train(settings)
    assert new.path != old.path
    assert recorded_store(old, "text", tmp_path / "feats").state == 1
    assert recorded_store(new, "text", tmp_path / "feats").state == 2
    left = collect(tmp_path / "feats")
    assert [state.name for state in left[0].busy] == ["hashed-ngrams.zarr"]  # somebody reads it
    reader.close()
    collect(tmp_path / "feats")
    assert [store.state for store in find_stores(tmp_path / "feats", states=True)] == [2]


def test_an_append_that_has_not_ended_is_said(tmp_path: Path) -> None:
    extract(_notes(100), "hashed-ngrams", out=tmp_path)
    second = extract(_notes(120), "hashed-ngrams", out=tmp_path).store
    (second / "journal/0.json").unlink()
    with pytest.warns(Remark, match=r"hashed-ngrams~2.zarr is an append that has not ended; .* is used"):
        found = find_stores(tmp_path)
    assert [store.state for store in found] == [1]
    again = extract(_notes(120), "hashed-ngrams", out=tmp_path).store
    assert again == second
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [store.state for store in find_stores(tmp_path)] == [2]
