"""Tables and reports of runs with `auto`, another data set's auxiliary, and encoders with a joint space."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from toy_stores import clusters, write_store
from uml_evaluate.comparing.comparison import compare
from uml_evaluate.comparing.shown.tables import terminal
from uml_evaluate.report.record import describe
from uml_train import TrainSettings, train


def test_auto_and_unrelated_data_have_their_rows_and_differences(tmp_path: Path) -> None:
    feats = tmp_path / "feats"
    labels, words = np.tile(np.arange(5), 32), np.tile(np.arange(5), 6)
    splits = np.repeat([0, 1, 2], [40, 20, 100])
    write_store(feats, "image", clusters(1, labels, 16, 1.5), labels, splits, joint_space="both")
    # Two texts of one width, of which one shares the pictures' space: two networks without data.
    write_store(feats, "text", clusters(2, words, 16, 0.5), words, np.full(30, 255), joint_space="both")
    write_store(feats, "text", clusters(3, words, 16, 0.5), words, np.full(30, 255), set="other")
    for name in (None, "other"):
        write_store(
            feats, "text", clusters(4, words, 16, 0.5), words, np.full(30, 255), set=name, dataset="x"
        )
    grid = tmp_path / "grid.toml"
    grid.write_text("lr = [0.01]\nsteps = 30\nwarmup = 5\neval_every = 10\nbatch_size = [8]\n")
    settings = TrainSettings(
        cache=feats,
        dataset="toy",
        auxiliaries=(("text",), ("text.other",)),
        methods=("unimodal", "unimodal-deep", "uml", "auto"),
        controls=("unrelated:x",),
        shots=(2,),
        seeds=(1, 2, 3),
        alpha=(0.5, 1.0),
        grid=str(grid),
        out=tmp_path / "runs",
    )
    run = train(settings)
    comparisons = compare(run)
    assert [c.auxiliaries for c in comparisons] == [("text",), ("text.other",)]
    for comparison, aligned in zip(comparisons, (True, False), strict=True):
        deep = [r for r in run.cells if r.cell.method == "unimodal-deep" and r.cell.aligned == aligned]
        row = comparison.row(("unimodal-deep", None), 2)
        assert row is not None
        assert row.seeds == 3
        assert row.mean == np.mean([r.test_acc for r in deep])
        pairs = {(d.a, d.b) for d in comparison.differences}
        assert ("auto", "unimodal") in pairs
        assert ("uml", "uml[unrelated:x]") in pairs
        assert "uml[unrelated:x]" in terminal(comparison)
    record = describe(run, comparisons)
    assert "--alpha 0.5,1" in record.command
    assert "unrelated:x" in record.command
