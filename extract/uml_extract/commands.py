"""`uml extract`: options in, one call of the library, result out."""

from __future__ import annotations

from typing import Any

import click

from uml_cache import Output, settings_options, uml_command
from uml_extract.settings import ExtractSettings

_EXAMPLE = """
uml extract --encoder hog-color                     # the demo's shapes, no download
uml extract --encoder dinov2_vits14 --data ./photos --name birds
uml extract --encoder dinov2_vits14 --data ./photos --dry-run
uml extract --encoder hog-color --data ./photos --name birds --retry-failed
uml extract --encoder hf:sentence-transformers/all-MiniLM-L6-v2 --pooling mean --data texts.csv --name birds
"""


@uml_command("extract", example=_EXAMPLE)
@settings_options("extract", ExtractSettings)
@click.option("--dry-run", is_flag=True, help="Say how much there is to do, and how long it would take.")
@click.option("--list", "list_", is_flag=True, help="List the encoders and stop.")
def extract(output: Output, values: dict[str, Any], dry_run: bool, list_: bool) -> None:
    """Extract features with a frozen encoder into the cache, once.

    Without --data the demo's data set is rendered into ./data/shapes and used; its other modalities are
    extracted with built-in encoders, so that `uml train --cache ./feats` can follow. An interrupted
    extraction continues when the command is repeated.
    """
    if list_:
        from uml_extract.work import encoder_table

        output.result(*encoder_table())
        return
    settings = ExtractSettings(**values)
    from uml_extract.work import extract_data, forecast_data, submit_data

    do = forecast_data if dry_run else submit_data if settings.executor == "slurm" else extract_data
    output.result(*do(settings, output))
