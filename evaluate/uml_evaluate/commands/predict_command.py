"""`uml predict`: parse, call `uml_evaluate.predict.predicting.predict_files`, print."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from uml_cache import InputError, Output, uml_command

_EXAMPLE = """
uml predict ./runs ./photos --out predictions.csv
uml predict ./runs a.jpg b.jpg --out predictions.jsonl --top 3
uml predict ./runs/birds-image-1234abcd new.csv --method uml --shots 16 --out predictions.parquet
uml predict ./runs s3://bucket/photos --out predictions.csv
"""


@uml_command("predict", example=_EXAMPLE, short_help="Say which class new files are of.")
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("samples", nargs=-1, required=True, metavar="FILES|FOLDER|TABLE|URL")
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="FILE",
              help="The table: .csv, .jsonl or .parquet. An existing file is replaced.")  # fmt: skip
@click.option("--method", metavar="METHOD", help="Method of the head.  [default: the best validated]")
@click.option(
    "--shots", metavar="K|all", help="Its labelled samples per class.  [default: the best validated]"
)
@click.option("--seed", type=int, metavar="N", help="Seed of its draw.  [default: the best validated]")
@click.option("--aux", metavar="MODALITY[+MODALITY]", help="Its unpaired data.  [default: the best]")
@click.option("--refit/--no-refit", default=True, show_default=True,
              help="Solve the head once more on training and validation rows together.")  # fmt: skip
@click.option("--top", type=int, default=1, show_default=True, metavar="N",
              help="How many classes a row names, the likeliest first.")  # fmt: skip
@click.option("--probabilities", "every", is_flag=True, help="A column for the probability of every class.")
@click.option("--cache", type=click.Path(path_type=Path),
              help="Folder with the run's feature stores, if they have moved.")  # fmt: skip
@click.option("--encoder", metavar="NAME|FOLDER",
              help="Where the run's encoder is, if not at its recorded name.")  # fmt: skip
@click.option("--weights", type=click.Path(path_type=Path), metavar="PATH",
              help="Its weights, if `uml extract` had --weights, too.")  # fmt: skip
@click.option("--device", default="auto", show_default=True, help="Where the encoder runs.")
@click.option("--batch-size", default="auto", show_default=True, metavar="auto|N",
              help="Samples in one forward pass.")  # fmt: skip
@click.option("--decode-workers", default="auto", show_default=True, metavar="auto|N",
              help="Processes that decode pictures and sounds; 0: threads.")  # fmt: skip
@click.option("--path-column", metavar="COLUMN", help="Column of the paths in a table.")
@click.option("--text-column", metavar="COLUMN", help="Column of the texts in a table.")
def predict(output: Output, run: Path, samples: tuple[str, ...], out: Path, **given: Any) -> None:
    """Predict the class of new samples with the best head of RUN: a run, a folder of runs (the newest is
    taken), or a file that `Model.save` wrote.

    The samples go through the encoder that the run recorded; it is checked to have the same weights. A
    sample that cannot be read is a row with a reason. The same command continues where it stopped.
    Columns: path,prediction,probability, then what --top and --probabilities ask for, then reason.
    """
    from uml_cache import Choice
    from uml_evaluate.predict.predicting import predict_files

    choice = Choice(path=given.pop("path_column"), text=given.pop("text_column"))
    auxiliaries = given.pop("aux")
    found = predict_files(
        run,
        samples,
        out,
        choice=choice,
        auxiliaries=None if auxiliaries is None else auxiliaries.split("+"),
        shots=_shots(given.pop("shots")),
        batch_size=_number(given.pop("batch_size"), "--batch-size", 1),
        decode_workers=_number(given.pop("decode_workers"), "--decode-workers", 0),
        output=output,
        **given,
    )
    output.result(found.to_json(), found.text())


def _shots(text: str | None) -> Any:
    if text is None or text == "all":
        return text
    return _number(text, "--shots", 1)


def _number(text: str, option: str, least: int) -> Any:
    """`auto`, or a whole number."""
    if text == "auto" and option != "--shots":
        return text
    if not (text.isascii() and text.isdecimal() and int(text) >= least):
        other = "all" if option == "--shots" else "auto"
        raise InputError(f"{option} is {text}; expected {other}, or a whole number from {least} on")
    return int(text)
