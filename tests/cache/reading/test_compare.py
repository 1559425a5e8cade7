"""`uml cache diff`: what is new, changed and gone, by ids, wherever the rows lie."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uml_cache import InputError, StorePlan, as_path, compare_stores, create_or_resume

ROWS = 70  # two tasks
NUMBERS = count()


def _store(path: Path, samples: dict[str, tuple[float, str, bool]], *, tokens: bool, **changes: Any) -> Path:
    """A sealed store of one number a sample, its class, and whether it could be read."""
    ids = list(samples)
    classes = list(dict.fromkeys(name for _, name, _ in samples.values() if name))
    values = np.array([value for value, _, _ in samples.values()], np.float32)
    status = np.array([0 if read else 1 for _, _, read in samples.values()], np.uint8)
    values[status > 0] = 0
    lengths = np.array([1 + int(value) % 3 for value in values], np.int32)
    lengths[status > 0] = 0
    plan = StorePlan(
        dataset="pets", modality="image", encoder={"name": "net"}, manifest_digest="0" * 64,
        classes=classes or ["none"], ids=ids,
        labels=np.array([classes.index(name) if name else -1 for _, name, _ in samples.values()], np.int32),
        splits=np.zeros(len(ids), np.uint8), pooled_dim=4, token_dim=4 if tokens else None,
        token_counts=lengths if tokens else None, batch_size=8, versions={}, device="cpu",
    )  # fmt: skip
    store = create_or_resume(path, replace(plan, **changes))
    pooled = np.repeat(values[:, None], plan.pooled_dim or 4, 1)
    pooled = np.resize(pooled, (len(ids), store.plan.pooled_dim or 4)) if changes else pooled
    for task in store.pending():
        rows = store.rows_of(task)
        here = slice(rows.start, rows.stop)
        packed = np.repeat(pooled[here], lengths[here], 0) if tokens else None
        reasons = {row: "cannot read" for row in rows if status[row]}
        store.write_task(task, pooled[here], packed, status[here], reasons, 0.1)
    return path


SAMPLE = st.tuples(st.integers(1, 40).map(float), st.sampled_from(["cat", "dog", ""]), st.booleans())
SAMPLES = st.dictionaries(st.integers(0, 12).map(lambda number: f"s{number}"), SAMPLE, min_size=1)


@settings(max_examples=15, deadline=None)
@given(old=SAMPLES, new=SAMPLES, tokens=st.booleans())
def test_it_says_what_two_tables_say(old: Any, new: Any, tokens: bool) -> None:
    folder = as_path(f"memory://diff/{next(NUMBERS)}")
    found = compare_stores(
        _store(folder / "old.zarr", old, tokens=tokens), _store(folder / "new.zarr", new, tokens=tokens)
    )
    both = [name for name in new if name in old]

    def seen(sample: tuple[float, str, bool]) -> tuple[float, bool]:
        return (sample[0] if sample[2] else 0.0, sample[2])

    assert found.rows == len(new)
    assert set(found.new) == new.keys() - old.keys()
    assert set(found.removed) == old.keys() - new.keys()
    assert set(found.features) == {name for name in both if seen(old[name]) != seen(new[name])}
    assert set(found.annotations) == {name for name in both if old[name][1] != new[name][1]}
    assert found.settings == ()


def test_blocks_and_tasks_end_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One changed sample is found in the first and the last row of every block."""
    monkeypatch.setattr("uml_cache.reading.compare._BLOCK_BYTES", 4 * 4 * 16)
    samples = {f"s{row}": (float(1 + row % 5), "cat", True) for row in range(ROWS)}
    changed = {0, 15, 16, 63, 64, ROWS - 1}
    other = {
        f"s{row}": (samples[f"s{row}"][0] + 3 * (row in changed), "cat", True)
        for row in reversed(range(ROWS))
    }
    for tokens in (False, True):
        old = _store(tmp_path / f"old-{tokens}.zarr", samples, tokens=tokens)
        new = _store(tmp_path / f"new-{tokens}.zarr", other, tokens=tokens)
        assert set(compare_stores(old, new).features) == {f"s{row}" for row in changed}


def test_one_step_of_float16(tmp_path: Path) -> None:
    def near(value: float, steps: int) -> float:
        number = np.float16(value)
        for _ in range(steps):
            number = np.nextafter(number, np.float16(np.inf))
        return float(number)

    at = {"a": -1.0, "b": 3.0, "c": 1024.0, "d": 0.25}
    old = _store(
        tmp_path / "old.zarr", {name: (value, "x", True) for name, value in at.items()}, tokens=False
    )
    for steps, with_step in ((1, set()), (2, set(at))):
        moved = {name: (near(value, steps), "x", True) for name, value in at.items()}
        new = _store(tmp_path / f"new{steps}.zarr", moved, tokens=False)
        assert set(compare_stores(old, new).features) == set(at)
        assert set(compare_stores(old, new, step=True).features) == with_step


def test_settings_are_told_and_other_widths_refused(tmp_path: Path) -> None:
    samples = {"a": (1.0, "x", True)}
    old = _store(tmp_path / "old.zarr", samples, tokens=True)
    new = _store(tmp_path / "new.zarr", samples, tokens=False, encoder={"name": "net", "layer": 3})
    said = compare_stores(old, new).settings
    assert any("encoder.layer" in line for line in said)
    assert any("old.zarr has tokens/values" in line for line in said)
    wide = _store(tmp_path / "wide.zarr", samples, tokens=False, pooled_dim=8)
    with pytest.raises(InputError, match="have 4 and 8 numbers"):
        compare_stores(old, wide)


def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from uml_cache.cli import main

    old = _store(tmp_path / "old.zarr", {"a": (1.0, "x", True), "b": (2.0, "x", True)}, tokens=False)
    new = _store(tmp_path / "new.zarr", {"b": (2.0, "y", True), "c": (2.0, "x", True)}, tokens=False)
    with pytest.raises(SystemExit):
        main(["cache", "diff", str(old), str(new), "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert answer["rows"] == 2
    assert (answer["new"], answer["changed"], answer["removed"]) == (["c"], ["b"], ["a"])
    assert (answer["changed_features"], answer["changed_annotations"]) == ([], ["b"])
    with pytest.raises(SystemExit):
        main(["cache", "diff", str(old), str(old)])
    assert capsys.readouterr().out == "2 of 2 rows are the same in both\n"
