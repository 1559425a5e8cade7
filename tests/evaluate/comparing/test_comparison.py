"""Rows and differences of run folders whose accuracies are known beforehand."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from run_records import change_predictions
from uml_cache.errors import InputError
from uml_evaluate.comparing.comparison import Comparison, across, compare, table
from uml_evaluate.comparing.shown.numbers import signed
from uml_evaluate.comparing.shown.summary import summary
from uml_evaluate.comparing.shown.tables import accuracies, averages, markdown, terminal
from uml_train import load_run

WriteRun = Callable[..., Path]


def only(path: Path, **keywords: object) -> Comparison:
    (comparison,) = compare(load_run(path), **keywords)  # type: ignore[arg-type]
    return comparison


def test_rows_have_the_design_keys_and_numbers(write_run: WriteRun) -> None:
    rows = [row.to_json() for row in table([only(write_run())])]
    assert len(rows) == 7 * 2
    row = next(r for r in rows if r["method"] == "uml" and r["control"] is None and r["shots"] == 4)
    assert row == {
        "dataset": "toy", "target": "image", "auxiliaries": ["text"],
        "encoders": {"image": "image-enc", "text": "text-enc"}, "method": "uml", "control": None,
        "objective": "supervised", "trunk": "linear", "normalize": "none", "texts": "all", "grid": "quick",
        "shots": 4, "label_budget": 20, "shared_width": 8, "mean": pytest.approx(60.0), "std": 0.0,
        "seeds": 3, "metric": "accuracy",
    }  # fmt: skip


def test_the_ladder_and_the_controls(write_run: WriteRun) -> None:
    comparison = only(write_run())
    found = {(d.a, d.b): d for d in comparison.differences if d.shots == 4}
    expected = {
        ("unimodal-deep", "unimodal"): 10.0,
        ("init-only", "unimodal-deep"): 2.0,
        ("uml-init", "init-only"): 10.0,
        ("uml", "unimodal-deep"): 10.0,
        ("uml", "unimodal"): 20.0,
        ("uml-init", "unimodal"): 22.0,
        ("uml[permuted]", "unimodal-deep"): -8.0,
        ("uml[random]", "unimodal-deep"): 0.0,
        ("uml", "uml[permuted]"): 18.0,
        ("uml", "uml[random]"): 10.0,
    }
    assert {pair: d.interval.delta for pair, d in found.items()} == pytest.approx(expected)
    for pair, difference in found.items():
        assert difference.interval.excludes_zero == (expected[pair] != 0.0)
    assert set(found["uml", "unimodal"].to_json()) == {
        "dataset", "target", "auxiliaries", "shots", "a", "b", "delta", "ci_low", "ci_high", "seeds",
        "verdict", "seeds_to_tell", "metric",
    }  # fmt: skip


def test_a_prior_and_its_controls_are_held_against_ridge(write_run: WriteRun) -> None:
    accuracy: dict[tuple[str, str | None], float] = {
        ("unimodal", None): 0.4, ("ridge", None): 0.42, ("prior", None): 0.6,
        ("prior", "permuted"): 0.3, ("prior", "random"): 0.42,
    }  # fmt: skip
    comparison = only(write_run(accuracy=accuracy))
    found = {(d.a, d.b): d.interval.delta for d in comparison.differences if d.shots == 4}
    expected = {
        ("ridge", "unimodal"): 2.0,
        ("prior", "ridge"): 18.0,
        ("prior", "unimodal"): 20.0,
        ("prior[permuted]", "ridge"): -12.0,
        ("prior[random]", "ridge"): 0.0,
        ("prior", "prior[permuted]"): 30.0,
        ("prior", "prior[random]"): 18.0,
    }
    assert found == pytest.approx(expected)
    text = summary(comparison)
    assert "prior − ridge" in text
    assert re.search(r"With its classes permuted: −12\.0 \[.*\], hurts\.", text)
    assert "prior[permuted] − ridge" in terminal(comparison)


def test_average_over_shots_is_their_mean(write_run: WriteRun) -> None:
    path = write_run(shots=(1, 4))
    run = load_run(path)
    for result in run.cells:
        if result.cell.shots == 4 and result.cell.method == "uml" and result.cell.control is None:
            change_predictions(run, result, run.test_labels)
    comparison = only(path)
    pair = ("uml", "unimodal-deep")
    by_shots = {d.shots: d.interval.delta for d in comparison.differences if (d.a, d.b) == pair}
    assert by_shots == pytest.approx({1: 10.0, 4: 50.0})
    (mean,) = [d for d in comparison.averaged if (d.a, d.b) == pair]
    assert mean.shots is None
    assert mean.interval.delta == pytest.approx(30.0)
    assert mean.interval.low is not None
    assert 20 < mean.interval.low < 30


def test_unimodal_rows_are_shared_and_deep_ones_follow_the_width(write_run: WriteRun) -> None:
    configurations = [(("text",), 8), (("text", "audio"), 8), (("audio",), 4)]
    comparisons = compare(load_run(write_run(configurations=configurations, shots=(1,))))
    assert [c.auxiliaries for c in comparisons] == [("text",), ("text", "audio"), ("audio",)]
    assert [c.row(("unimodal-deep", None), 1).shared_width for c in comparisons] == [8, 8, 4]  # type: ignore[union-attr]
    rows = table(comparisons)
    assert sum(row.method == "unimodal" for row in rows) == 1
    assert sum(row.method == "unimodal-deep" for row in rows) == 2
    assert sum(row.method == "uml" and row.control is None for row in rows) == 3


def test_seeds_that_one_side_lacks_are_left_out_and_counted(write_run: WriteRun) -> None:
    path = write_run(
        seeds=(1, 2, 3, 4), skip=lambda cell: cell.method == "uml" and cell.seed == 2 and cell.shots == 4
    )
    comparison = only(path)
    found = {(d.a, d.b, d.shots): d for d in comparison.differences}
    assert found["uml", "unimodal", 4].interval.draws == 3
    assert found["uml", "unimodal", 4].left_out == 1
    assert found["uml", "unimodal", 1].left_out == 0
    assert found["uml-init", "unimodal", 4].interval.draws == 4
    assert "(n=3)" in terminal(comparison)
    assert "left out (up to 1)" in terminal(comparison)


def test_order_of_shots_and_of_seeds_does_not_matter(write_run: WriteRun) -> None:
    comparison = only(write_run(shots=("all", 16, 2)))
    assert comparison.shots == [2, 16, "all"]
    assert "k = 2" in terminal(comparison)
    assert "all" in terminal(comparison)


def test_two_seeds_have_no_interval_and_the_summary_says_so(write_run: WriteRun) -> None:
    comparison = only(write_run(seeds=(1, 2)))
    assert all(d.interval.low is None for d in comparison.differences)
    assert "2 seeds cannot show" in summary(comparison)
    for text in (averages(comparison), terminal(comparison), markdown(comparison)):
        assert "95 %" not in text.splitlines()[-1]
        assert "an interval takes three seeds" in text


def test_only_unimodal_methods(write_run: WriteRun) -> None:
    accuracy = {("unimodal", None): 0.4, ("unimodal-deep", None): 0.5}
    comparison = only(write_run(accuracy=accuracy, configurations=[]))
    assert comparison.title == "toy: image"
    assert [(d.a, d.b) for d in comparison.differences] == [("unimodal-deep", "unimodal")] * 2
    assert "nothing was trained both with and without" in summary(comparison)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (0.6, "unpaired text helps: +10.0 points"),
        (0.5, "unpaired text makes no difference: 0.0 points"),
        (0.4, "unpaired text hurts: −10.0"),
    ],
)
def test_the_summary_is_a_short_sentence_and_bullet_points_that_follow_the_numbers(
    write_run: WriteRun, data: float, words: str
) -> None:
    accuracy = {("unimodal", None): 0.3, ("unimodal-deep", None): 0.5, ("uml", None): data}
    text = summary(only(write_run(accuracy=accuracy)))
    assert words in text
    assert "+20.0" in text  # the deeper head
    first, *others = text.splitlines()
    assert first.endswith(".")
    assert ". " not in first
    assert len(first.split()) <= 25
    assert all(re.fullmatch(r"- [A-Z].+\.", other) for other in others)


def test_the_summary_says_what_the_controls_did(write_run: WriteRun) -> None:
    text = summary(only(write_run()))
    assert re.search(r"With its classes permuted: −8\.0 \[.*\], hurts\.", text)
    assert re.search(r"Random class vectors in its place: 0\.0 \[.*\], no difference\.", text)
    accuracy = {
        ("unimodal", None): 0.4, ("unimodal-deep", None): 0.5, ("uml", None): 0.6, ("uml", "random"): 0.58,
    }  # fmt: skip
    text = summary(only(write_run("toy-image-00000002", accuracy=accuracy)))
    assert re.search(r"Random class vectors in its place: \+8\.0 \[.*\], helps, too; ", text)
    assert "what it says of the classes is worth +2.0" in text


def test_across_data_sets(write_run: WriteRun) -> None:
    runs = [write_run(f"{name}-image-1", dataset=name) for name in ("a", "b", "c")]
    again = write_run(
        "c-image-2", dataset="c", accuracy={("unimodal", None): 0.3, ("unimodal-deep", None): 0.5}
    )
    comparisons = [c for path in [*runs, again] for c in compare(load_run(path))]
    found = {(item.a, item.b, item.shots): item for item in across(comparisons)}
    depth = found["unimodal-deep", "unimodal", 4]
    assert depth.datasets == ("a", "b", "c")
    assert depth.interval.draws == 3
    assert across(comparisons[:1]) == []


def test_terminal_fits_a_hundred_columns(write_run: WriteRun) -> None:
    accuracy = {
        ("unimodal", None): 0.1, ("unimodal-deep", None): 1.0, ("init-only", None): 0.3, ("uml", None): 0.0,
        ("uml-init", None): 0.62, ("uml-init", "permuted"): 0.9, ("uml-init", "random"): 0.2,
    }  # fmt: skip
    comparison = only(write_run(accuracy=accuracy, shots=(1, 2, 4, 8, 16)))
    for text in (terminal(comparison), accuracies(comparison), averages(comparison)):
        assert max(map(len, text.splitlines())) <= 100
        assert "…" not in text
    assert "uml-init − uml-init[permuted]" in terminal(comparison)


def test_long_names_leave_the_numbers_whole(write_run: WriteRun) -> None:
    accuracy = {
        ("unimodal", None): 0.1, ("unimodal-deep", None): 0.5, ("uml", None): 0.6,
        ("uml", "unrelated:stanford_cars"): 0.4,
    }  # fmt: skip
    text = averages(only(write_run(accuracy=accuracy)))
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 100
    [line] = [line for line in text.splitlines() if line.startswith("uml − uml[unrelated:stanford_cars]")]
    assert re.search(r"\+20\.0 \* +\[\d+\.\d, \d+\.\d\] +data against", line)


def test_markdown_is_a_table(write_run: WriteRun) -> None:
    lines = markdown(only(write_run())).splitlines()
    head = lines.index("| method | k = 1 | k = 4 |")
    assert lines[head + 1] == "| --- | --- | --- |"
    assert "| `uml` | 60.0 ± 0.0 | 60.0 ± 0.0 |" in lines
    assert len({line.count("|") for line in lines if line.startswith("| data")}) == 1


def test_signed() -> None:
    assert [signed(x) for x in (5.21, -0.3, 0.04, -0.04, 0.001)] == ["+5.2", "−0.3", "+0.04", "−0.04", "0.0"]


def test_intervals_do_not_depend_on_what_else_is_compared(write_run: WriteRun) -> None:
    path = write_run()
    alone = {(d.a, d.b): d for d in only(path, shots=[4]).differences}
    together = {(d.a, d.b): d for d in only(path).differences if d.shots == 4}
    assert alone == together


def test_damaged_predictions_are_named(write_run: WriteRun) -> None:
    path = write_run()
    victim = next((path / "predictions").glob("uml-data-*.npy"))
    victim.write_bytes(b"\x93NUMPY")
    with pytest.raises(InputError, match=r"cannot be read.*to train the cell again"):
        _ = only(path).differences
    np.save(victim, np.zeros(3, dtype=np.int32))
    with pytest.raises(InputError, match="3 predictions for 200 test rows"):
        _ = only(path).differences
    np.save(victim, np.zeros(200, dtype=np.int32))
    with pytest.raises(InputError, match=r"says 60.00 % and its predictions are right on 25.00 %"):
        _ = only(path).rows
    victim.unlink()
    with pytest.raises(InputError, match=str(victim.stem)):
        _ = only(path).differences


def test_one_comparison_has_one_interval_under_every_heading(write_run: WriteRun) -> None:
    configurations = [(("text",), 8), (("text", "audio"), 8)]
    first, second = compare(load_run(write_run(configurations=configurations, shots=(1, 4))))
    pair = ("unimodal-deep", "unimodal")
    for mine, theirs in zip(first.differences, second.differences, strict=True):
        if (mine.a, mine.b) == pair:
            assert mine.interval == theirs.interval


def test_the_summary_says_where_the_data_did_the_opposite(write_run: WriteRun) -> None:
    path = write_run(shots=(1, 2, 4))
    run = load_run(path)
    for result in run.cells:
        if result.cell.shots == 2 and result.cell.method == "uml" and result.cell.control is None:
            wrong = (run.test_labels + 1) % (run.test_labels.max() + 1)
            change_predictions(run, result, wrong)
        if result.cell.shots != 2 and result.cell.method == "uml" and result.cell.control is None:
            change_predictions(run, result, run.test_labels)
    text = summary(only(path))
    assert "helps: +" in text
    assert "But at k = 2 it hurts: −50.0" in text
    assert "at k = 4 it hurts" not in text


def test_the_summary_says_that_few_groups_and_one_draw_limit_the_interval(write_run: WriteRun) -> None:
    path = write_run(shots=("all",))
    assert "not the draw" in summary(only(path))
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, "test_groups": 1}))
    assert "come from 1 group only" in summary(only(path))
    (path / "config.json").write_text(json.dumps({**config, "test_groups": 40}))
    assert "group" not in summary(only(path))
