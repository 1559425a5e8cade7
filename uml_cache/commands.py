"""`uml cache`: list, describe, compare, verify, import, export, share and remove feature stores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from uml_cache.command import Output, uml_command
from uml_cache.errors import InputError
from uml_cache.sharing.share_commands import pull, push
from uml_cache.tables.options import left_out_option

if TYPE_CHECKING:
    from uml_cache.store.journal import FailedRow
    from uml_cache.store.verification import VerifyReport

_REASONS = 3
_PATH = click.Path(path_type=Path)
_PLACE = click.Path()  # a folder, or a URL such as s3://bucket/feats


@click.group("cache")
def cache() -> None:
    """List, describe, compare, verify, import, export, share and remove the stores of a cache folder."""


@uml_command("ls", example="uml cache ls ./feats")
@click.argument("path", type=_PLACE, default="feats")
@click.option(
    "--states", is_flag=True, help="List every state of stores that have grown, not the current one."
)
def _ls(output: Output, path: str, states: bool) -> None:
    """List the feature stores under PATH (default: ./feats)."""
    from uml_cache.store.finding import current_states, look_for_stores

    stores, damaged = look_for_stores(path)
    if not states:
        current = {id(store) for store in current_states(stores).values()}
        stores = [store for store in stores if id(store) in current]
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
    text = "\n".join([text, *(f"damaged: {store.path} ({store.reason})" for store in damaged)])
    value = [
        *(info.summary() for info in stores),
        *({"path": str(store.path), "damaged": store.reason} for store in damaged),
    ]
    output.result(value, text)


@uml_command("info", example="uml cache info ./feats/shapes/image/hog-color.zarr")
@click.argument("path", type=_PLACE)
def _info(output: Output, path: str) -> None:
    """Describe the store at PATH: arrays, encoder, fingerprint."""
    from uml_cache.store.catalogue import store_info

    info = store_info(path)
    described = info.description()
    failed = info.failed()
    state = "sealed" if info.sealed else f"not finished, {info.done} of {info.tasks} tasks"
    lines = [
        f"{info.path} ({state})",
        f"  data set     {info.dataset}, {info.modality}{'' if info.set is None else f', set {info.set}'}",
        f"  rows         {info.rows}, {len(info.classes)} classes",
        f"  failed       {len(failed)}{_first_reasons(failed)}",
        f"  fingerprint  {described['fingerprint'] or 'none (written by another tool, or damaged)'}",
        f"  plan         {described['plan'] or 'none'}",
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


@uml_command(
    "verify", example="uml cache verify ./feats\numl cache verify ./feats/shapes/image/hog-color.zarr"
)
@click.argument("path", type=_PLACE)
@click.option(
    "--quick",
    is_flag=True,
    help="Compare CRC-32C, as readers do: several times as fast, and as good against damage, not forgery.",
)
@click.pass_context
def _verify(context: click.Context, output: Output, path: str, quick: bool) -> None:
    """Recompute every checksum (sha256) of the store at PATH, or of all stores of the cache folder PATH.

    The exit code is 1 if a store is damaged or not finished.
    """
    from uml_cache.remote import as_path
    from uml_cache.store.finding import store_places
    from uml_cache.store.verification import is_journalled, verify

    place = as_path(path)
    stores = [] if is_journalled(place) or not place.is_dir() else store_places(place)
    with output.progress(None, "file", "verify") as bar:
        if not stores:
            report = verify(path, quick=quick, progress=bar.update)
            output.result(report.as_json(), "\n".join(_verified(path, report)))
            ok = report.ok
        else:
            lines: list[str] = []
            values: list[dict[str, Any]] = []
            for store in stores:
                name = str(store)
                try:
                    report = verify(store, quick=quick, progress=bar.update)
                except InputError as error:  # made by another tool: the others are looked at all the same
                    lines.append(f"cannot be verified: {error}")
                    values.append({"path": name, "ok": False, "reason": str(error)})
                else:
                    lines += _verified(name, report)
                    values.append({"path": name, **report.as_json()})
            sound = sum(value["ok"] is True for value in values)
            lines.append(f"{sound} of {len(stores)} stores are sound and finished")
            ok = sound == len(stores)
            output.result({"ok": ok, "stores": values}, "\n".join(lines))
    if not ok:
        context.exit(1)


def _verified(name: str, report: VerifyReport) -> list[str]:
    lines = [f"bad: {entry['array']} {entry['shard']}: {entry['reason']}" for entry in report.bad]
    if report.ok:
        return [*lines, f"{name} is sound: {report.checked} files checked"]
    if not report.bad:
        return [
            f"{name} is sound so far but not sealed: run the same `uml extract` command again to finish it"
        ]
    return [
        *lines,
        f"{name} is damaged: {len(report.bad)} of {report.checked} files are bad; run the same `uml "
        "extract` or `uml cache import` command again to rebuild them",
    ]


_IMPORT = """
uml cache import train=train.npz test=test.npz --dataset birds --modality image --encoder dinov2_vits14
uml cache import shot_16-seed_1.pth test.pth --dataset dtd --modality image --encoder clip_rn50
uml cache import ./clip-output --dataset laion --modality text --encoder clip_vitb32
"""


@uml_command("import", example=_IMPORT)
@click.argument("sources", nargs=-1, required=True, metavar="[SPLIT=]FILE|FOLDER...")
@click.option("--out", type=_PLACE, default="feats", show_default=True, help="Cache folder, or its URL.")
@click.option("--dataset", help="The data set's name.")
@click.option("--modality", help="What the features are of: image, text, audio or array.")
@click.option("--encoder", help="Name of the encoder that made the features.")
@click.option("--set", "set_name", help="Which sample set of the modality, such as vanilla or cupl texts.")
@click.option("--variant", help="What distinguishes these features from others of the encoder.")
@click.option("--split", help="Split of the rows that have none: train, val or test.")
@click.option("--classes", type=_PATH, help="File of class names, one a line, or a JSON list.")
@click.option("--features", help="What the features' array is called.")
@click.option(
    "--labels",
    "--label-column",
    "labels",
    help="What the labels' array is called, or a .npy or text file of them.",
)
@click.option(
    "--ids", "--id-column", "ids", help="What the ids' array is called, or a .npy or text file of them."
)
@click.option(
    "--splits",
    "--split-column",
    "splits",
    help="What the splits' array is called, or a .npy or text file of them.",
)
@click.option(
    "--groups",
    "--group-column",
    "groups",
    help="What the groups' array is called, or a .npy or text file of them.",
)
@click.option("--lengths", help="What the array of token counts is called.")
@click.option(
    "--dtype",
    help="How features are stored: float16 or float32. Default: float16 if the source is, else float32.",
)
@left_out_option
def _import(
    output: Output,
    sources: tuple[str, ...],
    out: str,
    dataset: str | None,
    modality: str | None,
    encoder: str | None,
    set_name: str | None,
    variant: str | None,
    split: str | None,
    classes: Path | None,
    dtype: str | None,
    left_out: str | None,
    **columns: str | None,
) -> None:
    """Make a store of features that other tools wrote.

    Takes .pth files (features, labels, paths; also train and val inside), .npz, .npy, .safetensors, HDF5,
    parquet, and folders of clip-retrieval. Pickles with anything but tensors in them are refused.
    """
    from uml_cache.exchange.importing import import_counted
    from uml_cache.exchange.table import Columns

    with output.progress(None, " rows", "import") as bar:
        done = import_counted(
            sources,
            out,
            dataset=dataset,
            modality=modality,
            encoder=encoder,
            set=set_name,
            variant=variant,
            split=split,
            classes=classes,
            columns=Columns(**columns),
            dtype=dtype,
            progress=bar.update,
        )
    store, rows = done.store, len(done.store.plan.ids)
    for remark in done.remarks:
        output.say(remark)
    if left_out is not None:
        done.account.write(left_out, str(store.path))
    value = {"store": str(store.path), "rows": rows, "fingerprint": store.fingerprint}
    value |= {**done.account.to_json(), "remarks": list(done.remarks)}
    output.result(value, f"{store.path}: {rows:,} rows, {len(store.plan.classes)} classes")
    if not output.json:
        output.say(done.account.text())


@uml_command("export", example="uml cache export ./feats/shapes/image/hog-color.zarr shapes.npz")
@click.argument("path", type=_PLACE)
@click.argument("target", type=_PATH)
def _export(output: Output, path: str, target: Path) -> None:
    """Write the store at PATH to the file TARGET: .h5, .npz, .safetensors or .parquet."""
    import numpy as np

    from uml_cache.exchange.exporting import export_features
    from uml_cache.tables.account import Account

    features = export_features(path, target)
    rows, size = len(features), target.stat().st_size
    unreadable = int((np.asarray(features.status) != 0).sum())
    account = Account(used=rows, lacking={"that could not be read (their features are 0)": unreadable})
    value = {"file": str(target), "rows": rows, "bytes": size, **account.to_json()}
    output.result(value, f"{target}: {rows:,} rows, {size / 1e6:.2f} MB")
    if not output.json:
        output.say(account.text())


@uml_command("rm", example="uml cache rm ./feats/shapes/image/hog-color.zarr")
@click.argument("path", type=_PLACE)
def _rm(output: Output, path: str) -> None:
    """Remove the store at PATH, for good. Refused while a command reads or writes it.

    A store that has grown goes with all its states; the PATH of a later state removes this one alone.
    """
    from uml_cache.remote import as_path
    from uml_cache.store.removal import remove_states, remove_store
    from uml_cache.store.states import state_of, states_there

    place = as_path(path)
    whole = state_of(place) == 1 and any(state > 1 for state in states_there(place))
    size = remove_states(place) if whole else remove_store(place)
    output.result({"removed": path, "bytes": size}, f"{path} is removed: {size / 1e6:.2f} MB")


@uml_command("gc", example="uml cache gc ./feats\numl cache gc ./feats --compact")
@click.argument("path", type=_PLACE, default="feats")
@click.option("--compact", is_flag=True, help="Leave out rows of samples that were replaced or removed.")
@click.option("--dry-run", is_flag=True, help="Say what would be removed.")
def _gc(output: Output, path: str, compact: bool, dry_run: bool) -> None:
    """Remove the old states of stores that have grown under PATH (default: ./feats), for good."""
    from uml_cache.growing.collecting import collect

    found = collect(path, compact=compact, dry=dry_run)
    lines = [line for store in found for line in store.text(dry_run)]
    output.result([store.to_json() for store in found], "\n".join(lines or ["there is nothing to remove"]))


@uml_command(
    "diff", example="uml cache diff ./feats/birds/image/hog-color.zarr ./newer/birds/image/hog-color.zarr"
)
@click.argument("old", type=_PLACE)
@click.argument("new", type=_PLACE)
@click.option("--step", is_flag=True, help="Count features that differ by one step of float16 as the same.")
def _diff(output: Output, old: str, new: str, step: bool) -> None:
    """Say which samples are new, changed or gone from the store OLD to the store NEW, by their ids."""
    from uml_cache.reading.compare import compare_stores

    found = compare_stores(old, new, step=step)
    output.result(found.to_json(), found.text())


for _command in (_ls, _info, _diff, _verify, _import, _export, push, pull, _rm, _gc):
    cache.add_command(_command)
