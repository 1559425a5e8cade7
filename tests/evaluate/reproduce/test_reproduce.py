"""`uml reproduce`: the table, its differences, resuming, and what is refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from scipy import stats

from uml_cache.command import QUIET
from uml_cache.errors import InputError
from uml_evaluate.commands.reproduce_command import reproduce
from uml_evaluate.comparing.statistics import student_difference
from uml_evaluate.reproduce.gaussian.gaussian_finding import ArmErrors, GaussianFinding
from uml_evaluate.reproduce.gaussian.repeat import run
from uml_evaluate.reproduce.recipe.items import find_recipes


def test_tiny_gaussian_end_to_end_and_again(tmp_path: Path) -> None:
    words = ["gaussian", "--scale", "tiny", "--seeds", "1-3", "--out", str(tmp_path), "--quiet", "--json"]
    done = CliRunner().invoke(reproduce, words, catch_exceptions=False)
    answer = json.loads(done.stdout)
    assert {(row["hidden"], row["arm"]) for row in answer["table"]} == {
        (h, a) for h in (10, 128) for a in ("x", "uml", "x-half", "uml-noise")
    }
    rows = list(csv.DictReader(Path(answer["results"]).read_text().splitlines()))
    assert len(rows) == 2 * 4 * 3
    errors = {
        arm: [float(r["held_out_error"]) for r in rows if (r["hidden"], r["arm"]) == ("10", arm)]
        for arm in ("x", "uml")
    }
    claim = next(d for d in answer["differences"] if (d["hidden"], d["role"]) == (10, "the claim"))
    expected = stats.ttest_rel(errors["uml"], errors["x"]).confidence_interval()
    assert claim["delta"] == pytest.approx(np.mean(errors["uml"]) - np.mean(errors["x"]))
    assert (claim["ci_low"], claim["ci_high"]) == pytest.approx((expected.low, expected.high))
    assert all(Path(path).stat().st_size > 1000 for path in answer["figures"])
    jobs = {p: p.stat().st_mtime_ns for p in (tmp_path / "jobs").iterdir()}
    assert len(jobs) == 24
    again = CliRunner().invoke(reproduce, words, catch_exceptions=False)
    assert {**json.loads(again.stdout), "created": answer["created"]} == answer
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "jobs").iterdir()} == jobs


def test_a_sweep_has_a_row_per_value_and_a_figure(tmp_path: Path) -> None:
    found = run(tmp_path, scale="tiny", sweep="steps", seeds=(1,), output=QUIET)
    assert [(c.hidden, c.value) for c in found.comparisons] == [
        (h, v) for h in (10, 128) for v in (400, 1_000, 3_000, 10_000)
    ]
    assert "1 seeds cannot show" in found.text()
    assert [path.name for path in found.figures] == ["gaussian-steps-tiny.png", "gaussian-steps-tiny.svg"]


@pytest.mark.parametrize(
    ("uml", "words"),
    [
        ([1.0, 1.1, 0.9], "the claim holds"),
        ([3.0, 3.1, 2.9], "the opposite"),
        ([2.0, 3.1, 1.0], "can't tell"),
    ],
)
def test_the_sentence_says_what_the_numbers_say(uml: list[float], words: str) -> None:
    errors = {"x": [2.0, 2.1, 1.9], "uml": uml, "x-half": [2.0] * 3, "uml-noise": [2.0, 2.1, 2.2]}
    found = GaussianFinding(None, (1, 2, 3), [ArmErrors(10, None, errors)], Path("r.csv"), [])
    assert words in found.text()


def test_student_difference_by_hand() -> None:
    found = student_difference([1.0, 2.0, 4.0], [0.0, 0.0, 0.0])
    reach = stats.t.ppf(0.975, 2) * np.std([1, 2, 4], ddof=1) / np.sqrt(3)
    assert (found.low, found.high) == pytest.approx((7 / 3 - reach, 7 / 3 + reach))
    assert student_difference([1.0, 2.0], [0.0, 0.0]).low is None
    with pytest.raises(ValueError, match="as many"):
        student_difference([1.0], [])


def test_wrong_use_is_said_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="did you mean gaussian"):
        find_recipes("gausian")
    with pytest.raises(InputError, match="did you mean noise"):
        run(tmp_path, scale="tiny", sweep="nois", seeds=None, output=QUIET)
    with pytest.raises(InputError, match="different"):
        run(tmp_path, scale="tiny", sweep=None, seeds=(1, 1), output=QUIET)
    listed = CliRunner().invoke(reproduce, ["--list"], catch_exceptions=False)
    assert "attenuation" in listed.stdout
