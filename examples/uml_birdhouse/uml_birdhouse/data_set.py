"""The command `uml nest`: manifests of a data set that uml does not know.

The data set is a folder of pictures named `CLASS_NUMBER.png`, and a file `notes.txt` with lines
`CLASS: sentence`.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from uml_cache import InputError, Output, uml_command


@uml_command(
    "nest", example="uml nest ./garden --out ./data/nest", short_help="Write manifests of a nest folder."
)
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), default=Path("data/nest"), help="Folder to write to.")
def nest(output: Output, folder: Path, out: Path) -> None:
    """Write manifests of the pictures and the notes in FOLDER."""
    pictures, notes = build(folder, out)
    output.result({"pictures": pictures, "notes": notes}, f"{out}: {pictures} pictures, {notes} notes")


def build(folder: Path, out: Path) -> tuple[int, int]:
    """Write `out`/image and `out`/text; the numbers of pictures and notes are returned.

    Raises:
        InputError: there is no picture, or a line of the notes is not `CLASS: sentence`.
    """
    from uml_manifests import NO_SPLIT, Manifest, write_manifest

    files = sorted(path.name for path in folder.glob("*_*.png"))
    if not files:
        raise InputError(f"{folder} has no pictures named CLASS_NUMBER.png")
    lines = (folder / "notes.txt").read_text(encoding="utf-8").splitlines()
    notes = [line.partition(": ") for line in lines if line.strip()]
    for name, colon, _ in notes:
        if not colon:
            raise InputError(f"{folder / 'notes.txt'}: {name!r} is not `CLASS: sentence`")
    names = [file.rpartition("_")[0] for file in files]
    classes = tuple(sorted({*names, *(name for name, _, _ in notes)}))

    def write(modality: str, ids: list[str], sources: list[str], labels: list[str]) -> None:
        manifest = Manifest(
            name="nest",
            modality=modality,
            classes=classes,
            root=folder.resolve(),
            ids=ids,
            sources=sources,
            labels=np.array([classes.index(label) for label in labels], dtype=np.int32),
            splits=np.full(len(ids), NO_SPLIT, dtype=np.uint8),
        )
        write_manifest(manifest, out / modality)

    write("image", files, files, names)
    write("text", [f"note-{i}" for i in range(len(notes))], [n[2] for n in notes], [n[0] for n in notes])
    return len(files), len(notes)
