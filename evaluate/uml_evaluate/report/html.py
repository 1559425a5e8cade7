"""`uml report`: every run of a folder on one HTML page that needs nothing else."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uml_cache import QUIET, InputError, Output, available_cores, escapes, unknown
from uml_evaluate.comparing.comparison import Comparison, across, compare
from uml_evaluate.comparing.rows import PROBES
from uml_evaluate.comparing.shown.figures import (
    accuracy_figure,
    differences_figure,
    file_name,
    key_figure,
    save,
)
from uml_evaluate.comparing.shown.headline import ground, headline, key_arms
from uml_evaluate.comparing.shown.summary import points
from uml_evaluate.comparing.shown.tables import markdown
from uml_evaluate.report.exhibits.collecting import collect
from uml_evaluate.report.exhibits.maps import MAPS
from uml_evaluate.report.exhibits.samples import Budget, Samples
from uml_evaluate.report.export import write_comparison
from uml_evaluate.report.html_tables import (
    accuracy_table,
    across_table,
    difference_table,
    key_table,
    metric_tables,
    summary_table,
)
from uml_evaluate.report.page import Cell, PageTable, page
from uml_evaluate.report.record import RunRecord, describe, mixed_features
from uml_evaluate.report.section import shown_findings
from uml_train import DamagedFile, find_runs, write_atomic

if TYPE_CHECKING:
    from uml_cache import StoreInfo
    from uml_manifests import Manifest
    from uml_train import Run

_SENTENCES_ON_TOP = 3
_MANY = 10  # runs: a page of more shows a row of each


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


def write_report(
    runs: Path | str,
    *,
    out: Path | str | None = None,
    samples: bool | Mapping[str, Manifest] = True,
    map: str = "pca",
    full: bool | None = None,
    output: Output = QUIET,
) -> Report:
    """Write the report of all runs below a folder (or of one run).

    Args:
        full: whether each run is shown in full; otherwise it has a row in the page's table, and no figures or
            tables in files. None: in full where there are ten runs or fewer.
        samples: whether the page shows samples, mistakes, a map and neighbours; or the samples themselves by
            role (`image`, `text`), row by row as in the stores, where they are in memory.
        map: how features are laid out in two dimensions: `pca`, `tsne` or `umap`.
        out: the HTML file; None takes `report.html` in the folder. Figures go into `figures` beside it as PNG
            and SVG, tables into `tables` as CSV, Markdown and LaTeX, and all of the page's main tables as
            Markdown into a file of its name.

    Raises:
        InputError: no runs, none with a finished cell, or none that is not damaged.
    """
    if map not in MAPS:
        raise unknown("map", map, MAPS)
    runs = Path(runs)
    path = Path(out) if out is not None else runs / "report.html"
    if path.is_dir():
        raise InputError(f"--out {path} is a folder; name the HTML file, such as {path / 'report.html'}")
    compared, left_out = _finished_runs(runs, output)
    brief = len(compared) > _MANY if full is None else not full
    budget = Budget()
    shown: list[dict[str, Any]] = []
    files: list[Path] = []
    opened: dict[str, StoreInfo] = {}
    with output.progress(sum(len(c) for _, c in compared), "table", "report") as bar:
        for run, comparisons in reversed(compared):
            record = describe(run, comparisons, opened)
            for remark in record.remarks:
                output.say(remark)
            if brief:
                rows = [{"comparison": comparison, "anchor": ""} for comparison in comparisons]
                shown.append({"record": record, "parts": rows})
                bar.update(len(rows))
                continue
            prefix = f"{run.path.name}-" if len(compared) > 1 else ""
            held = Samples(run, budget, samples if isinstance(samples, Mapping) else None)
            own = []
            for comparison in comparisons:
                part, written = _part(comparison, run, path.parent, prefix)
                if samples is not False:
                    what = collect(run, comparison, held, path.parent / "figures", part["anchor"], map)
                    part["exhibits"] = what
                    written += what.files
                own.append(part)
                files += written
                bar.update()
            shown.append({"record": record, "stores": _stores_table(record), "parts": own})
    parts = [part for run in shown for part in run["parts"]]
    every = [part["comparison"] for part in parts]
    over = across(c for _, comparisons in compared for c in comparisons)
    text = page(
        folder=runs,
        runs=shown,
        on_top=[(headline(c), ground(c)) for c in every if len(every) <= _SENTENCES_ON_TOP],
        brief=brief,
        several=len(parts) > 1 or brief,
        full=budget.refused,
        summary=summary_table(
            [
                (run["record"].path.name if brief else "", part["anchor"], part["comparison"])
                for run in shown
                for part in run["parts"]
            ]
        ),
        mixed=[*left_out, *mixed_features([run["record"] for run in shown])],
        any_sequences=any(comparison.on_sequences for comparison in every),
        across=across_table(over) if over else None,
    )
    write_atomic(path, text.encode())
    markdown_path = path.with_suffix(".md")
    texts = [text for comparison in every for text in _as_markdown(comparison)]
    write_atomic(markdown_path, "\n".join(texts).encode())
    paths = [run.path for run, _ in reversed(compared)]
    figures = [file for file in files if file.suffix in (".png", ".svg")]
    tables = [file for file in files if file not in figures]
    return Report(path, markdown_path, figures, tables, paths, every)


def _finished_runs(runs: Path, output: Output) -> tuple[list[tuple[Run, list[Comparison]]], list[str]]:
    """The runs that have something to show, oldest first, and a line for each that is left out as damaged.

    Raises:
        InputError: there is none.
    """
    damaged: list[DamagedFile] = []
    found = find_runs(runs, damaged)
    if not found and not damaged:
        state = "holds no run" if runs.is_dir() else "does not exist"
        raise InputError(f"{runs} {state}; make one with `uml train --cache ./feats --out {runs}`")
    compared: list[tuple[Run, list[Comparison]]] = []
    with ThreadPoolExecutor(available_cores()) as pool:  # drawing the intervals leaves Python's lock
        read = [pool.submit(_compared, run) for run in found]
        for run, comparisons in zip(found, read, strict=True):
            try:
                given = comparisons.result()
            except DamagedFile as error:
                damaged.append(error)
                continue
            if given:
                compared.append((run, given))
            else:
                output.say(f"{run.path} has no finished cell yet and is left out")
    if not compared:
        if damaged:
            raise damaged[0]
        raise InputError(
            f"no run in {runs} has a finished cell; run the same `uml train` command again to finish it"
        )
    left_out = [f"A run is left out: {error}" for error in damaged]
    for text in left_out:
        output.say(text)
    return compared, left_out


def _as_markdown(comparison: Comparison) -> list[str]:
    """The headline, what it rests on as a list, and the tables."""
    listed = [f"- {escapes.markdown(point)}" for point in points(comparison)]
    return [escapes.markdown(headline(comparison)), "", *listed, "", markdown(comparison)]


def _compared(run: Run) -> list[Comparison]:
    """The comparisons of a run, all of whose files have been read; none where no cell is finished."""
    comparisons = compare(run) if run.cells else []
    for comparison in comparisons:
        _ = comparison.rows, comparison.differences, comparison.averaged
    return comparisons


def _stores_table(record: RunRecord) -> PageTable:
    rows = [
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
    ]
    head = ["role", "encoder", "samples", "width", "fingerprint", "store"]
    return PageTable(head, rows, caption="feature stores")


def _part(comparison: Comparison, run: Run, out: Path, prefix: str) -> tuple[dict[str, Any], list[Path]]:
    """One comparison for the template, and the files beside the page."""
    name, folder = f"{prefix}{file_name(comparison)}", out / "figures"
    what = f"{comparison.title}: test accuracy versus labelled samples per class"
    accuracies = save(accuracy_figure(comparison), folder, f"{name}-accuracy", what)
    what = f"{comparison.title}: accuracy with and without the unpaired data"
    simple = save(key_figure(comparison, key_arms(comparison)), folder, f"{name}-key", what)
    analyses = shown_findings(run, comparison.auxiliaries, out, prefix)
    files = simple.files + accuracies.files + write_comparison(comparison, out / "tables", name)
    part = {
        "comparison": comparison,
        "title": comparison.title,
        "anchor": name,
        "headline": headline(comparison),
        "ground": ground(comparison),
        "key_figure": simple,
        "points": points(comparison),
        "key": key_table(comparison),
        "exhibits": None,
        "seeds": f"mean over {comparison.seeds} seeds" if comparison.seeds > 1 else "one seed",
        "accuracies": accuracy_table(comparison),
        "accuracy_figure": accuracies,
        "differences": None,
        "metrics": metric_tables(run, comparison),
        "command": _command(comparison, run),
        "analyses": analyses,
    }
    if comparison.differences:
        what = f"{comparison.title}: differences with intervals"
        drawn = save(differences_figure(comparison), folder, f"{name}-differences", what)
        files = files + drawn.files
        part |= {"differences": difference_table(comparison), "differences_figure": drawn}
    return part, files + [file for shown in analyses for file in shown.files]


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
