"""`uml report`: parse, call `uml_evaluate.write_report`, print."""

from __future__ import annotations

from pathlib import Path

import click

from uml_cache import Output, uml_command

_EXAMPLE = """
uml report
uml report ./runs --out ./table.html
"""


@uml_command("report", example=_EXAMPLE, short_help="Write all runs of a folder as one HTML page.")
@click.argument("runs", type=click.Path(path_type=Path), default=Path("runs"))
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE",
              help="The HTML file.  [default: RUNS/report.html]")  # fmt: skip
def report(output: Output, runs: Path, out: Path | None) -> None:
    """Write every run in RUNS (default ./runs) as one self-contained HTML page: what was run on what, one
    sentence on what the unpaired data added, tables, figures, caveats and the command that repeats it.

    Analyses that `uml eval --analysis` has stored with a run are on the page, too. Figures also go into the
    folder `figures` beside the page, as PNG and SVG, tables into `tables`, as CSV, Markdown and LaTeX.
    """
    from uml_evaluate.comparing.sentence import sentence
    from uml_evaluate.report.html import write_report

    written = write_report(runs, out=out, output=output)
    value = {
        "report": str(written.path),
        "markdown": str(written.markdown),
        "figures": [str(path) for path in written.figures],
        "tables": [str(path) for path in written.tables],
        "runs": [str(path) for path in written.runs],
    }
    said = "\n\n".join(sentence(comparison) for comparison in written.comparisons)
    output.result(value, f"{said}\n\nreport   {written.path}\nmarkdown {written.markdown}")
