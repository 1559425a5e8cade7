"""`uml embed`: parse, call `uml_train.pretrain.embed.embed`, print."""

from __future__ import annotations

from pathlib import Path

import click

from uml_cache import Output, left_out_option, uml_command

_EXAMPLE = """
uml extract --encoder pixels --tokens
uml train --objective ssl --target image --aux text
uml embed ./runs --modality image
"""


@uml_command("embed", example=_EXAMPLE, short_help="Write what a transformer learnt back into the cache.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--modality", "modalities", multiple=True, metavar="LABEL",
              help="A modality of the run; may be repeated. Default: all of the network's.")  # fmt: skip
@click.option("--cell", metavar="KEY",
              help="A cell's name in RUN/cells. Default: the best validated of uml.")  # fmt: skip
@click.option("--cache", type=click.Path(path_type=Path),
              help="Folder with the run's feature stores, if they have moved.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path),
              help="Cache folder to write to.  [default: the run's]")  # fmt: skip
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True,
              help="Where the network runs.")  # fmt: skip
@left_out_option
def embed(
    output: Output,
    run: Path,
    modalities: tuple[str, ...],
    cell: str | None,
    cache: Path | None,
    out: Path | None,
    device: str,
    left_out: str | None,
) -> None:
    """Write the mean of a network's outputs over every sequence as feature stores, which `uml train`,
    `uml eval` and `uml cache` take like any other. RUN is one of `uml train --objective ssl` or joint, or a
    folder of runs, of which the newest is taken.
    """
    from uml_cache import write_left_out
    from uml_train.pretrain.embed import embed as run_embed
    from uml_train.run import newest_run

    rows: list[tuple[str, str, str]] = []
    done = run_embed(
        newest_run(run),
        modalities=modalities or None,
        cell=cell,
        cache=cache,
        out=out,
        device=device,
        left_out=rows,
        output=output,
    )
    if left_out is not None:
        write_left_out(Path(left_out), rows)
    lines = [f"{one.store}: {one.used.text()}" for one in done]
    output.result([one.to_json() for one in done], "\n".join(lines))
