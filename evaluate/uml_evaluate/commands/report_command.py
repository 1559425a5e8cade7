"""`uml report`: parse, call `uml_evaluate.write_report`, print."""

from __future__ import annotations

from pathlib import Path

import click

from uml_cache import Output, uml_command
from uml_evaluate.report.exhibits.maps import MAPS

_MOST = 30  # sentences on a terminal
_EXAMPLE = """
uml report
uml report ./runs --out ./table.html
"""


@uml_command("report", example=_EXAMPLE, short_help="Write all runs of a folder as one HTML page.")
@click.argument("runs", type=click.Path(path_type=Path), default=Path("runs"))
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE",
              help="The HTML file.  [default: RUNS/report.html]")  # fmt: skip
@click.option("--samples/--no-samples", default=True, show_default=True,
              help="Show samples, mistakes, a map of the features and neighbours, too.")  # fmt: skip
@click.option("--map", "kind", type=click.Choice(MAPS), default="pca", show_default=True,
              help="How the map is made; umap needs the extra `maps`.")  # fmt: skip
@click.option("--full/--no-full", default=None, help="Show each run in full, or in rows of one table.  "
                                                    "[default: in full up to ten runs]")  # fmt: skip
def report(output: Output, runs: Path, out: Path | None, samples: bool, kind: str, full: bool | None) -> None:
    """Write every run in RUNS (default ./runs) as one self-contained HTML page.

    It begins with one sentence on what the unpaired data added, a table and a picture. The rest opens on a
    click: every method and control, samples of each class, mistakes with and without the data, a confusion
    picture. Below these come a map of the features, neighbours across modalities, caveats, and the commands
    that repeat it.

    Analyses that `uml eval --analysis` has stored with a run are on the page, too. Figures also go into the
    folder `figures` beside the page, as PNG and SVG, tables into `tables`, as CSV, Markdown and LaTeX.

    Of more than ten runs the page holds one table, with a row for each comparison.
    """
    from uml_evaluate.comparing.shown.summary import summary
    from uml_evaluate.report.html import write_report

    written = write_report(runs, out=out, samples=samples, map=kind, full=full, output=output)
    value = {
        "report": str(written.path),
        "markdown": str(written.markdown),
        "figures": [str(path) for path in written.figures],
        "tables": [str(path) for path in written.tables],
        "runs": [str(path) for path in written.runs],
    }
    said = [summary(comparison) for comparison in written.comparisons]
    if len(said) > _MOST:
        said = [f"{len(said)} comparisons of {len(written.runs)} runs"]
    output.result(value, "\n\n".join(said) + f"\n\nreport   {written.path}\nmarkdown {written.markdown}")
