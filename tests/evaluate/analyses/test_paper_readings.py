"""The paper's readings of the analyses beside ours, Fisher information and the linear theory of a run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from toy_stores import clusters, write_store
from uml_cache.errors import InputError
from uml_evaluate.analyses.boundary.class_plane import weight_plane
from uml_evaluate.analyses.information.linear_theory import on_designs, read_designs
from uml_evaluate.analyses.reading import Reading, class_means
from uml_evaluate.analyses.running import analyse
from uml_evaluate.commands.eval_command import evaluate
from uml_train import Run, TrainSettings, train


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Heads that trained on all texts."""
    folder = tmp_path_factory.mktemp("readings")
    labels = np.tile(np.arange(5), 40)
    splits = np.repeat([0, 1, 2], [100, 50, 50])
    write_store(folder / "feats", "image", 3 + clusters(1, labels, 12, 1.5), labels, splits)
    words = np.tile(np.arange(5), 20)
    write_store(folder / "feats", "text", 2 + clusters(2, words, 9, 0.7), words, np.full(100, 255))
    (folder / "grid.toml").write_text(
        "lr = [0.01]\nsteps = 60\nwarmup = 5\neval_every = 20\nbatch_size = [8]\n"
    )
    return train(
        TrainSettings(
            cache=folder / "feats", methods=("unimodal", "unimodal-deep", "uml"), shots=(8,), seeds=(1, 2),
            grid=str(folder / "grid.toml"), out=folder / "runs",
        )
    )  # fmt: skip


def test_a_model_s_own_plane_has_its_boundary_upright(run: Run) -> None:
    pair = {"boundary": {"pair": ["red circle", "green star"]}}
    (finding,) = analyse(run, ["boundary"], protocol="paper", options=pair).findings
    assert finding.values["plane"] == "weights"
    assert "--protocol paper" in finding.command
    for name in finding.values["methods"]:
        lead = finding.arrays[f"lead {name}"]
        # Axis 2 is orthogonal to the weights' difference: along it nothing changes.
        np.testing.assert_allclose(lead, np.broadcast_to(lead[0], lead.shape), rtol=1e-3, atol=1e-2)
        assert (np.diff(lead[0]) < 0).all()  # the first class's lead falls along the second's weights
    (shared,) = analyse(run, ["boundary"], options=pair).findings
    assert shared.values["plane"] == "shared"
    assert "x" in shared.arrays


def test_weight_planes_are_orthonormal_and_say_what_they_cannot() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.standard_normal((9, 4)), 1 + rng.standard_normal((8, 4))
    step = rng.standard_normal(4)
    plane = weight_plane(first, second, step)
    np.testing.assert_allclose(plane.axes @ plane.axes.T, np.eye(2), atol=1e-12)
    np.testing.assert_allclose(plane.axes[0], step / np.linalg.norm(step))
    np.testing.assert_allclose(plane.origin, (first.mean(0) + second.mean(0)) / 2)
    with pytest.raises(ValueError, match="same weights"):
        weight_plane(first, second, np.zeros(4))
    with pytest.raises(ValueError, match="weights alone"):
        weight_plane(first, second, second.mean(0) - first.mean(0))


def test_prototypes_with_all_texts_are_plain_inner_products(run: Run) -> None:
    with pytest.raises(InputError, match="--protocol paper"):
        analyse(run, ["prototypes"])
    (finding,) = analyse(run, ["prototypes"], protocol="paper").findings
    reading = Reading(run)
    source = reading.problem.auxiliaries["text"]
    tables = []
    for result in reading.of(("uml", None)):
        rows = np.arange(len(source.rows))
        texts = reading.auxiliary_space(result, "text", rows)
        means = class_means(texts, source.labels, 5)
        tables.append(reading.shared(result).rows @ means.T)
    np.testing.assert_allclose(finding.arrays["map uml"], np.mean(tables, axis=0), rtol=1e-5)
    assert "plain inner products" in finding.notes[0]


def test_the_margin_of_equation_8_is_drawn_and_comes_first_under_paper(run: Run) -> None:
    (ours,) = analyse(run, ["margin"]).findings
    (theirs,) = analyse(run, ["margin"], protocol="paper").findings
    assert (ours.values["first"], theirs.values["first"]) == ("lead", "equation-8")
    for finding in (ours, theirs):
        quantiles = finding.arrays["printed"]
        assert quantiles.shape == finding.arrays["functional"].shape
        for record, row in zip(finding.values["cells"], quantiles, strict=True):
            assert row[0] <= record["eq5_mean"] <= row[-1]


def test_fisher_and_theory_of_a_run(run: Run) -> None:
    found = analyse(run, ["fisher", "theory"])
    fisher, theory = found.findings
    assert len(found.figures) == 4
    for record in fisher.values["cells"]:
        assert (record["directions"], record["target_rows"], record["auxiliary_rows"]) == (10, 40, 100)
        for kind in ("empirical", "model"):
            assert record[f"classes_{kind}_ratio"] > 0
    for record in theory.values["cells"]:
        assert record["factors"] == 4  # five classes
        assert 0 < record["variance_ratio"] < 1
        assert record["refuted"] == 0
        assert record["rate_median"] > 0


def test_designs_of_one_s_own_need_no_run(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "designs.npz"
    y = rng.standard_normal((30, 2))
    np.savez(path, x_shared=np.column_stack([rng.standard_normal(20), np.zeros(20)]), y_shared=y, y_noise=0.5)
    done = CliRunner().invoke(evaluate, ["--analysis", "theory", "--designs", str(path), "--json"])
    assert done.exit_code == 0, done.exception
    value = json.loads(done.stdout)
    assert value["samples"] == [20, 30]
    assert value["variances"][1]["without"] is None  # X is blind to the second factor
    assert value["variances"][1]["with"] > 0
    assert value["rates"][0] is None
    assert all(check["holds"] for check in value["checks"].values())
    assert "∞ without Y" in on_designs(*read_designs(path))[1]
    np.savez(path, x_shared=y)
    with pytest.raises(InputError, match="lacks y_shared"):
        read_designs(path)
    np.savez(path, x_shared=y, y_shared=y[:, :1])
    with pytest.raises(InputError, match="2 shared factors and y_shared 1"):
        read_designs(path)
    wrong = CliRunner().invoke(evaluate, ["--analysis", "margin", "--designs", str(path)])
    assert "--designs belongs to --analysis theory" in str(wrong.exception)


def test_heads_without_a_shared_space_are_left_out_of_alignment_and_prototypes(tmp_path: Path) -> None:
    """`ridge` and `prior` have one layer on raw features: there is no space in which modalities meet."""
    labels = np.tile(np.arange(5), 12)
    splits = np.repeat([0, 1, 2], 20)
    write_store(tmp_path / "feats", "image", clusters(1, labels, 12, 1.0), labels, splits)
    write_store(tmp_path / "feats", "text", clusters(2, labels, 9, 0.5), labels, np.full(60, 255))
    solved = train(
        TrainSettings(
            cache=tmp_path / "feats", methods=("ridge", "prior", "uml"), shots=(2,), seeds=(1,),
            out=tmp_path / "runs",
        )
    )  # fmt: skip
    for finding in analyse(solved, ["alignment", "prototypes"], protocol="paper").findings:
        found = {record["method"] for record in finding.values["cells"]}
        assert "uml" in found
        assert not found & {"ridge", "prior"}
