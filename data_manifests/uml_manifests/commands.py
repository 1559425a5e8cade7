"""`uml data`: known data sets, and the manifests, texts and few-shot draws made from them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from uml_cache import Output, column_options, left_out_option, take_choice, uml_command

if TYPE_CHECKING:
    from uml_manifests.manifest.manifest import Manifest

_MODALITY = click.option("--modality", help="Modality to take where there are several: image, audio or text.")


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
    from uml_manifests.describe import list_data

    rows, text = list_data()
    output.result(rows, text)


@uml_command("show", example="uml data show oxford_pets\numl data show ./data/shapes/image --json")
@click.argument("name")
def show(output: Output, name: str) -> None:
    """Show one data set, a known name or a manifest folder: where to get it, its licence, how its folder has
    to look, its sizes and options; and what is built of it."""
    from uml_manifests.describe import show_data

    value, text = show_data(name)
    output.result(value, text)


@uml_command(
    "build",
    example="uml data build oxford_pets --root ~/oxford_pets   # pictures and split_zhou_OxfordPets.json\n"
    "uml data build mosi --root ~/mosi_raw.pkl --option neutral=drop\n"
    "uml data build birds --root ~/birds               # one folder a class\n"
    "uml data build calls --root calls.csv             # columns id,path|text,label[,split][,group]",
)
@click.argument("name")
@click.option(
    "--root", required=True, type=click.Path(), help="The data set's folder, a CSV, pickle or .csd file."
)
@click.option("--out", type=click.Path(), help="Folder to write instead of ./data/NAME/<modality>.")
@click.option("--option", "options", multiple=True, metavar="NAME=VALUE",
              help="A choice that this data set has; `uml data show NAME` lists them.")  # fmt: skip
@click.option("--partial", is_flag=True,
              help="Take what there is of a known data set that differs from the published one.")  # fmt: skip
@_MODALITY
@column_options
@left_out_option
def build(
    output: Output,
    name: str,
    root: str,
    out: str | None,
    options: tuple[str, ...],
    partial: bool,
    modality: str | None,
    left_out: str | None,
    **columns: str | None,
) -> None:
    """Write the manifests of a known benchmark, of a folder of class folders, or of a CSV file.

    A known data set is checked against its published classes, sizes and lists of files. One that differs is
    refused with what is missing or different, unless --partial; then rows without files are left out, and
    the manifest records it.
    """
    from uml_manifests.workspace import build_data

    built = build_data(
        name,
        root,
        out=out,
        modality=modality,
        options=_options(options),
        partial=partial,
        choice=take_choice(columns),
    )
    for difference in built.differences:
        output.say(f"differs from the published data set: {difference}")
    for remark in built.remarks:
        output.say(remark)
    summaries = [_summary(manifest, folder) for manifest, folder in built.written]
    first = summaries[0] if len(summaries) == 1 else {"name": name, "manifests": summaries}
    value = {**first, "missing_files": built.missing_files, "differences": list(built.differences)}
    value |= {**built.account.to_json(), "remarks": list(built.remarks)}
    if left_out is not None:
        built.account.write(left_out, root)
    lines = [_line(manifest, folder) for manifest, folder in built.written]
    if built.written[0][0].modality == "array":
        lines.append(
            f"next: uml extract --encoder identity --tokens --data {built.written[0][1]}, and the others"
        )
    output.result(value, "\n".join(lines))
    if not output.json:
        output.say(built.account.text())


@uml_command(
    "text",
    example="uml data text oxford_pets --templates vanilla\n"
    "uml data text oxford_pets --descriptions descriptors_oxford_pets.json --set cupl\n"
    "uml data text oxford_pets --texts captions.jsonl --synonyms names.json",
)
@click.argument("name")
@click.option("--templates", help="Templates for the class names: vanilla, classname or handwritten.")
@click.option("--descriptions", type=click.Path(), help="JSON file {class name: [texts]}, such as CuPL's.")
@click.option("--style", type=click.Choice(["sentences", "features"]), default="sentences",
              show_default=True,
              help="Their kind. features: such as DCLIP's, read as `NAME, which has FEATURE`.")  # fmt: skip
@click.option("--texts", type=click.Path(),
              help="JSONL, CSV or .txt; texts without a label get the class they mention.")  # fmt: skip
@click.option("--synonyms", type=click.Path(), help="JSON {class name: [other names]} to look for, too.")
@click.option(
    "--set", "set_name", help="Name of the text set (default: the templates', descriptions, or loose)."
)
@click.option("--out", type=click.Path(), help="Folder to write instead of ./data/NAME/text.<set>.")
@_MODALITY
@column_options
@left_out_option
def text(
    output: Output,
    name: str,
    templates: str | None,
    descriptions: str | None,
    style: str,
    texts: str | None,
    synonyms: str | None,
    set_name: str | None,
    out: str | None,
    modality: str | None,
    left_out: str | None,
    **columns: str | None,
) -> None:
    """Write texts about the classes of a data set (built or a manifest folder), unpaired with its samples.

    Loose texts (--texts) without a label get the class that they mention: whole words, any case, a plural of
    the last word; the longest name counts. Texts that mention several classes or none are counted and left
    out.
    """
    from uml_manifests.describe import count_line, text_counts
    from uml_manifests.workspace import build_texts

    built = build_texts(
        name, templates, descriptions, texts=texts, synonyms=synonyms, style=style, set=set_name, out=out,
        modality=modality, choice=take_choice(columns),
    )  # fmt: skip
    for remark in built.remarks:
        output.say(remark)
    missing = list(built.manifest.missing_classes)
    if missing:
        output.say(f"{len(missing)} classes have no text: {', '.join(missing)}")
    if built.unused_keys:
        output.say(f"{len(built.unused_keys)} descriptions fit no class: {', '.join(built.unused_keys)}")
    counts = text_counts(built.manifest)
    assert counts is not None
    value = {**_summary(built.manifest, built.folder), "missing_classes": missing, "counts": counts}
    value["unused_descriptions"] = list(built.unused_keys)
    if found := built.mentions:
        output.say(
            f"of {found.texts} texts {found.labelled} had a class, {found.matched} mention one, "
            f"{found.ambiguous} several, {found.unmatched} none"
        )
        folder = built.folder
        if found.none or found.several:
            names = [
                n for n, texts in (("unmatched.csv", found.none), ("ambiguous.csv", found.several)) if texts
            ]
            output.say(f"they are listed in {' and '.join(str(folder / name) for name in names)}")
        for proposal in built.proposals:
            output.say(
                f"other names of the classes ({proposal.rule}) would label {proposal.adds} more: read "
                f"{folder / 'proposed_synonyms.json'}, then give it with --synonyms"
            )
        value["proposals"] = [
            {"rule": proposal.rule, "names": len(proposal.names), "adds": proposal.adds}
            for proposal in built.proposals
        ]
        if found.shared:
            output.say(f"{len(found.shared)} names belong to several classes: {', '.join(found.shared)}")
        value["mentions"] = {
            key: getattr(found, key) for key in ("texts", "labelled", "matched", "ambiguous", "unmatched")
        }
    value |= {**built.account.to_json(), "remarks": list(built.remarks)}
    if left_out is not None:
        built.account.write(left_out, str(texts or descriptions or name))
    output.result(value, f"{_line(built.manifest, built.folder)}\n{count_line(counts)}")
    if not output.json:
        output.say(built.account.text())


@uml_command("split", example="uml data split oxford_pets --shots 4 --seed 1")
@click.argument("name")
@click.option("--shots", type=int, required=True, help="Train samples per class; min(shots, 4) for val.")
@click.option("--seed", type=int, default=1, show_default=True, help="Fixes which samples are drawn.")
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


def _options(given: tuple[str, ...]) -> dict[str, str]:
    from uml_cache import InputError

    found: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"--option is {text!r}; give NAME=VALUE")
        if found.setdefault(name.strip(), value.strip()) != value.strip():
            raise InputError(f"--option {name.strip()} is given twice, with different values")
    return found


def _summary(manifest: Manifest, folder: Path) -> dict[str, Any]:
    return {
        "manifest": str(folder),
        "name": manifest.name,
        "modality": manifest.modality,
        "set": manifest.set,
        "classes": len(manifest.classes),
        "samples": len(manifest),
        "splits": manifest.split_counts,
        "options": list(manifest.options),
        "digest": manifest.digest,
    }


def _line(manifest: Manifest, folder: Path) -> str:
    splits = ", ".join(f"{count} {name}" for name, count in manifest.split_counts.items() if name != "none")
    detail = f" ({splits})" if splits else ""
    return f"{len(manifest)} samples of {len(manifest.classes)} classes{detail} → {folder}"
