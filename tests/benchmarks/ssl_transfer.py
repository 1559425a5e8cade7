"""What loose sequences of another modality do for a transformer that learns without labels: linear probes.

    python tests/benchmarks/ssl_transfer.py --out DIR --trial NAME [--data DATA] [--dry-run]

Trials: `shapes-image` (picture patches with words beside them), `shapes-image-ids` (the words as ids, by
cross-entropy), `shapes-audio` (sound frames with words),
`cifar-image` (photographs' patches with sentences about the classes), `digits-audio` (spoken digits' frames
with photographs' patches: unrelated, so that no knowledge is expected to come over). The latter two need DATA
with the folders `cifar10/CLASS/*.jpg` and `spoken_digits/DIGIT_SPEAKER_NUMBER.wav`.

Three seeds, `unimodal`, `uml` and `uml` with noise in place of the data (`--control random`); the probe is a
logistic regression on the mean of the network's outputs. Every command is printed before it runs; given
again, everything goes on where it was.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
from pathlib import Path

GRID = """\
steps = 300
width = [64]
layers = 2
heads = 4
feedforward = 256
positions = "learned"
"""

SENTENCES = {
    "airplane": (
        "an airplane crosses a bright empty sky",
        "the jet has two long grey wings and a tail fin",
        "white clouds below the wing of a passenger plane",
        "a small propeller plane waits on the runway",
        "silver metal body with round windows flying high above the ground",
        "blue everywhere around a plane that has just taken off",
    ),
    "automobile": (
        "a red car is parked at the side of the street",
        "four wheels, doors, a windscreen and shiny paint",
        "an old sedan stands in front of a garage",
        "the headlights of a sports car on grey asphalt",
        "a blue family car seen from the front",
        "chrome bumper and black tyres of an automobile",
    ),
    "bird": (
        "a small brown bird sits on a thin branch",
        "feathers, a pointed beak and two thin legs",
        "an ostrich runs across dry yellow grass",
        "a bird with spread wings in front of green leaves",
        "a sparrow looks for seeds on the ground",
        "its colourful plumage shines between the trees",
    ),
    "cat": (
        "a cat with pointed ears sleeps on the sofa",
        "grey fur, whiskers and green eyes",
        "a kitten plays indoors on a carpet",
        "the striped cat stares straight at the camera",
        "a black cat lies curled up on a blanket",
        "soft paws and a long tail in a warm room",
    ),
    "deer": (
        "a deer with antlers stands in the forest",
        "brown coat and slender legs in tall grass",
        "a fawn hides between green bushes",
        "a stag at the edge of a meadow in the morning",
        "the herd grazes under dark trees",
        "large ears and a short tail of a doe among ferns",
    ),
    "dog": (
        "a dog with a wet nose wants to play",
        "brown and white fur, floppy ears and an open mouth",
        "a puppy sits on the lawn beside its owner",
        "the terrier wears a red collar",
        "a large dog lies in front of the door",
        "its tongue hangs out after running in the garden",
    ),
    "frog": (
        "a green frog sits on wet leaves",
        "smooth skin with dark spots and bulging eyes",
        "a toad on brown mud at the edge of a pond",
        "its long folded legs are ready to jump",
        "a tiny tree frog clings to a stem",
        "a frog held in a hand, seen from above",
    ),
    "horse": (
        "a brown horse gallops across a field",
        "mane, hooves and a long tail on green pasture",
        "a rider sits in the saddle of a white horse",
        "two horses stand behind a wooden fence",
        "a foal beside its mother in the paddock",
        "the stallion lifts its head in front of a stable",
    ),
    "ship": (
        "a ship sails on the open blue sea",
        "white hull, masts and a flag above the water",
        "a cargo vessel loaded with containers enters the harbour",
        "waves break at the bow of a boat",
        "a cruise ship at the pier under a clear sky",
        "a sailing boat on the horizon of the ocean",
    ),
    "truck": (
        "a heavy truck drives along the motorway",
        "six wheels, a tall cab and a long trailer",
        "a red fire engine stands in the street",
        "the lorry is loaded with gravel",
        "a yellow dump truck on a building site",
        "a white delivery truck is parked at a warehouse",
    ),
}

TRIALS = {
    "shapes-image": ("shapes", "image", "text"),
    "shapes-image-ids": ("shapes", "image", "text"),
    "shapes-audio": ("shapes", "audio", "text"),
    "cifar-image": ("cifar", "image", "text"),
    "digits-audio": ("digits", "audio", "cifar/image"),
}


def uml(*words: object) -> None:
    """Run one `uml` command and stop where it fails."""
    print("$ uml " + " ".join(str(word) for word in words), flush=True)
    subprocess.run([sys.executable, "-m", "uml_cache", *map(str, words)], check=True)


def write_csv(path: Path, columns: str, rows: list[tuple[object, ...]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns.split(","), *rows])
    return path


def extract(trial: str, out: Path, data: Path | None, feats: Path) -> None:
    """The stores of a trial, with tokens."""
    words = "word-ids" if trial.endswith("-ids") else "hashed-ngrams"
    if trial.startswith("shapes"):
        from uml_manifests import shapes_data

        shapes_data(out / "shapes")
        for encoder, modality in (("pixels", "image"), (words, "text"), ("log-mel", "audio")):
            uml(
                "extract",
                "--encoder",
                encoder,
                "--data",
                out / "shapes" / modality,
                "--tokens",
                "--out",
                feats,
            )
        return
    assert data is not None
    pictures = sorted((data / "cifar10").glob("*/*.jpg"))
    rows = [(f"{p.parent.name}/{p.name}", p.absolute(), p.parent.name) for p in pictures]
    sources = {"cifar.image": ("pixels", write_csv(out / "pictures.csv", "id,path,label", rows))}
    if trial == "cifar-image":
        texts = [(f"{c}-{i}", text, c) for c, found in SENTENCES.items() for i, text in enumerate(found)]
        sources["cifar.text"] = ("hashed-ngrams", write_csv(out / "texts.csv", "id,text,label", texts))
    else:
        sounds = sorted((data / "spoken_digits").glob("*.wav"))
        rows = [(p.name, p.absolute(), p.name[0]) for p in sounds]
        sources["digits.audio"] = ("log-mel", write_csv(out / "sounds.csv", "id,path,label", rows))
    for name, (encoder, file) in sources.items():
        dataset = name.partition(".")[0]
        uml("extract", "--encoder", encoder, "--data", file, "--name", dataset, "--tokens", "--out", feats)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trial", choices=sorted(TRIALS), required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--dry-run", action="store_true", help="estimate the training, and stop")
    arguments = parser.parse_args()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    dataset, target, auxiliary = TRIALS[arguments.trial]
    if not dataset.startswith("shapes") and arguments.data is None:
        parser.error(f"the trial {arguments.trial} needs --data")
    feats = out / ("feats-ids" if arguments.trial.endswith("-ids") else "feats")
    extract(arguments.trial, out, arguments.data, feats)
    grid = out / "transfer.toml"
    grid.write_text(GRID)
    words = ["train", "--cache", feats, "--dataset", dataset, "--target", target, "--aux", auxiliary]
    words += ["--objective", "ssl", "--normalize", "standard", "--control", "random", "--seeds", "1-3"]
    words += ["--shots", "4,all", "--grid", grid, "--out", out / "runs" / arguments.trial]
    uml(*words, "--dry-run")
    if arguments.dry_run:
        return
    uml(*words)
    uml("eval", "--probe", "linear", "--runs", out / "runs" / arguments.trial)
    uml("eval", "--probe", "fewshot", "--k", 4, "--runs", out / "runs" / arguments.trial)


if __name__ == "__main__":
    main()
