"""`uml data`: known data sets, and the manifests, texts and few-shot draws made from them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from uml_cache.command import Output, uml_command

if TYPE_CHECKING:
    from uml_manifests.manifest import Manifest

_MODALITY = click.option("--modality", help="image, audio or text, where there are several.")


@click.group(
    "data",
    epilog="\b\nExample:\n  uml data list\n  uml data build oxford_pets --root ~/oxford_pets\n"
    "  uml data text oxford_pets --templates vanilla\n  uml data split oxford_pets --shots 4 --seed 1",
)
def data() -> None:
    """Say what the data is: samples, labels, splits, texts about classes, few-shot draws."""


@uml_command("list", example="uml data list\numl data list --json")
def list_(output: Output) -> None:
    """List the data sets that uml knows, and those built under ./data."""
    from uml_manifests.workspace import list_data

    rows, text = list_data()
    output.result(rows, text)


@uml_command("show", example="uml data show oxford_pets\numl data show ./data/shapes/image --json")
@click.argument("name")
def show(output: Output, name: str) -> None:
    """Show one data set: a known name, or a manifest folder."""
    from uml_manifests.workspace import show_data

    value, text = show_data(name)
    output.result(value, text)


@uml_command(
    "build",
    example="uml data build oxford_pets --root ~/oxford_pets   # pictures and split_zhou_OxfordPets.json\n"
    "uml data build birds --root ~/birds               # one folder a class\n"
    "uml data build calls --root calls.csv             # columns id,path|text,label[,split][,group]",
)
@click.argument("name")
@click.option("--root", required=True, type=click.Path(), help="The data set's folder, or a CSV file.")
@click.option("--out", type=click.Path(), help="Folder to write instead of ./data/NAME/<modality>.")
@_MODALITY
def build(output: Output, name: str, root: str, out: str | None, modality: str | None) -> None:
    """Write the manifest of a known benchmark, of a folder of class folders, or of a CSV file."""
    from uml_manifests.workspace import build_data

    built = build_data(name, root, out=out, modality=modality)
    for difference in built.differences:
        output.say(f"differs from the published data set: {difference}")
    value = {**_summary(built.manifest, built.folder), "missing_files": built.missing_files}
    value["differences"] = list(built.differences)
    output.result(value, _line(built.manifest, built.folder))


@uml_command(
    "text",
    example="uml data text oxford_pets --templates vanilla\n"
    "uml data text oxford_pets --descriptions descriptors_oxford_pets.json --set cupl",
)
@click.argument("name")
@click.option("--templates", help="vanilla, classname or handwritten.")
@click.option("--descriptions", type=click.Path(), help="JSON file {class name: [texts]}, such as CuPL's.")
@click.option("--set", "set_name", help="Name of the text set (default: the templates', or descriptions).")
@click.option("--out", type=click.Path(), help="Folder to write instead of ./data/NAME/text.<set>.")
@_MODALITY
def text(
    output: Output,
    name: str,
    templates: str | None,
    descriptions: str | None,
    set_name: str | None,
    out: str | None,
    modality: str | None,
) -> None:
    """Write texts about the classes of a data set (built or a manifest folder), unpaired with its samples."""
    from uml_manifests.workspace import build_texts

    built = build_texts(name, templates, descriptions, set=set_name, out=out, modality=modality)
    missing = list(built.manifest.missing_classes)
    if missing:
        output.say(f"{len(missing)} classes have no text: {', '.join(missing)}")
    if built.unused_keys:
        output.say(f"{len(built.unused_keys)} descriptions fit no class: {', '.join(built.unused_keys)}")
    value = {**_summary(built.manifest, built.folder), "missing_classes": missing}
    value["unused_descriptions"] = list(built.unused_keys)
    output.result(value, _line(built.manifest, built.folder))


@uml_command("split", example="uml data split oxford_pets --shots 4 --seed 1")
@click.argument("name")
@click.option("--shots", type=int, required=True, help="Train samples per class; min(shots, 4) for val.")
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--out", type=click.Path(), help="File to write instead of MANIFEST/draws/shot_K-seed_S.json.")
@_MODALITY
def split(output: Output, name: str, shots: int, seed: int, out: str | None, modality: str | None) -> None:
    """Write one few-shot draw, in the benchmarks' index-file format."""
    from uml_manifests.workspace import build_draw

    built = build_draw(name, shots, seed, out=out, modality=modality)
    if built.made_splits:
        output.say(f"{built.manifest.name} has no splits: drawn from a stratified 60/20/20 with seed {seed}")
    train, val = len(built.draw.train_rows), len(built.draw.val_rows)
    value: dict[str, Any] = {
        "index": str(built.path),
        "shots": shots,
        "seed": seed,
        "train": train,
        "val": val,
    }
    output.result(value, f"{train} train and {val} val samples → {built.path}")


for _command in (list_, show, build, text, split):
    data.add_command(_command)


def _summary(manifest: Manifest, folder: Path) -> dict[str, Any]:
    return {
        "manifest": str(folder),
        "name": manifest.name,
        "modality": manifest.modality,
        "set": manifest.set,
        "classes": len(manifest.classes),
        "samples": len(manifest),
        "splits": manifest.split_counts,
        "digest": manifest.digest,
    }


def _line(manifest: Manifest, folder: Path) -> str:
    splits = ", ".join(f"{count} {name}" for name, count in manifest.split_counts.items() if name != "none")
    detail = f" ({splits})" if splits else ""
    return f"{len(manifest)} samples of {len(manifest.classes)} classes{detail} → {folder}"
