"""The features of `uml reproduce study-targets`: spoken digits, handwritten digits, photographs, sentences.

    python tests/benchmarks/target_features.py --data ../shared/data --real ../shared/real --out targets

DATA has `spoken_digits/DIGIT_SPEAKER_INDEX.wav` (Free Spoken Digit Dataset) and `cifar10/CLASS/*.jpg`.
REAL has the feature files of the other study recipes and `weights/tf_efficientnet_lite0.safetensors`.
MiniLM comes from its package. OUT/features holds one npz for each store: `features` (N, D) float32, `labels`,
`ids`, and `splits`.

Recordings 0 to 9 of a speaker and digit are test, 10 to 14 validation, the rest training; of 120 photographs
a class, in the order of their names, 40 are test, 20 validation and 60 training.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from uml_extract import Encoder, load_encoder, read_audio, read_image

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SPOKEN = (
    "{}", "the number {}", "the digit {}", "somebody says {}", "a voice that says the number {}",
    "{} is a whole number", "I counted to {}", "there were {} of them",
)  # fmt: skip
SEEN = (
    "{}", "a photo of a {}", "a blurry photo of a {}", "a small picture of a {}", "there is a {} in it",
    "a {} seen from the side", "this is a {}", "a close photo of a {}",
)  # fmt: skip
SHARED = ("dtd10_lite2", "dtd10_text_minilm", "food10_lite2", "food10_text_minilm")


def encoded(encoder: Encoder, samples: Sequence[object], batch: int = 32) -> np.ndarray:
    """(N, D) float32: features of samples, in order."""
    rows = []
    for at in range(0, len(samples), batch):
        prepared = [encoder.prepare(one) for one in samples[at : at + batch]]
        rows.append(encoder.encode(prepared).pooled)
    return np.concatenate(rows).astype(np.float32)


def sounds(folder: Path, out: Path) -> None:
    """Log-mel energies of every recording."""
    files = sorted(folder.glob("*.wav"))
    parts = [file.stem.split("_") for file in files]
    encoder = load_encoder("log-mel", device="cpu")
    wanted = encoder.input_rate, encoder.input_seconds
    features = encoded(encoder, [read_audio(file, *wanted) for file in files])
    splits = ["test" if int(p[2]) < 10 else "val" if int(p[2]) < 15 else "train" for p in parts]
    labels = np.array([DIGITS[int(p[0])] for p in parts])
    np.savez(out, features=features, labels=labels, splits=np.array(splits), ids=[f.stem for f in files])


def photographs(folder: Path, weights: Path, out: Path) -> None:
    """EfficientNet-Lite0's features of every photograph."""
    encoder = load_encoder("efficientnet_lite0", weights=weights, device="cpu")
    features, labels, splits, ids = [], [], [], []
    for part in sorted(path for path in folder.iterdir() if path.is_dir()):
        files = sorted(part.glob("*.jpg"))
        features.append(encoded(encoder, [read_image(file) for file in files]))
        labels += [part.name] * len(files)
        splits += ["test" if i < 40 else "val" if i < 60 else "train" for i in range(len(files))]
        ids += [f"{part.name}/{file.stem}" for file in files]
    np.savez(out, features=np.concatenate(features), labels=labels, splits=splits, ids=ids)


def sentences(classes: Sequence[str], templates: Sequence[str], out: Path) -> None:
    """MiniLM's features of every template with every class's name."""
    encoder = load_encoder("minilm_l6", device="cpu")
    texts = [template.format(name) for name in classes for template in templates]
    labels = [name for name in classes for _ in templates]
    ids = [f"{name}-{i}" for name in classes for i in range(len(templates))]
    np.savez(out, features=encoded(encoder, texts), labels=labels, ids=ids)


def handwriting(out: Path) -> None:
    """scikit-learn's 1,797 handwritten digits, 64 grey values each."""
    found = load_digits()
    ids = [f"digit-{i}" for i in range(len(found.target))]
    labels = [DIGITS[i] for i in found.target]
    np.savez(out, features=found.data.astype(np.float32), labels=labels, ids=ids)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--real", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    out = given.out / "features"
    out.mkdir(parents=True, exist_ok=True)
    sounds(given.data / "spoken_digits", out / "spoken_digits_logmel.npz")
    handwriting(out / "spoken_digits_handwriting.npz")
    sentences(DIGITS, SPOKEN, out / "spoken_digits_text_minilm.npz")
    classes = sorted(path.name for path in (given.data / "cifar10").iterdir() if path.is_dir())
    sentences(classes, SEEN, out / "cifar10_text_minilm.npz")
    weights = given.real / "weights" / "tf_efficientnet_lite0.safetensors"
    photographs(given.data / "cifar10", weights, out / "cifar10_lite0.npz")
    for name in SHARED:
        shutil.copy(given.real / "features" / f"{name}.npz", out)


if __name__ == "__main__":
    main()
