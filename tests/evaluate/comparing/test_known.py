"""An interval is drawn once for the same scores, by every process, and damage never gives another one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from uml_evaluate.comparing import known
from uml_evaluate.comparing.known import KnownIntervals, scored_difference
from uml_evaluate.comparing.statistics import Interval, generator_for, paired_difference


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "uml-cache" / "intervals.txt"


def scores(seed: int = 0, draws: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.random((draws, 50)) < 0.7, rng.random((draws, 50)) < 0.6


def new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "_PLACES", {})


def never(*_: object, **__: object) -> Interval:
    raise AssertionError("drawn again")


def test_the_same_scores_are_drawn_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_sn, b_sn = scores()
    found = scored_difference(a_sn, b_sn)
    digest = known.sha256(np.stack([a_sn, b_sn]).astype(np.int64).tobytes()).hexdigest()
    drawn = paired_difference(a_sn, b_sn, rng=generator_for("paired", a_sn.shape, digest))
    assert (found, found.rows_reach) == (drawn, drawn.rows_reach)
    other = scored_difference(b_sn, a_sn)
    assert other.delta == -found.delta
    monkeypatch.setattr(known, "paired_difference", never)
    for _ in range(2):
        again = scored_difference(a_sn, b_sn)
        assert (again, again.rows_reach) == (found, found.rows_reach)
        assert scored_difference(a_sn.astype(np.int32), b_sn) == found
        assert scored_difference(b_sn, a_sn) == other
        new_process(monkeypatch)
    with pytest.raises(AssertionError, match="drawn again"):
        scored_difference(a_sn.astype(float), b_sn.astype(float))  # keyed by other bytes
    assert len(file.read_text().splitlines()) == 2


def test_damage_is_as_good_as_nothing(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_sn, b_sn = scores()
    found = scored_difference(a_sn, b_sn)
    whole = file.read_bytes()
    for at in range(len(whole)):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        new_process(monkeypatch)
        assert not known.known_intervals()._load()
    for cut in (0, 5, len(whole) // 2, len(whole) - 2):
        file.write_bytes(whole[:cut])
        new_process(monkeypatch)
        assert not known.known_intervals()._load()
    assert scored_difference(a_sn, b_sn) == found


def test_two_draws_have_no_interval_and_nothing_to_remember(file: Path) -> None:
    assert scored_difference(*scores(draws=2)).low is None
    assert not file.exists()


def test_a_folder_that_cannot_be_written_costs_nothing_but_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert scored_difference(*scores(1)) == scored_difference(*scores(1))


def test_a_full_file_is_begun_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "_MOST_BYTES", 300)
    file = tmp_path / "some" / "intervals.txt"
    kept = KnownIntervals(file)
    for i in range(20):
        kept.add(f"key {i}", (0.1 * i, -1.0, 1.0, 0.5))
    assert file.stat().st_size < 400
    assert KnownIntervals(file).get("key 19") == (0.1 * 19, -1.0, 1.0, 0.5)
    assert KnownIntervals(file).get("key 1") is None
    assert kept.get("key 1") == (0.1, -1.0, 1.0, 0.5)
