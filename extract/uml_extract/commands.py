"""`uml extract`: options in, one call of the library, result out."""

from __future__ import annotations

from typing import Any

import click

from uml_cache.command import Output, uml_command
from uml_cache.errors import InputError
from uml_cache.tables.options import column_options, left_out_option, take_choice

_EXAMPLE = """
uml extract --encoder hog-color                     # the demo's shapes, no download
uml extract --encoder dinov2_vits14 --data ./photos --name birds
uml extract --encoder hog-color --data ./photos --name birds --retry-failed
uml extract --encoder hf:sentence-transformers/all-MiniLM-L6-v2 --pooling mean --data texts.csv --name birds
"""


@uml_command("extract", example=_EXAMPLE)
@click.option("--encoder", help="Name (--list shows them), timm:ID, hf:ID, or a model's folder.")
@click.option("--data", help="Manifest, folder of class folders, CSV, or name; without it the demo's shapes.")
@click.option("--name", help="The data set's name; default: the manifest's, else the folder's or file's.")
@click.option("--set", "set_name", help="Which sample set of the modality, such as vanilla or cupl texts.")
@click.option("--root", type=click.Path(), help="Folder that the data's relative paths start from.")
@column_options
@click.option("--out", type=click.Path(), default="feats", show_default=True, help="Cache folder.")
@click.option("--pool/--tokens", default=True, help="Pooled features, or pooled and token features.")
@click.option("--dtype", default="float16", show_default=True, help="Stored as float16 or float32.")
@click.option("--pooling", help="cls, mean or last; default: the encoder's own.")
@click.option("--layer", type=int, default=-1, show_default=True, help="Block to take, counted from 0.")
@click.option(
    "--transform", default="own", show_default=True, help="own, or paper (224 px, CLIP mean and std)."
)
@click.option("--weights", type=click.Path(), help="A safetensors, .pt or .pth file, or a folder.")
@click.option("--batch-size", default="auto", show_default=True, help="Samples per forward pass.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--executor", default="local", show_default=True, help="local, torchrun, slurm or ray.")
@click.option(
    "--workers", type=int, help="Processes (local, ray), jobs (slurm); default: one per CUDA device."
)
@click.option(
    "--decode-workers",
    default="auto",
    show_default=True,
    help="Processes that decode pictures and sounds; auto: one per core, 0: none, threads instead.",
)
@click.option(
    "--sbatch", default="", help='Options for slurm\'s jobs, such as "--gres=gpu:1 --time=4:00:00".'
)
@click.option("--max-errors", default="1%", show_default=True, help="Unreadable samples allowed: N or N%.")
@click.option("--retry-failed", is_flag=True, help="Do the tasks again that hold unreadable samples.")
@click.option(
    "--check-sources", is_flag=True, help="Do the tasks again whose files have changed (size or time)."
)
@left_out_option
@click.option("--list", "list_", is_flag=True, help="List the encoders and stop.")
def extract(
    output: Output,
    encoder: str | None,
    data: str | None,
    name: str | None,
    set_name: str | None,
    root: str | None,
    out: str,
    pool: bool,
    dtype: str,
    pooling: str | None,
    layer: int,
    transform: str,
    weights: str | None,
    batch_size: str,
    device: str,
    executor: str,
    workers: int | None,
    decode_workers: str,
    sbatch: str,
    max_errors: str,
    retry_failed: bool,
    check_sources: bool,
    left_out: str | None,
    list_: bool,
    **columns: str | None,
) -> None:
    """Extract features with a frozen encoder into the cache, once.

    Without --data the demo's data set is rendered into ./data/shapes and used; its other modalities are
    extracted with built-in encoders, so that `uml train --cache ./feats` can follow. An interrupted
    extraction goes on where it was when the command is repeated.
    """
    from uml_extract import work

    if list_:
        rows, text = work.encoder_table()
        output.result(rows, text)
        return
    if encoder is None:
        raise InputError("which encoder? give --encoder NAME; `uml extract --list` shows them")
    if data is None and (name or set_name or root):
        raise InputError("--name, --set and --root describe --data, which is missing")
    loading: dict[str, Any] = {
        "pooling": pooling,
        "layer": layer,
        "transform": transform,
        "weights": weights,
        "device": device,
    }
    extracting: dict[str, Any] = {
        "out": out,
        "tokens": not pool,
        "dtype": dtype,
        "batch_size": work.parse_batch_size(batch_size),
        "executor": executor,
        "workers": workers,
        "decode_workers": work.parse_decode_workers(decode_workers),
        "retry_failed": retry_failed,
        "check_sources": check_sources,
        "max_errors": work.parse_max_errors(max_errors),
        "left_out": left_out,
        "output": output,
    }
    source = {"data": data, "name": name, "set": set_name, "root": root, "choice": take_choice(columns)}
    if sbatch and executor != "slurm":
        raise InputError("--sbatch goes with --executor slurm")
    if executor == "slurm":
        context = click.get_current_context()
        options = {str(each.name): context.params.get(str(each.name)) for each in context.command.params}
        value, text = work.submit_data(encoder, source, options)
        output.result(value, text)
        return
    value, text = work.extract_data(encoder, source, loading, extracting)
    output.result(value, text)
