"""`uml report`: every run of a folder on one HTML page that needs nothing else."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from uml_cache import QUIET, InputError, Output, escapes
from uml_evaluate.comparing.comparison import Comparison, across, compare
from uml_evaluate.comparing.figures import accuracy_figure, differences_figure, file_name, save
from uml_evaluate.comparing.rows import PROBES
from uml_evaluate.comparing.sentence import sentence
from uml_evaluate.comparing.tables import markdown
from uml_evaluate.report import page
from uml_evaluate.report.export import write_comparison
from uml_evaluate.report.html_tables import accuracy_table, across_section, difference_table, summary_table
from uml_evaluate.report.page import Cell
from uml_evaluate.report.record import RunRecord, describe, mixed_features
from uml_evaluate.report.section import analyses_section
from uml_train import find_runs, write_atomic

if TYPE_CHECKING:
    from uml_train import Run

_LADDER_NOTE = (
    "Read the methods as a ladder: unimodal is one linear layer on the target's features; unimodal-deep is "
    "the same projection and head that uml has, without any other modality; init-only starts this head from "
    "the mean embedding of each class in the first auxiliary; uml and uml-init also train it on the unpaired "
    "samples. What the data adds is uml − unimodal-deep and uml-init − init-only. Controls train on the same "
    "samples with their classes permuted, or on random class vectors. All had the same search, and "
    "validation chose."
)

_SEQUENCES_NOTE = (
    "Runs of the objectives ssl and joint train a transformer on sequences, and score a logistic regression "
    "on the mean of its outputs: unimodal is the same network on as many samples of the target alone, uml "
    "has the unpaired sequences beside them, self-supervised lacks the labels of joint. What the data adds "
    "is uml − unimodal; the control random puts noise in the place of the data."
)

_SENTENCES_ON_TOP = 3


@dataclass(frozen=True)
class Report:
    """A written report, newest run first.

    `markdown` holds its sentences and tables, to be pasted; `figures` are
    PNG and SVG files, `tables` CSV, Markdown and LaTeX.
    """

    path: Path
    markdown: Path
    figures: list[Path]
    tables: list[Path]
    runs: list[Path]
    comparisons: list[Comparison]


def write_report(runs: Path | str, *, out: Path | str | None = None, output: Output = QUIET) -> Report:
    """Write the report of all runs below a folder (or of one run).

    Args:
        out: the HTML file; None takes `report.html` in the folder. Figures go into `figures` beside it as PNG
            and SVG, tables into `tables` as CSV, Markdown and LaTeX, and all of the page's main tables as
            Markdown into a file of its name.

    Raises:
        InputError: no runs, none with a finished cell, or damaged files.
    """
    runs = Path(runs)
    found = find_runs(runs)
    if not found:
        state = "holds no run" if runs.is_dir() else "does not exist"
        raise InputError(f"{runs} {state}; make one with `uml train --cache ./feats --out {runs}`")
    path = Path(out) if out is not None else runs / "report.html"
    if path.is_dir():
        raise InputError(f"--out {path} is a folder; name the HTML file, such as {path / 'report.html'}")
    compared: list[tuple[Run, list[Comparison]]] = []
    for run in found:
        if run.finished():
            compared.append((run, compare(run)))
        else:
            output.say(f"{run.path} has no finished cell yet and is left out")
    if not compared:
        raise InputError(
            f"no run in {runs} has a finished cell; the same `uml train` command goes on with it"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    files: list[Path] = []
    sections: list[str] = []
    texts: list[str] = []
    sentences: list[str] = []
    summary: list[tuple[str, Comparison]] = []
    records: list[RunRecord] = []
    with output.progress(sum(len(c) for _, c in compared), "table", "report") as bar:
        for run, comparisons in reversed(compared):
            records.append(describe(run, comparisons))
            sections += _run_section(records[-1], comparisons)
            prefix = f"{run.path.name}-" if len(compared) > 1 else ""
            for comparison in comparisons:
                html, written = _comparison_section(comparison, run, path.parent, prefix)
                summary.append((_anchor(prefix, comparison), comparison))
                sections += html
                files += written
                sentences.append(sentence(comparison))
                texts += [escapes.markdown(sentence(comparison)), markdown(comparison)]
                bar.update()
    any_sequences = any(c.on_sequences for _, found in compared for c in found)
    head = [
        page.heading(1, "What the unpaired data added"),
        page.paragraph(f"{len(compared)} run{'s' if len(compared) != 1 else ''} from {runs}", "soft"),
        *(page.paragraph(text, "finding") for text in sentences if len(sentences) <= _SENTENCES_ON_TOP),
        summary_table(summary),
        page.paragraph(_LADDER_NOTE, "soft"),
        page.bullets(mixed_features(records), "caveats"),
        *(page.paragraph(_SEQUENCES_NOTE, "soft") for _ in range(any_sequences)),
        *across_section(across(c for _, comparisons in compared for c in comparisons)),
    ]
    write_atomic(path, page.page("uml report", [*head, *sections]).encode())
    markdown_path = path.with_suffix(".md")
    write_atomic(markdown_path, "\n".join(texts).encode())
    paths = [run.path for run, _ in reversed(compared)]
    figures = [file for file in files if file.suffix in (".png", ".svg")]
    tables = [file for file in files if file not in figures]
    return Report(path, markdown_path, figures, tables, paths, [comparison for _, comparison in summary])


def _anchor(prefix: str, comparison: Comparison) -> str:
    return f"{prefix}{file_name(comparison)}"


def _run_section(record: RunRecord, comparisons: Sequence[Comparison]) -> list[str]:
    stores = page.table(
        ["role", "encoder", "samples", "width", "fingerprint", "store"],
        [
            (
                "",
                [
                    Cell(store.role),
                    Cell(store.encoder, kind="text"),
                    Cell(str(store.rows), f"{store.failed_rows} unread" if store.failed_rows else ""),
                    Cell(str(store.dim)),
                    Cell(store.fingerprint[:16], kind="text"),
                    Cell(store.path, kind="wrap"),
                ],
            )
            for store in record.stores
        ],
        caption="feature stores",
    )
    return [
        page.heading(2, f"{record.dataset}: {record.target}"),
        page.paragraph(str(record.path), "soft"),
        page.definitions(record.facts),
        stores,
        page.heading(4, "Caveats"),
        page.bullets(record.caveats, "caveats"),
        page.heading(4, "Repeat it"),
        page.code_block(record.command),
    ]


def _comparison_section(
    comparison: Comparison, run: Run, out: Path, prefix: str
) -> tuple[list[str], list[Path]]:
    name, folder = _anchor(prefix, comparison), out / "figures"
    seeds = f"mean over {comparison.seeds} seeds" if comparison.seeds > 1 else "one seed"
    what = f"{comparison.title}: test accuracy versus labelled samples per class"
    drawn = save(accuracy_figure(comparison), folder, f"{name}-accuracy", what)
    files = drawn.files + write_comparison(comparison, out / "tables", name)
    html = [
        page.heading(3, comparison.title, name),
        page.paragraph(sentence(comparison), "finding"),
        accuracy_table(comparison),
        page.figure(
            drawn.svg_html,
            f"Test accuracy versus labelled samples per class, {seeds}, bars: standard deviation. "
            "Lines stand a little aside of each other so that no bar hides another.",
        ),
    ]
    if comparison.differences:
        what = f"{comparison.title}: differences with intervals"
        drawn = save(differences_figure(comparison), folder, f"{name}-differences", what)
        files = files + drawn.files
        html += [
            difference_table(comparison),
            page.figure(
                drawn.svg_html,
                "Paired differences in percentage points; bars: 95 % interval from a bootstrap over seeds × "
                "test samples (none below 3 seeds).",
            ),
        ]
    html.append(page.code_block(_command(comparison, run)))
    more, written = analyses_section(run, comparison.auxiliaries, out, prefix)
    return html + more, files + written


def _command(comparison: Comparison, run: Run) -> str:
    """What computes these tables again."""
    numbers = [k for k in comparison.shots if k != "all"]
    lines = []
    if numbers:
        lines.append(["--probe", "fewshot", "--k", ",".join(map(str, numbers))])
    if "all" in comparison.shots:
        lines.append(["--probe", "linear"])
    rivals = list(dict.fromkeys(row.method for row in comparison.rows if row.method in PROBES))
    more = ["--rivals", ",".join(rivals)] if rivals else []
    return "\n".join(shlex.join(["uml", "eval", *words, *more, "--runs", str(run.path)]) for words in lines)
