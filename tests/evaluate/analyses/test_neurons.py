"""Neurons of both modalities: the correlations themselves, and networks on data that share factors or not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from toy_stores import write_store
from uml_cache.errors import InputError
from uml_evaluate.analyses.neurons.correlation import (
    label_correlations,
    neuron_correlations,
    permuted_correlations,
)
from uml_evaluate.analyses.running import analyse
from uml_evaluate.commands.eval_command import evaluate
from uml_evaluate.report.html import write_report
from uml_train import Run, TrainSettings, train

GRID = (
    "epochs = 6\nwidth = [12]\nlayers = 1\nheads = 2\nfeedforward = 16\nlr = [0.01]\nbatch_size = 16\n"
    "dropout = 0.0\n"
)
_CLIPS, _TOKENS = 140, 5


def test_correlations_are_those_of_plain_torch() -> None:
    rng = np.random.default_rng(0)
    first = rng.standard_normal((40, 6)).astype(np.float32)
    second = (0.5 * first + rng.standard_normal((40, 6))).astype(np.float32)
    first[:, 2] = 0.1  # does not vary but for rounding
    labels = rng.integers(0, 3, 40)
    labels[:1] = 3  # a label with one pair
    expected = torch.zeros(6, dtype=torch.float64)
    by_label = torch.zeros(5, 6, dtype=torch.float64)
    for j in range(6):
        for c, rows in ((None, np.arange(40)), *((c, np.flatnonzero(labels == c)) for c in range(5))):
            a, b = (torch.tensor(side[rows, j], dtype=torch.float64) for side in (first, second))
            value = torch.tensor(0.0)
            if len(rows) > 1 and j != 2:
                value = torch.corrcoef(torch.stack([a, b]))[0, 1]
            if c is None:
                expected[j] = value
            else:
                by_label[c, j] = value
    np.testing.assert_allclose(neuron_correlations(first, second), expected, atol=1e-10)
    np.testing.assert_allclose(label_correlations(first, second, labels, 5), by_label, atol=1e-10)
    assert neuron_correlations(first, second)[2] == 0.0
    mixed = permuted_correlations(first, second, permutations=300, rng=np.random.default_rng(1))
    assert mixed.shape == (300, 6)
    assert np.abs(mixed.mean(0)).max() < 0.03
    assert mixed[:, 0].std() == pytest.approx(1 / np.sqrt(39), rel=0.15)


def _run(folder: Path, kind: str) -> Run:
    """MUStARD-shaped clips: two modalities of the same ids, from `shared` or `private` factors; or `permuted`
    ids."""
    rng = np.random.default_rng(5)
    labels = np.tile([0, 1], _CLIPS // 2)
    splits = np.repeat([0, 1, 2], [84, 28, 28])
    factors = rng.standard_normal((_CLIPS, 3))
    ids = np.array([f"clip{i}" for i in range(_CLIPS)])
    for name, dim in (("vision", 9), ("text", 7)):
        own = factors if kind != "private" or name == "vision" else rng.standard_normal((_CLIPS, 3))
        maps = rng.standard_normal((3, dim))
        tokens = [(f @ maps + 0.3 * rng.standard_normal((_TOKENS, dim))).astype(np.float32) for f in own]
        named = ids[rng.permutation(_CLIPS)] if kind == "permuted" and name == "text" else ids
        # The ids' own splits: what is held out of one modality is held out of the other.
        of = dict(zip(ids, splits, strict=True))
        write_store(
            folder / "feats", "array", np.zeros((_CLIPS, 1)), labels, [int(of[n]) for n in named], set=name,
            tokens=tokens, ids=list(named), classes=("plain", "sarcastic"),
        )  # fmt: skip
    (folder / "grid.toml").write_text(GRID)
    return train(
        TrainSettings(
            cache=folder / "feats", target="array.vision", auxiliaries=(("array.text",),), objective="ssl",
            methods=("uml",), seeds=(1, 2), grid=str(folder / "grid.toml"), snapshots=2, out=folder / "runs",
        )
    )  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    kinds = ("shared", "private", "permuted")
    return {kind: _run(tmp_path_factory.mktemp(kind), kind) for kind in kinds}


def _cells(run: Run) -> list[dict[str, Any]]:
    (finding,) = analyse(run, ["neurons"]).findings
    found: list[dict[str, Any]] = finding.values["cells"]
    return found


def test_shared_factors_are_found_and_no_others(runs: dict[str, Run]) -> None:
    for cell in _cells(runs["shared"]):
        assert (cell["pairs"], cell["neurons"], cell["epochs"]) == (_CLIPS, 12, [0, 2, 4, 6])
        assert cell["beyond_permuted"] > 0
        assert cell["largest"] > cell["permuted_largest"]
        assert set(cell["r_by_label"]) == {"plain", "sarcastic"}
    for kind in ("private", "permuted"):
        assert [cell["beyond_permuted"] for cell in _cells(runs[kind])] == [0, 0], kind


def test_the_course_begins_untrained_and_ends_trained(runs: dict[str, Run]) -> None:
    (finding,) = analyse(runs["shared"], ["neurons"]).findings
    course = finding.arrays["course.0"]
    assert course.shape == (4, 12)
    np.testing.assert_array_equal(course[0], finding.arrays["untrained.0"])
    np.testing.assert_allclose(course[-1], finding.arrays["r.0"], atol=1e-6)
    record = finding.values["cells"][0]
    r = finding.arrays["r.0"]
    assert record["positive"] == [int(j) for j in np.argsort(-r)[: len(record["positive"])]]
    assert all(r[j] < 0 for j in record["negative"])
    assert not analyse(runs["shared"], ["neurons"]).computed  # nothing has changed


def test_the_command_shows_a_table_and_a_figure_and_the_report_too(runs: dict[str, Run]) -> None:
    path = str(runs["shared"].path)
    done = CliRunner().invoke(evaluate, ["--analysis", "all", "--runs", path, "--quiet"])
    assert done.exit_code == 0, done.exception
    assert "uml: some neurons answer to both modalities" in done.stdout
    assert (runs["shared"].path / "figures" / "neurons-array.text.png").is_file()
    value = json.loads(
        CliRunner().invoke(evaluate, ["--analysis", "neurons", "--runs", path, "--quiet", "--json"]).stdout
    )
    assert [one["analysis"] for one in value["analyses"]] == ["neurons"]
    written = write_report(runs["shared"].path.parent)
    assert "Neurons of both modalities" in written.path.read_text()


def test_heads_have_none(trained: Path) -> None:
    from uml_train import find_runs

    with pytest.raises(InputError, match="uml pretrain"):
        analyse(find_runs(trained / "runs")[0], ["neurons"])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("heads")
    labels = np.tile(np.arange(2), 30)
    rng = np.random.default_rng(0)
    features = labels[:, None] + rng.standard_normal((60, 4))
    splits = np.repeat([0, 1, 2], 20)
    write_store(folder / "feats", "image", features, labels, splits, classes=("a", "b"))
    train(TrainSettings(cache=folder / "feats", shots=(2,), seeds=(1,), out=folder / "runs"))
    return folder
