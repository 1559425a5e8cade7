"""`uml demo`: parse, call `uml_evaluate.run_demo`, print."""

from __future__ import annotations

from pathlib import Path

import click

from uml_cache import Output, uml_command

_EXAMPLE = """
uml demo
uml demo --out ./uml-demo --seed 1
"""


@uml_command("demo", example=_EXAMPLE, short_help="The whole job on a rendered data set, in a few minutes.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("uml-demo"), show_default=True,
              help="Folder for data, features, runs and report.")  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True,
              help="Fixes the rendered data and the training seeds.")  # fmt: skip
def demo(output: Output, out: Path, seed: int) -> None:
    """Render pictures, sentences and sounds of the same 48 classes, none of them paired; extract them with
    the built-in encoders; train every method and both controls with 1, 2, 4 and 8 labelled samples per class;
    and say what the unpaired data added, with a report. No download. The same command continues a stopped
    demo.
    """
    from uml_evaluate.demo import run_demo

    done = run_demo(out, seed=seed, output=output)
    output.result(done.to_json(), done.text())
