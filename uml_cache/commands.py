"""`uml cache`: list, describe and verify feature stores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from uml_cache.command import Output, uml_command
from uml_cache.errors import InputError

if TYPE_CHECKING:
    from uml_cache.journal import FailedRow

_REASONS = 3
_PATH = click.Path(path_type=Path)


@click.group("cache")
def cache() -> None:
    """List, describe and verify the stores of a cache folder."""


@uml_command("ls", example="uml cache ls ./feats")
@click.argument("path", type=_PATH, default=Path("feats"))
def _ls(output: Output, path: Path) -> None:
    """List the feature stores under PATH (default: ./feats)."""
    from uml_cache.catalogue import find_stores

    stores = find_stores(path)
    if not stores:
        raise InputError(f"no feature store under {path}; `uml extract --out {path}` makes one")
    header = ("path", "dataset", "modality", "encoder", "rows", "dim", "sealed")
    lines = [header]
    for info in stores:
        modality = info.modality if info.set is None else f"{info.modality}.{info.set}"
        encoder = info.encoder_name if info.variant is None else f"{info.encoder_name}@{info.variant}"
        sealed = "yes" if info.sealed else f"no ({info.done}/{info.tasks} tasks)"
        dim = str(info.dim if info.dim is not None else info.token_dim)
        lines.append((str(info.path), info.dataset, modality, encoder, str(info.rows), dim, sealed))
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    text = "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
    output.result([info.summary() for info in stores], text)


@uml_command("info", example="uml cache info ./feats/shapes/image/hog-color.zarr")
@click.argument("path", type=_PATH)
def _info(output: Output, path: Path) -> None:
    """Describe the store at PATH: arrays, encoder, fingerprint."""
    from uml_cache.catalogue import store_info

    info = store_info(path)
    described = info.description()
    failed = info.failed()
    state = "sealed" if info.sealed else f"not finished, {info.done} of {info.tasks} tasks"
    lines = [
        f"{info.path} ({state})",
        f"  data set     {info.dataset}, {info.modality}{'' if info.set is None else f', set {info.set}'}",
        f"  rows         {info.rows}, {len(info.classes)} classes",
        f"  failed       {len(failed)}{_first_reasons(failed)}",
        f"  fingerprint  {info.fingerprint or 'none (written by another tool)'}",
    ]
    for name, array in described["arrays"].items():
        shape = " × ".join(str(size) for size in array["shape"])
        lines.append(f"  {name:<14} {shape} {array['dtype']}, {array['bytes'] / 1e6:.2f} MB on disk")
    lines += [f"  encoder.{key}: {value}" for key, value in info.encoder.items()]
    output.result(described, "\n".join(lines))


def _first_reasons(failed: Sequence[FailedRow]) -> str:
    if not failed:
        return ""
    shown = "; ".join(f"{sample.id}: {sample.reason}" for sample in failed[:_REASONS])
    return f" (`uml extract --retry-failed` tries them again), the first: {shown}"


@uml_command("verify", example="uml cache verify ./feats/shapes/image/hog-color.zarr")
@click.argument("path", type=_PATH)
@click.pass_context
def _verify(context: click.Context, output: Output, path: Path) -> None:
    """Recompute every checksum of the store at PATH; exit 1 unless all is sound and the store is sealed."""
    from uml_cache.verification import verify

    with output.progress(None, "file", "verify") as bar:
        report = verify(path, progress=bar.update)
    lines = [f"bad: {entry['array']} {entry['shard']}: {entry['reason']}" for entry in report.bad]
    if report.ok:
        lines.append(f"{path} is sound: {report.checked} files checked")
    elif report.bad:
        lines.append(
            f"{path} is damaged: {len(report.bad)} of {report.checked} files are bad; delete the files named "
            "above and run the same `uml extract` command again, it makes what is missing"
        )
    else:
        lines.append(
            f"{path} is sound so far but not sealed: run the same `uml extract` command again to finish it"
        )
    output.result(report.as_json(), "\n".join(lines))
    if not report.ok:
        context.exit(1)


for _command in (_ls, _info, _verify):
    cache.add_command(_command)
