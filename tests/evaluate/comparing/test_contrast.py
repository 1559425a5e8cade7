"""Two runs compared: the pairs, the test by hand and against SciPy, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import permutation_test

from uml_cache.errors import InputError
from uml_evaluate.comparing.contrast import contrast
from uml_evaluate.comparing.significance import holm, sign_flip_p, smallest_p
from uml_train import load_run

WriteRun = Callable[..., Path]
IDS = [f"t{i}" for i in range(200)]
ACCURACY = {("unimodal", None): 0.4, ("unimodal-deep", None): 0.5, ("uml", None): 0.6, ("uml", "random"): 0.5}


def with_splits(path: Path, **changes: object) -> Path:
    draws = {f"k{k}-s{s}": {"train": [f"a{k}{s}"], "val": [f"b{k}{s}"]} for k in (1, 4) for s in (1, 2, 3)}
    splits = {"train": [], "val": [], "test": IDS, "draws": draws, **changes}
    (path / "splits.json").write_text(json.dumps(splits), encoding="utf-8")
    return path


def change(path: Path, **changes: object) -> None:
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    (path / "config.json").write_text(json.dumps({**config, **changes}), encoding="utf-8")


def test_sign_flips_by_hand() -> None:
    assert sign_flip_p(np.array([1.0, 2.0, 3.0])) == 0.25  # of 8 patterns +++ and −−−
    assert sign_flip_p(np.array([1.0, -2.0, 3.0])) == 0.75  # sums 6 4 2 0 0 2 4 6 around 2
    assert sign_flip_p(np.zeros(4)) == 1.0
    assert smallest_p(5) == 0.0625


def test_sign_flips_equal_scipy() -> None:
    differences = np.random.default_rng(0).normal(0.5, 1.0, 9)
    expected = permutation_test(
        (differences, np.zeros(9)),
        lambda x, y: np.mean(x - y),
        permutation_type="samples",
        n_resamples=np.inf,
    )
    assert sign_flip_p(differences) == pytest.approx(expected.pvalue)


def test_many_draws_are_sampled_and_repeat() -> None:
    differences = np.full(30, 1.0)
    assert sign_flip_p(differences) == smallest_p(30)
    assert sign_flip_p(np.r_[differences[:15], -differences[:15]]) == 1.0


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]


def test_pairs_and_their_differences(write_run: WriteRun) -> None:
    better = {arm: share + 0.1 for arm, share in ACCURACY.items()}
    a = load_run(with_splits(write_run("a", accuracy=better)))
    b = load_run(with_splits(write_run("b", accuracy=ACCURACY)))
    found = contrast(a, b)
    assert len(found.pairs) == 2 * len(ACCURACY)
    assert all(pair.interval.delta == pytest.approx(10.0) for pair in found.pairs)
    assert all(pair.interval.draws == 3 and pair.p == 0.25 and pair.corrected == 1.0 for pair in found.pairs)
    assert found.differs == []
    assert "cannot fall below 0.25" in found.text()
    assert "below 0.05 takes 9 seeds or more" in found.text()
    value = found.to_json()
    assert value["comparisons"] == 8
    assert value["smallest_p"] == 0.25
    assert {p["method"] for p in value["pairs"]} == {arm[0] for arm in ACCURACY}
    assert len(contrast(a, b, shots=(4,)).pairs) == len(ACCURACY)


def test_the_interval_is_the_one_of_the_tables(write_run: WriteRun) -> None:
    """uml of one run against unimodal-deep of another with the same scores as within one run."""
    from uml_evaluate import compare

    one = load_run(with_splits(write_run("a", shots=(4,), accuracy=ACCURACY)))
    inside = next(
        d for d in compare(one)[0].differences if (d.a, d.b) == ("uml", "unimodal-deep")
    )  # fmt: skip
    swapped = {**ACCURACY, ("uml", None): ACCURACY["unimodal-deep", None]}
    other = load_run(with_splits(write_run("b", shots=(4,), accuracy=swapped)))
    pair = next(p for p in contrast(one, other).pairs if (p.method, p.control) == ("uml", None))
    assert pair.interval == inside.interval


def test_settings_that_differ_are_named(write_run: WriteRun) -> None:
    a, b = with_splits(write_run("a")), with_splits(write_run("b"))
    settings = json.loads((b / "config.json").read_text(encoding="utf-8"))["settings"]
    change(b, settings={**settings, "normalize": "standard"})
    found = contrast(load_run(a), load_run(b))
    assert found.differs == [("normalize", "auto", "standard")]
    assert "normalize: auto | standard" in found.text()


@pytest.mark.parametrize(
    ("config", "splits", "said"),
    [
        ({"dataset": "other"}, {}, "data set differ ('toy' and 'other')"),
        ({"target": "audio"}, {}, "target differ ('image' and 'audio')"),
        ({"objective": "self-supervised"}, {}, "objective differ"),
        ({"classes": ["x", "cup"]}, {}, "classes differ (4 and 2, 1 in common)"),
        ({}, {"test": IDS[:-1]}, "test rows differ (200 and 199, 199 in common)"),
        ({}, {"draws": {"k1-s1": {"train": ["z"], "val": ["b11"]}}}, "train rows of draw k1-s1 differ"),
    ],
)
def test_runs_that_cannot_be_compared(write_run: WriteRun, config: dict, splits: dict, said: str) -> None:
    a, b = with_splits(write_run("a")), with_splits(write_run("b"), **splits)
    change(b, **config)
    with pytest.raises(InputError) as error:
        contrast(load_run(a), load_run(b))
    assert said in str(error.value)


def test_no_cell_in_common(write_run: WriteRun) -> None:
    a, b = with_splits(write_run("a", shots=(1,))), with_splits(write_run("b", shots=(4,)))
    with pytest.raises(InputError, match="no cell in common"):
        contrast(load_run(a), load_run(b))
